"""Finds the names of a network's classes."""

from alexnet_tf.data import imagenet
from alexnet_tf.models import saved_run


def class_names(network: saved_run.TrainedModel, labels: str | None = None) -> tuple[str, ...]:
    """Returns the class names in the order of the outputs.

    They come from the file `labels` if given, else from the model file or, for older files, the
    run's `config.json` beside it, else from ImageNet if there are 1000 classes, else they are
    "class 0", "class 1" and so on.

    Raises:
      FileNotFoundError: `labels` does not exist. ValueError: it has a wrong number of names.
    """
    if labels is not None:
        return saved_run.read_labels(labels, network.classes)
    if network.class_names is not None:
        return network.class_names
    if network.classes == imagenet.CLASSES:
        return tuple(imagenet.class_names())
    return tuple(f"class {n}" for n in range(network.classes))
