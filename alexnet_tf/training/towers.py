"""`--strategy=towers`: the network's two halves on two devices, connected where the paper's are.

`alexnet_tf.models.towers` splits the network; here both halves are trained and joined again.

TensorFlow places gradients by the device scope in which a tape is asked, not by the layers' own.
So each section of the network has a tape, asked on the section's device, and this module adds and
transfers the gradients between sections.
"""

import dataclasses

import keras
import tensorflow as tf

from alexnet_tf.models import layers
from alexnet_tf.models.builder import dtype_policy
from alexnet_tf.models.spec import Variant
from alexnet_tf.models.towers import build_section, stages
from alexnet_tf.training.optimizers import PaperSGD
from alexnet_tf.training.step import Steps, cross_entropy, weighted, wrong_counts


class TwoTowers(tf.distribute.OneDeviceStrategy):
    """Half of the network on each of two devices; whatever is not split runs on the first."""

    def __init__(self, devices: tuple[str, str]):
        super().__init__(devices[0])
        self.devices = devices
        # Copies batches to both devices ahead of time.
        self._input = tf.distribute.MirroredStrategy(
            list(devices), cross_device_ops=tf.distribute.ReductionToOneDevice()
        )

    def distribute_datasets_from_function(self, dataset_fn, options=None):
        """Each batch goes from the host to both devices, as in 2012."""

        def twice(context):
            batches = dataset_fn(tf.distribute.InputContext())
            return batches.flat_map(lambda *batch: tf.data.Dataset.from_tensors(batch).repeat(2))

        return self._input.distribute_datasets_from_function(twice, options)

    def on_device(self, batch, number: int):
        """A distributed batch's copy on device 0 or 1."""
        return tf.nest.map_structure(
            lambda copies: self._input.experimental_local_results(copies)[number], batch
        )


@dataclasses.dataclass(frozen=True)
class _Call:
    """A section's forward pass, with the tape that recorded it."""

    device: str
    inputs: list[tf.Tensor]
    output: tf.Tensor
    variables: list
    tape: tf.GradientTape


