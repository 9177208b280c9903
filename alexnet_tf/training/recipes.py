"""Every number of a published training run, as data.

`--recipe=NAME` picks a recipe, and flags override its fields. Rates per epoch are
((epoch, rate), ...): from that epoch on, counted from 0. Imports no TensorFlow.
"""

import dataclasses
import math

RatesByEpoch = tuple[tuple[float, float], ...]
NumbersByLayer = tuple[tuple[str, float], ...]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
      model: name of the network, one of `alexnet_tf.list_models()`.
      epochs: passes over the training set.
      batch_size: images in a step, over all replicas.
      learning_rate: of the weights, at the start.
      schedule: "constant"; "steps" (see rate_steps); "cosine", to zero at the end; "plateau":
        divided by 10 whenever the validation error has not improved for `patience` epochs (without
        a validation split, the training error).
      rate_steps: with "steps", the rates that follow the first: ((epoch, rate), ...), as a flag
        EPOCH:RATE,EPOCH:RATE, such as 25:0.001,51:1e-4.
      warmup_epochs: epochs over which all rates rise linearly from zero; not with "plateau".
      patience: epochs without a better error before "plateau" lowers the rate.
      momentum: how much of the step before is kept in a step, 0 to 1.
      weight_decay: factor on a kernel's weights that is taken off in each step, times the rate.
      layer_weight_decay: ((layer, decay), ...) for layers with a decay of their own, as a flag
        LAYER:DECAY,LAYER:DECAY, such as fc6:0.004,fc8:0.01.
      bias_learning_rate: factor on the rate of biases.
      bias_rate_steps: the biases' own rates that follow learning_rate * bias_learning_rate; empty
        to keep them at the factor.
      bias_weight_decay: whether biases decay too.
      conv1_rate_steps: the first layer's own rates, where they differ; a rate of 0 freezes it. With
        weights, body_learning_rate times these.
      weights: a trained network (a run's workdir or .keras file) to start from, or None. A last
        layer that does not fit the data set's classes is replaced by a new one.
      body_learning_rate: with weights, factor on the rate of all layers but the last; 0 freezes
        them.
      initializer: "published", the network's own; or "he", which begins to learn sooner.
      dropout: probability of dropping a unit of fc6 and fc7.
      image_size: side to which images are resized before the crop, in pixels, where the data set
        does not store them at one size.
      crop_size: height and width of the random crop, in pixels; None for the variant's own, or with
        weights for that network's.
      border: pixels of black padding before the random crop, to shift images that are no larger
        than the crop.
      mirror: mirror half of the images.
      crop_group: consecutive images that share a crop and mirror draw.
      colour_noise: "none"; "paper", scaled as the paper's text says; or "source", as its program
        does.
      colour_noise_epochs: epochs with colour noise; None for all.
      mean: what is subtracted: the "image" of per-pixel means of the data set, its one number per
        channel ("rgb"), or the variant's "published" numbers. With weights, that network's own.
      precision: Keras policy: "float32", "mixed_bfloat16", "mixed_float16".
      class_weight: None; "balanced", so that all classes count alike in the loss; or a JSON file
        of {class name: weight}.
    """

    model: str = "alexnet"
    epochs: int = 90
    batch_size: int = 128
    learning_rate: float = 0.01
    schedule: str = "steps"
    rate_steps: RatesByEpoch = ()
    warmup_epochs: float = 0.0
    patience: int = 5
    momentum: float = 0.9
    weight_decay: float = 0.0005
    layer_weight_decay: NumbersByLayer = ()
    bias_learning_rate: float = 1.0
    bias_rate_steps: RatesByEpoch = ()
    bias_weight_decay: bool = False
    conv1_rate_steps: RatesByEpoch = ()
    weights: str | None = None
    body_learning_rate: float = 1.0
    initializer: str = "published"
    dropout: float = 0.5
    image_size: int = 256
    crop_size: int | None = None
    border: int = 0
    mirror: bool = True
    crop_group: int = 1
    colour_noise: str = "paper"
    colour_noise_epochs: int | None = None
    mean: str = "image"
    precision: str = "float32"
    class_weight: str | None = None

    def __post_init__(self):
        choices = {
            "schedule": ("constant", "steps", "cosine", "plateau"),
            "initializer": ("published", "he"),
            "colour_noise": ("none", "paper", "source"),
            "mean": ("image", "rgb", "published"),
            "precision": ("float32", "mixed_bfloat16", "mixed_float16"),
        }
        for field, allowed in choices.items():
            value = getattr(self, field)
            if value not in allowed:
                raise ValueError(f"{field} is {value!r}: expected one of {', '.join(allowed)}.")
        for field in ("epochs", "batch_size", "crop_group", "patience", "image_size", "crop_size"):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"{field} is {value}: expected 1 or more.")
        for field in ("border", "colour_noise_epochs"):
            value = getattr(self, field)
            if value is not None and value < 0:
                raise ValueError(f"{field} is {value}: expected 0 or more.")
        self._require_numbers()
        self._require_schedule()

    def _require_numbers(self) -> None:
        # `not a < b`, so that NaN is refused too.
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate is {self.learning_rate}: expected more than 0.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}: expected 0 or more, less than 1.")
        if not 0 <= self.momentum <= 1:
            raise ValueError(f"momentum is {self.momentum}: expected 0 to 1.")
        if not 0 <= self.body_learning_rate <= 1:
            raise ValueError(
                f"body_learning_rate is {self.body_learning_rate}: expected 0 (frozen) to 1."
            )
        for field in ("weight_decay", "bias_learning_rate", "warmup_epochs"):
            value = getattr(self, field)
            if not 0 <= value < math.inf:
                raise ValueError(f"{field} is {value}: expected a number of 0 or more.")
        for layer, decay in self.layer_weight_decay:
            if not 0 <= decay < math.inf:
                raise ValueError(
                    f"layer_weight_decay of {layer} is {decay}: expected a number of 0 or more."
                )

    def _require_schedule(self) -> None:
        for field in ("rate_steps", "bias_rate_steps", "conv1_rate_steps"):
            epochs = [epoch for epoch, _ in getattr(self, field)]
            if not all(0 <= epoch < math.inf for epoch in epochs) or epochs != sorted(epochs):
                raise ValueError(
                    f"{field} names the epochs {', '.join(map(str, epochs))}: expected numbers of "
                    "0 or more in ascending order."
                )
            for epoch, rate in getattr(self, field):
                # Other rates are divided by this one.
                lowest = "more than 0" if field == "rate_steps" else "0 or more"
                if not (0 <= rate < math.inf and (rate or field != "rate_steps")):
                    raise ValueError(
                        f"{field} has the rate {rate} from epoch {epoch} on: expected {lowest}."
                    )
        for field in ("bias_rate_steps", "conv1_rate_steps"):
            if getattr(self, field) and self.schedule != "steps":
                raise ValueError(
                    f"{field} need schedule=steps, and the schedule is {self.schedule}: leave "
                    f"them out (--{field}=)."
                )
        if self.warmup_epochs and self.schedule == "plateau":
            raise ValueError(
                f"warmup_epochs is {self.warmup_epochs}, which the plateau schedule does not have: "
                "use schedule constant, steps or cosine, or 0 epochs."
            )

    def require_complete(self) -> None:
        """Raises ValueError for a recipe that lacks what only the user can name."""
        if self.body_learning_rate != 1 and not self.weights:
            raise ValueError(
                f"weights is missing: body_learning_rate {self.body_learning_rate} needs a trained "
                "network; name its workdir or .keras file."
            )


PAPER = Recipe(
    # Section 5: batch 128, momentum 0.9, decay 0.0005, rate 0.01 divided by 10 three times when the
    # validation error stopped improving, about 90 epochs. One rate for all layers and biases; decay
    # is written for a weight w.
    schedule="plateau",
    colour_noise="paper",
)

SOURCE_145 = Recipe(
    # Run notes at the end of layers/layer-params-145.cfg (ILSVRC-2012), computerhistory/
    # AlexNet-Source-Code: the epochs at which rates were changed by hand. Biases start at twice the
    # rate (0.02) and stay there: epsB is 0.02 in the file's last state too.
    model="alexnet_145",
    epochs=91,
    rate_steps=((25, 1e-3), (51, 1e-4), (79, 1e-5)),
    bias_learning_rate=2.0,
    bias_rate_steps=((0, 0.02),),
    conv1_rate_steps=((25, 1e-3), (51, 1e-4), (67, 1e-5), (72, 0.0)),
    crop_group=32,
    colour_noise="source",
    colour_noise_epochs=67,
)

CAFFE = Recipe(
    # BVLC/caffe models/bvlc_alexnet/solver.prototxt: batch 256, 0.01 divided by 10 every 100,000
    # iterations (19.98 epochs of ILSVRC-2012), 450,000 in all; biases with lr_mult 2, decay_mult 0.
    model="alexnet_caffe",
    batch_size=256,
    rate_steps=((20, 1e-3), (40, 1e-4), (60, 1e-5), (80, 1e-6)),
    bias_learning_rate=2.0,
    colour_noise="none",
)

TORCHVISION = Recipe(
    # pytorch/vision references/classification: 0.01 divided by 10 every 30 epochs, batch 256 over 8
    # GPUs, decay 1e-4 on everything. (Its training crops are random-resized; ours are the paper's.)
    model="alexnet_owt",
    batch_size=256,
    rate_steps=((30, 1e-3), (60, 1e-4)),
    weight_decay=1e-4,
    bias_weight_decay=True,
    colour_noise="none",
    mean="rgb",
)

ONE_WEIRD_TRICK = Recipe(
    # In the manner of arXiv 1404.5997: the rate grows with the batch (0.01 for 128, so 0.08 for
    # 1024), after a linear warm-up of five epochs.
    model="alexnet_owt",
    batch_size=1024,
    learning_rate=0.08,
    schedule="cosine",
    warmup_epochs=5,
    bias_learning_rate=2.0,
    colour_noise="source",
)

QUICKSTART = Recipe(
    # Ours, for about 1,500 photographs and minutes on two CPU cores. He's initialisation learns
    # from the first step, the paper's after hundreds. A small batch gives more steps for the same
    # work. No dropout: it doubles the iterations to converge (section 4.2); the run is too short
    # to overfit.
    epochs=4,
    batch_size=16,
    learning_rate=0.002,
    schedule="cosine",
    warmup_epochs=0.75,
    dropout=0.0,
    initializer="he",
    colour_noise="source",
    mean="rgb",
)

LENET5 = Recipe(
    # LeCun et al. 1998, section III: 20 passes over MNIST, without noise, mirrors or weight decay.
    # There the updates are online, at 0.0005 falling to 0.00001 in four steps and divided by an
    # estimate of each weight's curvature. Without that division these rates fall too early, so
    # batch, momentum, rate and its cosine are ours. So is the shift by up to a pixel, the least of
    # the distortions with which the paper reaches 0.8 instead of 0.95 % test error. The network is
    # the common reading with a softmax: 12 such passes over 50,000 digits left 0.8 % errors on the
    # training set's other 10,000, and the 1998 output units 1.3 % (--model=lenet5
    # --learning_rate=0.004).
    model="lenet5_softmax",
    epochs=20,
    batch_size=64,
    learning_rate=0.05,
    schedule="cosine",
    weight_decay=0.0,
    dropout=0.0,
    image_size=28,
    border=1,
    mirror=False,
    colour_noise="none",
    mean="published",
)

CIFARNET = Recipe(
    # akrizhevsky/cuda-convnet2, layers/layers-cifar10-11pct.cfg and layer-params: batch 128,
    # momentum 0.9, epsW 0.001, epsB 0.002, decay 0.004 in the local layers, 0.01 in fc10 and none
    # in the convolutions; crops of 24 out of 32 and mirrors per image, the mean image subtracted.
    # About 500 epochs, then 10 at a tenth and 10 at a hundredth. (There, the first 350 hold out a
    # fifth of the images, and batches are not shuffled.)
    model="cifarnet",
    epochs=520,
    learning_rate=0.001,
    rate_steps=((500, 1e-4), (510, 1e-5)),
    bias_learning_rate=2.0,
    weight_decay=0.0,
    layer_weight_decay=(("local3", 0.004), ("local4", 0.004), ("fc10", 0.01)),
    dropout=0.0,
    image_size=32,
    colour_noise="none",
)

CIFARNET_NO_NORM = dataclasses.replace(
    # example-layers/layers-conv-local-13pct.cfg: decay 0.004 in fc10 too. Its rates were lowered by
    # hand, and no length is published: taking those of CIFARNET is our choice.
    CIFARNET,
    model="cifarnet_no_norm",
    layer_weight_decay=(("local3", 0.004), ("local4", 0.004), ("fc10", 0.004)),
)

FINETUNE = Recipe(
    # BVLC/caffe models/finetune_flickr_style: rate 0.001, ten times that for the new last layer
    # (lr_mult 10), biases twice, batch 50, a tenth of the rate every 20,000 iterations of 100,000.
    # Its data set has 80,000 images, so that is every 12.5 of 62.5 epochs. Here the last layer's
    # rate is the base and the body's a tenth of it.
    epochs=63,
    batch_size=50,
    rate_steps=((12.5, 1e-3), (25, 1e-4), (37.5, 1e-5), (50, 1e-6)),
    bias_learning_rate=2.0,
    body_learning_rate=0.1,
    colour_noise="none",
)

RECIPES = {
    "paper": PAPER,
    "source_145": SOURCE_145,
    "caffe": CAFFE,
    "torchvision": TORCHVISION,
    "one_weird_trick": ONE_WEIRD_TRICK,
    "quickstart": QUICKSTART,
    "lenet5": LENET5,
    "cifarnet": CIFARNET,
    "cifarnet_no_norm": CIFARNET_NO_NORM,
    "finetune": FINETUNE,
}


def get_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
      ValueError: there is none.
    """
    if name not in RECIPES:
        raise ValueError(f"There is no recipe {name!r}: use one of {', '.join(RECIPES)}.")
    return RECIPES[name]


def override(recipe: Recipe, fields: dict) -> Recipe:
    """The recipe with other fields; rates per epoch and by layer may be text.

    Args:
      recipe: to change.
      fields: field -> value, or text such as "25:0.001,51:1e-4" or "fc6:0.004,fc8:0.01".

    Raises:
      ValueError: a value out of range, text that is not understood, or a recipe that is incomplete.
    """
    fields = {name: _parsed(name, value) for name, value in fields.items()}
    changed = dataclasses.replace(recipe, **fields)
    changed.require_complete()
    return changed


def _parsed(name: str, value):
    if not isinstance(value, str) or name not in _PAIRS:
        return value
    key, form, example = _PAIRS[name]
    try:
        pairs = [part.split(":") for part in value.split(",") if part]
        return tuple((key(first), float(number)) for first, number in pairs)
    except ValueError as error:
        raise ValueError(
            f"{name}={value!r} is not understood: expected {form},{form},... such as {example}."
        ) from error


_RATES = (float, "EPOCH:RATE", "25:0.001,51:1e-4")
_PAIRS = {
    "rate_steps": _RATES,
    "bias_rate_steps": _RATES,
    "conv1_rate_steps": _RATES,
    "layer_weight_decay": (str, "LAYER:DECAY", "fc6:0.004,fc8:0.01"),
}
