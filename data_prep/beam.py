"""Runs the shards of a job on Apache Beam, with the same function as on one machine.

Each element of the pipeline is one shard: a worker reads its lines of the plan, converts the images
and writes the shard and its receipt to the work directory. So all workers must reach source and
output (gs://, s3://, or a shared file system). The output is byte for byte `runner.run_local`'s.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from data_prep import plan, writer

# Beam knows this runner by its full name only, and by default deals out 128 elements at a time.
_DASK = "apache_beam.runners.dask.dask_runner.DaskRunner"
_DASK_PARTITIONS = ("--dask_partition_size", "--dask_npartitions")


def runner(arguments: Sequence[str]) -> Callable:
    """A `run` function for `preparation.prepare` that converts shards on Beam.

    Args:
      arguments: Beam's own pipeline options, as ["--runner=FlinkRunner", "--flink_master=..."].

    Raises:
      ValueError: apache-beam is not installed.
    """
    try:
        import apache_beam  # noqa: F401
    except ImportError:
        raise ValueError(
            "--runner=beam needs apache-beam, which is not installed: "
            "`pip install 'alexnet-tf[beam]'`."
        ) from None

    def run(
        job: writer.Job, shards: Sequence[plan.Shard], progress: Callable[[int], None]
    ) -> Iterator[writer.Receipt]:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions

        # The main module is a command that workers do not need to restore.
        options = PipelineOptions(_for_dask(arguments), save_main_session=False)
        pipeline = beam.Pipeline(options=options)
        _ = (
            pipeline
            | "shards" >> beam.Create(list(shards))
            | "spread" >> beam.Reshuffle()
            | "convert" >> beam.Map(_convert, job)
        )
        result: Any = None
        try:
            result = pipeline.run()
            result.wait_until_finish()
        except Exception as error:  # each runner wraps a worker's error in its own class
            raise ValueError(f"The Beam pipeline failed: {_reason(error)}") from None
        finally:
            if hasattr(result, "client"):  # Dask's would repeat what a lost worker had done
                result.client.close()
        for shard in shards:
            receipt = writer.finished(job, shard)
            if receipt is None:
                raise ValueError(
                    f"Beam's workers wrote {shard.file_name} somewhere else than {job.folder}: "
                    "name an --output that all workers share."
                )
            progress(shard.images)
            yield receipt

    return run


def _for_dask(arguments):
    """The options, with what Dask needs so that each worker gets shards, one at a time."""
    chosen = [
        f"--runner={_DASK}" if argument == "--runner=DaskRunner" else argument
        for argument in arguments
    ]
    dealt = any(argument.startswith(_DASK_PARTITIONS) for argument in chosen)
    if f"--runner={_DASK}" in chosen and not dealt:
        chosen.append("--dask_partition_size=1")
    return chosen


def _convert(shard: plan.Shard, job: writer.Job) -> str:
    # Runners repeat the work of lost workers.
    receipt = writer.finished(job, shard) or writer.write_shard(job, shard)
    return receipt.shard


def _reason(error):
    """The message of a worker's error, from the runner's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    for line in reversed(lines):
        head, _, text = line.partition(": ")
        if text and head.endswith("Error"):
            return text.partition(" [while running")[0]
    return lines[0] if lines else type(error).__name__
