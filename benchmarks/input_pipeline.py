"""Records to augmented batches, beside other input pipelines in one run.

    python benchmarks/input_pipeline.py [--peers_python=OTHER/bin/python]

All see the same images: 256 x 256 JPEGs of quality 95 that `data_prep` made of photographs, and
the same as raw pixels, in random order and batches of 128, from as many threads or processes as
there are cores. What they give:

- uint8: crops of 224 x 224, mirrored or not. This package's training sends something else to the
  device, which crops there: "whole images" are uint8 images of 256 x 256, and draws. "uint8 crops"
  is the same followed by the crop and the mirror on the processor: the product of FFCV's uint8;
- float32: crops of 224 x 224, mirrored or not, with colour noise; this package's for `model.fit`;
- libjpeg-turbo alone (simplejpeg, one process for each core) only decodes: a ceiling.

The clock runs from the fourth batch of an epoch to the third last, here to the third of the next,
so that everybody's buffers are as full at its start as at its end. Peers are processes of
their own that take turns. FFCV and DALI need packages that this project does not; --peers_python
names a Python that has them, and what is missing is said and left out. --dct adds this package's
pipeline with the fast DCT, to see what the accurate one costs.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

from absl import flags as absl_flags

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # before this directory, which has a data_prep.py too

from alexnet_tf import cli  # noqa: E402

WARM, TIMED, COLD = 3, 14, 3  # batches of an epoch: before, on and after the clock
OURS = "alexnet_tf, float32"
# Form -> (peer of input_peers.py, whether it needs --peers_python's packages).
FORMS = {
    "alexnet_tf, whole images": ("ours_whole", False),
    "alexnet_tf, uint8 crops": ("ours_uint8", False),
    "FFCV, uint8 crops": ("ffcv_uint8", True),
    OURS: ("ours", False),
    "FFCV, float32": ("ffcv", True),
    "NVIDIA DALI, CPU, float32": ("dali", True),
    "torchvision, PIL workers, float32": ("torchvision", True),
    "libjpeg-turbo alone": ("libjpeg", False),
    "libjpeg-turbo alone, fast DCT": ("libjpeg_fast", False),
    "alexnet_tf, whole images, raw records": ("ours_whole_raw", False),
    "alexnet_tf, uint8 crops, raw records": ("ours_uint8_raw", False),
    "FFCV, uint8 crops, raw records": ("ffcv_uint8_raw", True),
    "alexnet_tf, float32, raw records": ("ours_raw", False),
    "FFCV, float32, raw records": ("ffcv_raw", True),
}


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    absl_flags.DEFINE_integer("rounds", 9, "Turns of each peer.", 1, flag_values=flags)
    absl_flags.DEFINE_integer("batch_size", 128, "Images of a batch.", 8, flag_values=flags)
    absl_flags.DEFINE_bool("dct", True, "Also with the fast DCT.", flag_values=flags)
    absl_flags.DEFINE_string(
        "peers_python", sys.executable, "A Python that has the peers.", flag_values=flags
    )
    absl_flags.DEFINE_list(
        "only", [], "Forms to measure, by their words in FORMS; by default all.", flag_values=flags
    )
    results = ROOT / "benchmarks" / "results" / "input_pipeline.json"
    absl_flags.DEFINE_string("output", str(results), "JSON file.", flag_values=flags)


def _main(flags, args) -> int:
    if args:
        raise cli.UsageError(f"Unexpected argument {args[0]!r}: everything is a --flag here.")
    forms = dict(FORMS)
    if flags.dct:
        forms["alexnet_tf, float32, fast DCT"] = ("ours_fast", False)
    words = [peer for peer, _ in forms.values()]
    unknown = set(flags.only) - {*words, *forms}
    if unknown:
        raise cli.UsageError(f"--only={sorted(unknown)[0]}: expected {', '.join(words)}.")
    import peers
    import sample_images

    from alexnet_tf import files, machine

    count = (WARM + TIMED + COLD) * flags.batch_size
    with tempfile.TemporaryDirectory() as directory:
        facts = sample_images.prepare(pathlib.Path(directory), count)
        print(f"{count} images of {facts['bytes_per_picture'] / 1e3:.0f} KB")
        entries = []
        for name, (peer, foreign) in forms.items():
            if flags.only and not {name, peer} & set(flags.only):
                continue
            python = flags.peers_python if foreign else sys.executable
            script = str(ROOT / "benchmarks" / "input_peers.py")
            command = [python, script, peer, directory, str(flags.batch_size)]
            entries.append(peers.Entry(name, command))
        result = peers.compete(entries, flags.rounds)
    peers.print_rates(result, OURS, "images/s")
    computer = {**machine.describe(), "peers_python": _version(flags.peers_python)}
    files.write_json(
        flags.output,
        {
            "benchmark": "input_pipeline",
            "machine": computer,
            "rounds": flags.rounds,
            "batch_size": flags.batch_size,
            "pictures": facts,
            **result,
        },
    )
    print(f"every time is in {os.path.relpath(flags.output)}")
    return cli.EXIT_OK


def _version(python: str) -> str:
    done = subprocess.run([python, "-V"], capture_output=True, text=True, check=True)
    return done.stdout.split()[-1]


if __name__ == "__main__":
    sys.exit(main())
