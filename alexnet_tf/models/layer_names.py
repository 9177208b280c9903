"""Names of layers in torchvision, Caffe and the paper.

A name means an output, and the same word may mean another one elsewhere. Caffe's ReLU works in
place, so its blob `conv1` holds what is called `relu1` here, and its `fc6` what is called `relu6`
(dropout is the identity at test). torchvision's ReLUs are in place too: a forward hook on
`features.0` that keeps the tensor without a copy sees it after `features.1`; here `features.0` is
the convolution alone.

| here               | torchvision              | Caffe          | paper                           |
|--------------------|--------------------------|----------------|---------------------------------|
| conv1 .. conv5     | features.0 3 6 8 10      | (overwritten)  |                                 |
| relu1 .. relu5     | features.1 4 7 9 11      | conv1 .. conv5 | layer1 .. layer5                |
| norm1, norm2       |                          | norm1, norm2   | response-normalised 1 and 2     |
| pool1, pool2, pool5| features.2 5 12, avgpool | pool1, 2, 5    | max-pooled 1, 2 and 5           |
| fc6, fc7           | classifier.1 4           | (overwritten)  |                                 |
| relu6, relu7       | classifier.2 5           | fc6, fc7       | layer6, layer7                  |
| fc8                | classifier.6             | fc8            | layer8                          |
| prob               |                          | prob           | softmax                         |

torchvision's `avgpool` is the identity at 224 pixels, the size of its network here.
"""

from collections.abc import Sequence

_CONVOLUTIONS = ("0", "3", "6", "8", "10")
_POOLS = {"pool1": "2", "pool2": "5", "pool5": "12"}

# torchvision's modules with weights; the others of its two Sequentials have none.
TORCHVISION_WEIGHTS = {
    **{f"features.{module}": f"conv{n}" for n, module in enumerate(_CONVOLUTIONS, 1)},
    "classifier.1": "fc6",
    "classifier.4": "fc7",
    "classifier.6": "fc8",
}
NAMES: dict[str, dict[str, str]] = {
    "torchvision": {
        **TORCHVISION_WEIGHTS,
        **{f"features.{int(module) + 1}": f"relu{n}" for n, module in enumerate(_CONVOLUTIONS, 1)},
        **{f"features.{module}": pool for pool, module in _POOLS.items()},
        "avgpool": "pool5",
        "classifier.0": "drop6",
        "classifier.2": "relu6",
        "classifier.3": "drop7",
        "classifier.5": "relu7",
    },
    "caffe": {
        **{f"conv{n}": f"relu{n}" for n in range(1, 6)},
        **{name: name for name in ("norm1", "norm2", *_POOLS, "fc8", "prob")},
        "fc6": "relu6",
        "fc7": "relu7",
    },
    # Section 3.5 counts five convolutional and three fully connected layers, with the ReLU applied
    # to the output of each but the last.
    "paper": {
        **{f"layer{n}": f"relu{n}" for n in range(1, 8)},
        "layer8": "fc8",
        "softmax": "prob",
    },
}


def our_name(name: str) -> str:
    """The name of a layer here, for a name of any of the programs.

    Args:
      name: ours ("conv1", "relu7"), one that only one program has ("features.10", "layer7"), or one
        with the program before it: "torchvision:features.10", "caffe:conv1", "paper:layer7". A bare
        "conv1" is ours, before the ReLU; "caffe:conv1" is after it.

    Raises:
      ValueError: a program or a name that is not in the table.
    """
    program, colon, rest = name.rpartition(":")
    if colon:
        if program not in NAMES:
            raise ValueError(f"{name!r} names no known program: expected {', '.join(NAMES)}.")
        if rest not in NAMES[program]:
            raise ValueError(
                f"{program} has no layer {rest!r}: expected one of {', '.join(NAMES[program])}."
            )
        return NAMES[program][rest]
    for program in ("torchvision", "paper"):  # Caffe's words are ours, with another meaning
        if name in NAMES[program]:
            return NAMES[program][name]
    return name


def find_layers(names: Sequence[str], have: Sequence[str], where: str) -> dict[str, str]:
    """Finds a network's layers by the names that a user gave, in that order.

    Args:
      names: as `our_name` takes them.
      have: the network's layers.
      where: the network's name in error messages.

    Returns:
      {name as given: layer of the network}.

    Raises:
      ValueError: no name, one twice, or one that the network does not have.
    """
    if not names:
        raise ValueError("No layer is named: expected some such as conv1,relu1,fc7,relu7.")
    found: dict[str, str] = {}
    for name in names:
        # A user-defined network may use a name of the table for another layer.
        layer = name if name in have else our_name(name)
        if layer not in have:
            means = "" if layer == name else f" (here {layer})"
            raise ValueError(f"{where} has no layer {name!r}{means}: it has {', '.join(have)}.")
        if name in found:
            raise ValueError(f"The layer {name} is named twice: name it once.")
        found[name] = layer
    return found
