"""Finds the names of a network's classes."""

from alexnet_tf.data import imagenet
from alexnet_tf.models import saved_run


def class_names(network: saved_run.TrainedModel, labels: str | None = None) -> tuple[str, ...]:
    """Names in the order of the outputs.

    Taken from the file `labels` if one is given, else from the model's file or, for older ones, the
    run's `config.json` beside it, else ImageNet's names when there are 1000 classes, else "class
    0", "class 1" and so on.

    Raises:
      FileNotFoundError: no such file. ValueError: a wrong number of names.
    """
    if labels is not None:
        return saved_run.read_labels(labels, network.classes)
    if network.class_names is not None:
        return network.class_names
    if network.classes == imagenet.CLASSES:
        return tuple(imagenet.class_names())
    return tuple(f"class {n}" for n in range(network.classes))
