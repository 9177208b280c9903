"""What an atlas shows, and how much of it."""

import dataclasses

TOP_IMAGES = 8  # that excite a unit most, on its page


@dataclasses.dataclass(frozen=True)
class Settings:
    """How large an atlas is.

    Attributes:
      split: of the data set.
      units: pages of units in each layer, at most.
      images: pages of images, at most.
      sample: images that responses are measured on, at most: the split's first.
      steps: of activation maximisation.
      places: positions of the occluding square along each side of an image.
      seed: of activation maximisation.
    """

    split: str = "validation"
    units: int = 16
    images: int = 24
    sample: int = 2000
    steps: int = 64
    places: int = 14
    seed: int = 0
