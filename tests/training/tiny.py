"""`python tiny.py ARGUMENTS`: the training command, with a network small enough to start often.

"tiny" is made of AlexNet's own entries: grouped convolution, LRN, overlapping pools, dropout. With
FORKS as its only argument the process imports TensorFlow once, without starting it, and forks a
child for each line of standard input, a JSON list of the file for its output and its arguments. It
answers the child's process id, and its exit code once it has ended.
"""

import json
import os
import sys


def variant():
    """The network's description."""
    from alexnet_tf.models.spec import Conv, Dense, Drop, Flatten, Norm, Pool, Relu, Variant

    features = (
        Conv("conv1", 8, 5, stride=2),
        Relu("relu1"),
        Norm("norm1"),
        Pool("pool1"),
        Conv("conv2", 8, 3, groups=2),
        Relu("relu2"),
        Pool("pool2"),
    )
    top = (
        Flatten(),
        Dense("fc6", 32),
        Relu("relu6"),
        Drop("drop6", 0),
        Dense("fc7", 32),
        Relu("relu7"),
        Drop("drop7", 1),
        Dense("fc8"),
    )
    mean = (120.0, 115.0, 100.0)
    return Variant("tiny", "for tests", 35, mean, features, top)


def columns():
    """The same of two columns, for two towers, on 24 pixels."""
    import dataclasses

    from alexnet_tf.models.spec import Conv, Norm

    def fitting(entry):
        if isinstance(entry, Norm):
            return dataclasses.replace(entry, groups=2)
        if isinstance(entry, Conv) and entry.groups == 2:
            return dataclasses.replace(entry, pad=((1, 1), (1, 1)))
        return entry

    whole = variant()
    features = tuple(map(fitting, whole.features))
    return dataclasses.replace(whole, name="tiny_columns", crop_size=24, features=features)


def serve_forks():
    import keras  # noqa: F401
    import tensorflow_datasets  # noqa: F401

    from alexnet_tf.training import loop  # noqa: F401

    for line in sys.stdin:
        output, *arguments = json.loads(line)
        child = os.fork()
        if not child:
            log = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os._exit(train(arguments))
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def train(arguments) -> int:
    from alexnet_tf import train
    from alexnet_tf.models import catalog

    catalog._VARIANTS["tiny"] = variant()
    code = train.main(arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    return code


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.argv[1:] == ["FORKS"]:
        serve_forks()
    else:
        sys.exit(train(sys.argv[1:]))
