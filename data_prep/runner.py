"""Runs the shards of a job on the cores of this machine."""

import concurrent.futures
import concurrent.futures.process
import importlib
import multiprocessing
import multiprocessing.connection
import multiprocessing.forkserver
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # at run time `warm_up` has to come before TensorFlow is imported
    from data_prep import plan, writer

_job: Any = None  # in a worker: the job, and how it reports progress
_counter: Any = None


def warm_up() -> None:
    """Starts the fork server, so that it imports while this process does.

    Workers are forked from a process without threads that has imported everything: forking this
    one, where TensorFlow may be running, could deadlock.
    """
    worker_context()
    multiprocessing.forkserver.ensure_running()


def import_tensorflow() -> None:
    """Imports TensorFlow without Keras, in a third of the time; Keras can be imported later.

    TensorFlow imports Keras' optimizers for SavedModels, and tolerates that they are missing.
    """
    if "tensorflow" not in sys.modules and "keras" not in sys.modules:
        sys.modules["keras"] = None  # type: ignore[assignment]  # its import raises ImportError
        try:
            importlib.import_module("tensorflow")
        finally:
            del sys.modules["keras"]


def worker_context():
    """How worker processes are started: see `warm_up`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["data_prep.forkserver_imports"])
    return context


def run_local(
    job: "writer.Job",
    shards: Sequence["plan.Shard"],
    workers: int,
    progress: Callable[[int], None],
) -> Iterator["writer.Receipt"]:
    """Converts `shards` in `workers` processes; yields receipts as shards are finished.

    With one worker no process is started. When a worker fails or the iterator is closed, the shards
    in work are finished first.

    Args:
      progress: called with the number of images converted since the last call.

    Raises:
      ValueError, OSError: what `writer.write_shard` raises.
      ChildProcessError: a worker was killed, as by the out-of-memory killer, or could not start
        because the calling script does its work on import.
    """
    from data_prep import writer

    if workers == 1 or len(shards) <= 1:
        for shard in shards:
            yield writer.write_shard(job, shard, progress)
        return
    warm_up()
    context = worker_context()
    counter = context.Value("q", 0)
    pool = concurrent.futures.ProcessPoolExecutor(
        min(workers, len(shards)), context, _start_worker, (job, counter)
    )
    seen = 0
    try:
        waiting = {pool.submit(_work, shard) for shard in shards}
        while waiting:
            done, waiting = concurrent.futures.wait(
                waiting, timeout=0.2, return_when=concurrent.futures.FIRST_COMPLETED
            )
            progress(counter.value - seen)
            seen = counter.value
            for future in done:
                yield future.result()
    except concurrent.futures.process.BrokenProcessPool:
        raise ChildProcessError(
            "A worker process ended before its work was done, as happens when memory runs out, or "
            'when a script starts a conversion outside `if __name__ == "__main__":`. Start the '
            "same command again, perhaps with fewer --workers; finished shards are kept."
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(job, counter):
    global _job, _counter
    import cv2

    cv2.setNumThreads(1)  # one process per core already
    _job, _counter = job, counter
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """Ends this worker when the converter is killed, so that no orphan keeps writing."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in workers only
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _work(shard):
    from data_prep import writer

    return writer.write_shard(_job, shard, _report)


def _report(done):
    with _counter.get_lock():
        _counter.value += done
