"""Killed with SIGKILL at random moments and started again: the same bytes, and no orphan."""

import hashlib
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from data_prep import images, preparation, writer


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(pathlib.Path(folder).iterdir())
    }


def start(source, output, workers):
    root = pathlib.Path(__file__).parents[2]
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "data_prep.convert", f"--source={source}"),
            *(f"--output={output}", "--shards=40", f"--workers={workers}"),
        ],
        cwd=root,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def converting(folder):
    """Processes that have a file of `folder` open, by their ids."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:
            continue
        if any(link.startswith(str(folder)) for link in links):
            found.add(int(pid))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_sigkill_at_random_moments(tmp_path, workers):
    from data_prep import photos

    source = photos.write_photos(str(tmp_path / "photos"), 1500, 300)
    preparation.prepare(source, str(tmp_path / "whole"), preparation.Settings(shards=40), 1)
    output, partial = tmp_path / "killed", tmp_path / "killed.partial"
    generator, kills, kept = random.Random(workers), 0, {}
    while not output.exists():
        process = start(source, output, workers)
        # Wait until images are being converted, then strike at a random moment.
        receipts = len(list(partial.glob("*.receipt.json"))) if partial.exists() else 0
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if len(list(partial.glob("*.receipt.json"))) > receipts:
                break
            time.sleep(0.01)
        if kills < 5 and process.poll() is None:
            time.sleep(generator.uniform(0, 0.5))
            process.kill()
            process.wait()
            kills += 1
            time.sleep(0.5)
            assert not converting(partial), "an orphan writes on"
            assert not output.exists() or kills == 5
        else:
            _, errors = process.communicate(timeout=300)
            assert process.returncode == 0, errors
        # What was finished before is neither lost nor made again.
        for name, stamp in kept.items():
            path = (output if output.exists() else partial) / name
            assert path.stat().st_mtime_ns == stamp, f"{name} was made again"
        if partial.exists():
            kept = {
                path.name.removesuffix(".receipt.json"): (
                    partial / path.name.removesuffix(".receipt.json")
                )
                .stat()
                .st_mtime_ns
                for path in partial.glob("*.receipt.json")
            }
    assert kills >= 2
    expected, found = digests(tmp_path / "whole"), digests(output)
    # The two runs were given the same source and settings, so even the manifest is equal.
    assert found == expected


def test_workers_end_with_their_parent(tmp_path):
    """A worker of a killed converter is gone at once, before it can write anything more."""
    ready = tmp_path / "ready"
    script = tmp_path / "parent.py"
    script.write_text(
        "import multiprocessing, os, sys, time\n"
        "from data_prep import runner\n"
        "def stay(path):\n"
        "    open(path, 'w').write(str(os.getpid()))\n"
        "    time.sleep(600)\n"
        "if __name__ == '__main__':\n"
        "    import concurrent.futures\n"
        "    context = multiprocessing.get_context('forkserver')\n"
        "    counter = context.Value('q', 0)\n"
        "    pool = concurrent.futures.ProcessPoolExecutor(\n"
        "        1, context, runner._start_worker, (None, counter))\n"
        f"    pool.submit(stay, {str(ready)!r}).result()\n"
    )
    root = pathlib.Path(__file__).parents[2]
    parent = subprocess.Popen(
        [sys.executable, str(script)], cwd=root, env={**os.environ, "PYTHONPATH": str(root)}
    )
    deadline = time.monotonic() + 60
    while not (ready.exists() and ready.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    worker = int(ready.read_text())
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while os.path.exists(f"/proc/{worker}") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{worker}")


def test_shards_of_an_older_arithmetic_are_made_again(photo_folders, tmp_path, monkeypatch):
    """Images of two versions must not be in one data set."""
    output, left = str(tmp_path / "data"), []
    settings = preparation.Settings(image_size=32, shards=3)

    def killed(job, shards, progress):
        left.append(len(shards))
        yield writer.write_shard(job, shards[0])
        raise KeyboardInterrupt

    for revision in (images.REVISION, images.REVISION, images.REVISION + 1):
        monkeypatch.setattr(images, "REVISION", revision)
        with pytest.raises(KeyboardInterrupt):
            preparation.prepare(photo_folders, output, settings, run=killed)
    assert left[1] == left[0] - 1  # carried on with
    assert left[2] == left[0]
