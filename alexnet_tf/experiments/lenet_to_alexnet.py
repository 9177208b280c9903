"""LeNet-5 (1998) and AlexNet (2012) on the same images."""

import dataclasses

import keras

from alexnet_tf.experiments import networks, published
from alexnet_tf.experiments.results import ClaimRow, Context, Result, percent, spread_of
from alexnet_tf.models import catalog, spec


@dataclasses.dataclass(frozen=True)
class GreyThumbnail:
    """Converts colour images to LeNet-5's grey 32 x 32: means over blocks of pixels and channels.

    Mean and scale precede it in the network; the order does not matter, as all three are linear.
    """

    name: str = "thumbnail"
    side: int = 32

    def apply(self, x, options: spec.Options):
        _, height, width, channels = x.shape
        block = (height // self.side, width // self.side, channels)
        x = keras.layers.Reshape((height, width, channels, 1), name=f"{self.name}_in")(x)
        x = keras.layers.AveragePooling3D(block, name=self.name)(x)
        return keras.layers.Reshape((*x.shape[1:3], 1), name=f"{self.name}_out")(x)

    def output_size(self, n: int) -> int:
        return self.side if n >= self.side and n % self.side == 0 else 0


def thumbnail_lenet() -> spec.Variant:
    """LeNet-5 behind a `GreyThumbnail`: it sees AlexNet's 224-pixel crops at 32 pixels."""
    lenet = catalog.find_variant("lenet5")
    # An entry that only enlarges small images is not needed here.
    layers = tuple(entry for entry in lenet.features if entry.name != "canvas")
    return dataclasses.replace(
        lenet,
        name="lenet5_thumbnail",
        summary="LeNet-5 on colour images, shrunk to 32 grey pixels",
        crop_size=224,
        channels=3,
        features=(GreyThumbnail(), *layers),
        enlarges=False,
    )


def run(context: Context) -> Result:
    """Trains both with the same recipe on the same crops; no scale narrows LeNet-5."""
    whole = dataclasses.replace(context, scale=dataclasses.replace(context.scale, narrowing=1))
    nets = {
        "LeNet-5": networks.networks(whole, thumbnail_lenet(), colour_noise="none"),
        "AlexNet": networks.networks(context, catalog.find_variant("alexnet_145")),
    }
    found = {
        name: [networks.both(networks.errors(context, [path], 10))[0] for path in workdirs]
        for name, workdirs in nets.items()
    }
    text = ", ".join(
        f"{name} {percent(sum(values) / len(values))}" for name, values in found.items()
    )
    spread = "; ".join(f"{name}: {spread_of(values)}" for name, values in found.items())
    note = "LeNet-5 sees 32 grey pixels of each crop; one recipe for both, without colour noise "
    row = ClaimRow(
        published.FROM_LENET,
        text,
        context.data,
        context.seeds,
        spread,
        note + "for LeNet-5",
    )
    return Result((row,), found)
