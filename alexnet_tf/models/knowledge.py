"""Metadata of a saved network (classes, sizes, lineage): one dictionary in the model file.

It is part of the configuration of the network's first layer that is this package's own, so it
survives `.keras` files and copies of the network, and is no weight. Its keys, each of which may be
missing, as all are in files of older versions:

    class_names   names in output order
    image_size    the square (pixels) to which images are brought before the crop
    crop_size     the network's input size
    apply_exif    whether the images it was trained on were turned as their EXIF orientation says
    lineage       what it came from: "recipe", "data" (`data.identity.fingerprint`), "weights"
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


class Knowing:
    """Mixin for layers that carry the dictionary; comes before Keras' base class."""

    def __init__(self, *args, knowledge: Mapping[str, Any] | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.knowledge = knowledge or {}

    @property
    def knowledge(self) -> dict[str, Any]:
        return json.loads(self._knowledge)

    @knowledge.setter
    def knowledge(self, facts: Mapping[str, Any]) -> None:
        # As text: Keras would track a dictionary as part of the network's state.
        self._knowledge = json.dumps(dict(facts))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()  # type: ignore[misc]  # the layer's
        return {**config, "knowledge": self.knowledge} if self.knowledge else config


def of(model: "keras.Model") -> dict[str, Any]:
    """The network's metadata; empty for older files and for networks of other packages."""
    holder = _holder(model)
    return holder.knowledge if holder is not None else {}


def write(model: "keras.Model", facts: Mapping[str, Any]) -> None:
    """Replaces the network's metadata.

    Args:
      model: a network of this package.
      facts: JSON values under the keys above.

    Raises:
      ValueError: no layer of the network is this package's.
    """
    holder = _holder(model)
    if holder is None:
        raise ValueError(
            f"The network {model.name!r} has no layer of alexnet_tf that could carry what it "
            "knows: build it with alexnet_tf.build_model."
        )
    holder.knowledge = facts


def _holder(model):
    return next((layer for layer in model.layers if isinstance(layer, Knowing)), None)
