"""Is a prepared data set whole and right?

    python -m data_prep.verify --data_dir=DIR [--source=DIR]

Reads every shard: sha256, number of records, labels, and whether each image can be decoded; looks
for images that are in two splits; compares ImageNet's counts with the published ones and the
manifest's account of the source with what is stored. With --source, it counts again what the data
set was made from and looks for every image of it. Ends with 0 if all is well and with 1 and a line
per problem if not.
"""

import json
import sys

from alexnet_tf import cli


def _define(flags):
    from absl import flags as absl_flags

    absl_flags.DEFINE_string("data_dir", None, "The prepared data set.", flag_values=flags)
    absl_flags.DEFINE_string(
        "source", None, "What it was made from, to be counted again.", flag_values=flags
    )
    absl_flags.DEFINE_integer(
        "workers", None, "Processes; one per core if not given.", 1, flag_values=flags
    )
    absl_flags.DEFINE_string("report", None, "Write the result here as JSON.", flag_values=flags)


def _main(flags, args):
    if args or not flags.data_dir:
        raise cli.UsageError(
            f"Name the prepared data set with --data_dir=DIR; found {args or 'none'}."
        )
    from alexnet_tf.progress import tqdm
    from data_prep import runner

    runner.import_tensorflow()
    from data_prep import checks, writer

    with tqdm(desc="verify", unit="image") as bar:
        result = checks.verify(flags.data_dir, flags.workers, bar.update, flags.source)
    if flags.report:
        writer.write_text(flags.report, json.dumps(result, indent=1) + "\n")
    for problem in result["problems"]:
        print(f"problem: {problem}", file=sys.stderr)
    counts = ", ".join(f"{count} {split}" for split, count in result["counts"].items())
    twice = sum(result["duplicates"].values())
    verdict = f"{len(result['problems'])} problems" if result["problems"] else "whole and right"
    print(
        f"{result['data_dir']}: {verdict}; {counts} images of {result['classes']} classes, "
        f"{result['repairs']} repaired, {result['rejects']} left out, {twice} stored twice"
    )
    return cli.EXIT_DATA if result["problems"] else cli.EXIT_OK


def main(argv=None) -> int:
    return cli.run(_define, _main, argv, doc=__doc__)


if __name__ == "__main__":
    sys.exit(main())
