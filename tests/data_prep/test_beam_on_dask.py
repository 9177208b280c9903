"""Three worker processes of a Dask cluster give what the local run gives, also when one is killed.

Needs apache-beam[dask], which has an environment of its own: `make test-beam`.
"""

import collections
import hashlib
import os
import pathlib
import signal
import threading
import time

import pytest

from data_prep import convert, preparation

pytest.importorskip("apache_beam")
distributed = pytest.importorskip("dask.distributed")
pytestmark = pytest.mark.slow

WORKERS = 3
SHARDS = 60  # and as many again of validation images


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    from data_prep import photos

    return photos.write_photos(str(tmp_path_factory.mktemp("photos") / "folders"), 600, 600)


@pytest.fixture(scope="module")
def local(source, tmp_path_factory):
    output = tmp_path_factory.mktemp("local") / "data"
    settings = preparation.Settings(shards=SHARDS, source_name=source)
    preparation.prepare(source, str(output), settings, workers=1)
    return digests(output)


@pytest.fixture(scope="module")
def cluster():
    with (
        distributed.LocalCluster(
            n_workers=WORKERS, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(pathlib.Path(folder).iterdir())
    }


def convert_on(client, source, output, *flags):
    return convert.main(
        [
            *(f"--source={source}", f"--output={output}", f"--shards={SHARDS}", "--runner=beam"),
            *(*flags, "--", "--runner=DaskRunner"),
            f"--dask_client_address={client.scheduler.address}",
        ]
    )


def test_all_workers_take_part_and_the_bytes_are_the_same(cluster, source, local, tmp_path):
    with distributed.get_task_stream(client=cluster) as tasks:
        assert convert_on(cluster, source, tmp_path / "out") == 0
    assert digests(tmp_path / "out") == local
    by_worker = collections.Counter(
        task["worker"] for task in tasks.data if "('apply_dofn_to_bundle" in str(task["key"])
    )
    print(sorted(by_worker.values()))
    assert len(by_worker) == WORKERS and min(by_worker.values()) > 1


def test_a_worker_that_is_killed_changes_nothing(cluster, source, local, tmp_path):
    output, partial = tmp_path / "out", tmp_path / "out.partial"
    killed = []

    def strike():
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not killed:
            busy = [worker for worker, tasks in cluster.processing().items() if tasks]
            written = len(list(partial.glob("*.receipt.json")))
            if written >= 10 and busy:
                pid = cluster.run(os.getpid, workers=busy[:1])[busy[0]]
                os.kill(pid, signal.SIGKILL)
                killed.append((pid, len(list(partial.glob("*.receipt.json")))))
            time.sleep(0.01)

    striking = threading.Thread(target=strike)
    striking.start()
    assert convert_on(cluster, source, output) == 0
    striking.join()
    [(pid, written)] = killed
    print(f"killed when {written} of {2 * SHARDS} shards were written")
    assert 10 <= written < 2 * SHARDS
    cluster.wait_for_workers(WORKERS, timeout=60)
    assert pid not in cluster.run(os.getpid).values()
    assert digests(output) == local


def test_a_bad_image_ends_with_one_sentence(cluster, tmp_path, capsys, real):
    real.write(tmp_path / "source" / "train" / "cat" / "cut.jpg", b"\xff\xd8\xff\xe0 cut off")
    code = convert.main(
        [
            *(f"--source={tmp_path}/source", f"--output={tmp_path}/out", "--runner=beam", "--"),
            *("--runner=DaskRunner", f"--dask_client_address={cluster.scheduler.address}"),
        ]
    )
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 1 and not (tmp_path / "out").exists()
    assert "train/cat/cut.jpg cannot be used" in error