class Towers(Steps):
    """Trains a network in two halves.

    `model` and `optimizer` are the whole network's, as any other strategy trains it; that one is
    saved, evaluated and exported. `scatter` copies its weights to the halves, `gather` copies them
    back. Between the two only the halves learn.

    Args:
      strategy: its two devices get one half each.
      variant: what `model` was built from; see `alexnet_tf.models.towers.stages`.
      model: a whole network of that variant, with its top.
      optimizer: built for the model's weights.
      augment: from (images, draws) to float32 images, see `Augmentation.apply`.
      class_weights: see `ReplicaSteps`.

    Raises:
      ValueError: the variant cannot be split in two, or the optimiser is not `PaperSGD`.
    """

    def __init__(
        self,
        strategy: TwoTowers,
        variant: Variant,
        model: keras.Model,
        optimizer: PaperSGD,
        augment,
        *,
        class_weights=None,
    ):
        super().__init__()
        if not isinstance(optimizer, PaperSGD):
            raise ValueError(
                f"Two towers cannot train with {type(optimizer).__name__}: expected PaperSGD, so "
                "use --precision=float32 or mixed_bfloat16, whose losses need no scale."
            )
        self.model, self.optimizer, self.augment = model, optimizer, augment
        self.strategy, self.devices = strategy, strategy.devices
        self.class_weights = class_weights
        self.sections = self._build_sections(variant)
        self.optimizers = []
        for device, half in zip(self.devices, self._halves(), strict=True):
            with tf.device(device):
                variables = [v for section in half for v in section.trainable_variables]
                self.optimizers.append(_optimizer_of(optimizer, variables))
        self._pairs = self._pair_variables()
        self._compiled_logits = tf.function(lambda *images: self._forward(images, False)[0])
        self.scatter()

    def logits(self, images) -> tf.Tensor:
        """Inference on float images (b, h, w, c): logits (b, classes)."""
        copies = []
        for device in self.devices:
            with tf.device(device):
                copies.append(tf.identity(images))
        return self._compiled_logits(*copies)

    def scatter(self) -> None:
        """Copies the whole network's weights, velocities, counters and rate to the halves."""
        if not isinstance(self.optimizer.get_config()["learning_rate"], dict):
            for own in self.optimizers:  # no schedule: the loop may have changed the rate
                own.learning_rate = float(self.optimizer.learning_rate)
        for whole, parts in self._pairs:
            for half, part in enumerate(parts):
                part.assign(_share(whole, part.shape, half))

    def gather(self) -> None:
        """Copies weights, velocities and counters of the halves to the whole network."""
        for whole, parts in self._pairs:
            whole.assign(_join(parts, whole.shape))

    def _build_sections(self, variant: Variant) -> list[list[keras.Model]]:
        """[stage][half]; the last stage has one half."""
        sections, inputs = [], None
        for stage in stages(variant):
            built = []
            for half, device in enumerate(self.devices[: stage.devices]):
                with tf.device(device), dtype_policy(self.model.dtype_policy):
                    built.append(
                        build_section(stage, half, inputs or self.model.inputs, self.model)
                    )
            inputs = [section.output for section in built]
            sections.append(built)
        return sections

    def _halves(self) -> list[list[keras.Model]]:
        """[half][stage]"""
        return [[stage[half] for stage in self.sections if half < len(stage)] for half in range(2)]

    def _pair_variables(self) -> list[tuple]:
        """(whole network's variable, its parts in the halves), for all that training changes."""
        parts: dict[str, list] = {}
        for half, own in zip(self._halves(), self.optimizers, strict=True):
            weights = [weight for section in half for weight in section.weights]
            for part in (*weights, *own.velocities, own.iterations):
                parts.setdefault(part.path, []).append(part)
        whole = (*self.model.weights, *self.optimizer.velocities, self.optimizer.iterations)
        pairs = [(variable, parts[variable.path]) for variable in whole]
        for layer in self.model.layers:
            if isinstance(layer, layers.Dropout):
                sections = [section for stage in self.sections for section in stage]
                steps = [
                    x.step for section in sections for x in section.layers if x.name == layer.name
                ]
                pairs.append((layer.step, steps))
        return pairs

    def _forward(self, images, training: bool) -> tuple[tf.Tensor, list[list[_Call]]]:
        calls: list[list[_Call]] = []
        for number, stage in enumerate(self.sections):
            calls.append([])
            for half, section in enumerate(stage):
                with tf.device(self.devices[half]), tf.GradientTape() as tape:
                    if number:
                        # The only transfers of the forward pass.
                        inputs = [tf.identity(call.output) for call in calls[number - 1]]
                        tape.watch(inputs)
                        output = section(inputs, training=training)
                    else:
                        inputs = []  # the image needs no gradient
                        output = section(images[half], training=training)
                variables = section.trainable_variables
                calls[-1].append(_Call(self.devices[half], inputs, output, variables, tape))
        return calls[-1][0].output, calls

    def _backward(self, calls: list[list[_Call]], gradient: tf.Tensor) -> list[list[tf.Tensor]]:
        """The gradients of each half's weights, in the order of its optimiser's variables."""
        of_weights: list[list[tf.Tensor]] = [[], []]
        of_outputs = [gradient]
        for stage in reversed(calls):
            of_inputs = []  # [reader][half that it read]
            for half, (call, of_output) in enumerate(zip(stage, of_outputs, strict=True)):
                with tf.device(call.device):
                    found = call.tape.gradient(
                        call.output, [*call.inputs, *call.variables], of_output
                    )
                count = len(call.inputs)
                of_inputs.append(found[:count])
                of_weights[half] = [*found[count:], *of_weights[half]]
            of_outputs = []
            for device, readers in zip(self.devices, zip(*of_inputs, strict=True), strict=False):
                with tf.device(device):
                    # The only transfers of the backward pass: the other device's gradients.
                    of_outputs.append(tf.add_n(readers))
        return of_weights

    def _train(self, batch, stop):
        halves = [self.strategy.on_device(batch, half) for half in range(2)]
        images = []
        for device, (stored, _, draws) in zip(self.devices, halves, strict=True):
            with tf.device(device):
                images.append(self.augment(stored, draws))
        labels = halves[0][1]
        logits, calls = self._forward(images, training=True)
        with tf.device(self.devices[0]):
            with tf.GradientTape() as tape:
                tape.watch(logits)
                # The loss needs float32, also under a mixed policy.
                scores = tf.cast(logits, tf.float32)
                losses = cross_entropy(labels, scores)
                loss = tf.reduce_mean(weighted(losses, labels, self.class_weights))
            gradient = tape.gradient(loss, logits)
            sums = tf.stack([tf.reduce_sum(losses), *wrong_counts(labels, scores), stop])
        of_weights = self._backward(calls, gradient)
        for device, own, gradients in zip(self.devices, self.optimizers, of_weights, strict=True):
            if gradients:  # none where all layers of a half are frozen
                with tf.device(device):
                    own.apply(gradients)
        return sums


def _optimizer_of(whole: PaperSGD, variables: list) -> PaperSGD:
    """The same optimiser for the variables of a half, on its device."""
    config = whole.get_config()
    names = {variable.path.split("/")[-2] for variable in variables}
    for field in ("layer_learning_rates", "layer_weight_decay"):
        config[field] = {name: value for name, value in config[field].items() if name in names}
    own = PaperSGD.from_config(config)
    own.build(variables)
    return own


def _share(whole, shape, half: int):
    """A half's part of a variable of the whole network."""
    if tuple(whole.shape) == tuple(shape):  # fc8, which is not split, and the counters
        return tf.convert_to_tensor(whole)
    if len(shape) < len(whole.shape):  # GroupedDense's kernels have an axis of groups
        return tf.convert_to_tensor(whole)[half]
    return tf.split(tf.convert_to_tensor(whole), 2, axis=-1)[half]


def _join(parts, shape):
    """A variable of the whole network from the halves' parts; the inverse of `_share`."""
    parts = [tf.convert_to_tensor(part) for part in parts]
    if tuple(parts[0].shape) == tuple(shape):
        return parts[0]
    return tf.stack(parts) if len(parts[0].shape) < len(shape) else tf.concat(parts, axis=-1)
