"""Training speed of this package's layers beside TensorFlow's and Keras'.

    python benchmarks/layers.py

Three comparisons on this machine, each with its peer taking turns in the same process:

1. response normalisation of AlexNet's two layers, forward and backward, against
   `tf.nn.local_response_normalization`;
2. the three grouped convolutions alone, forward and backward, against `keras.layers.Conv2D`;
3. a whole training step of AlexNet against the same network with one or the other replaced.

It prints medians, spreads and ratios, and writes every single time to --output as JSON.
"""

import pathlib
import statistics
import sys
import time

from absl import flags as absl_flags

from alexnet_tf import cli, files, machine

RESULTS = pathlib.Path(__file__).parent / "results" / "layers.json"


def main(argv=None) -> int:
    """Runs the command; returns the exit code."""
    return cli.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    absl_flags.DEFINE_integer("batch_size", 128, "Images, for the norms.", 1, flag_values=flags)
    absl_flags.DEFINE_integer(
        "step_batch_size", 64, "Images, where Keras' groups take part.", 1, flag_values=flags
    )
    absl_flags.DEFINE_integer("runs", 7, "Timed runs of each form.", 1, flag_values=flags)
    absl_flags.DEFINE_string("output", str(RESULTS), "JSON file for the times.", flag_values=flags)


def _main(flags, args) -> int:
    batch, step_batch, runs = flags.batch_size, flags.step_batch_size, flags.runs
    result = {"machine": machine.describe(), "runs": runs}
    print(machine.as_text(result["machine"]))
    print(f"{runs} runs of each form in turn, after one that is not counted")
    result["sections"] = [
        report("response normalisation, both layers", norm_forms, runs, batch),
        report("grouped convolutions alone", convolution_forms, runs, step_batch),
        report("a whole training step of AlexNet", step_forms, runs, step_batch),
    ]
    files.write_json(flags.output, result, indent=1)
    print(f"every time is in {flags.output}")
    return 0


def report(title: str, make_forms, runs: int, batch: int) -> dict:
    """Times the forms in turn and prints them; the first is this package's."""
    forms = make_forms(batch)
    # One run of each is for tracing and for the memory to be there.
    times = {name: [] for name in forms}
    for run in range(runs + 1):
        for name, form in forms.items():
            start = time.perf_counter()
            form()
            if run:
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ours = next(iter(forms))
    print(f"\n{title}, batch of {batch}")
    for name, values in times.items():
        spread = (max(values) - min(values)) / medians[name]
        line = f"  {name:46} {1e3 * medians[name]:8.1f} ms  spread {spread:4.0%}"
        line += f"  {batch / medians[name]:7.1f} images/s"
        if name != ours:
            line += f"  {ours} takes {medians[ours] / medians[name]:.2f} of its time"
        print(line)
    return {"title": title, "batch_size": batch, "seconds": times, "medians": medians}


def norm_forms(batch: int) -> dict:
    """Forward and backward of both layers, with gradients for the layers below."""
    import tensorflow as tf

    from alexnet_tf.models.layers import LocalResponseNormalization

    def peer(x):
        return tf.nn.local_response_normalization(x, 2, bias=2.0, alpha=1e-4, beta=0.75)

    shapes = ((batch, 55, 55, 96), (batch, 27, 27, 256))
    inputs = [20 * tf.random.stateless_normal(s, (1, i)) for i, s in enumerate(shapes)]
    slopes = [tf.random.stateless_normal(s, (2, i)) for i, s in enumerate(shapes)]
    forms = {}
    for name, layers in (
        ("alexnet_tf", [LocalResponseNormalization() for _ in shapes]),
        ("tf.nn.local_response_normalization", [peer, peer]),
    ):
        forms[name] = _gradient_form(layers, inputs, slopes)
    return forms


def convolution_forms(batch: int) -> dict:
    """conv2, conv4 and conv5 with gradients for kernels, biases and the layers below."""
    import keras
    import tensorflow as tf

    from alexnet_tf.models.layers import GroupedConv2D

    sizes = ((27, 96, 256, 5), (13, 384, 384, 3), (13, 384, 256, 3))  # pixels, in, out, kernel
    inputs = [tf.random.stateless_normal((batch, n, n, c), (3, c)) for n, c, _, _ in sizes]
    slopes = [tf.random.stateless_normal((batch, n, n, f), (4, f)) for n, _, f, _ in sizes]
    forms = {}
    for name, kind in (("alexnet_tf", GroupedConv2D), ("keras.layers.Conv2D", keras.layers.Conv2D)):
        layers = [kind(f, k, padding="same", groups=2) for _, _, f, k in sizes]
        for layer, x in zip(layers, inputs, strict=True):
            layer.build(x.shape)
        forms[name] = _gradient_form(layers, inputs, slopes)
    return forms


def _gradient_form(layers, inputs, slopes):
    import tensorflow as tf

    weights = [w.value for layer in layers for w in getattr(layer, "trainable_weights", [])]

    @tf.function
    def step(inputs, slopes):
        with tf.GradientTape() as tape:
            tape.watch([inputs, weights])
            outputs = [layer(x) for layer, x in zip(layers, inputs, strict=True)]
        gradients = tape.gradient(outputs, [inputs, weights], slopes)
        # Every number is asked for and nothing is copied out of TensorFlow.
        return [tf.reduce_max(g) for g in tf.nest.flatten(gradients)]

    return lambda: [g.numpy() for g in step(inputs, slopes)]


def step_forms(batch: int) -> dict:
    """Training steps: images in memory, cross-entropy, SGD with momentum."""
    import keras
    import tensorflow as tf

    import alexnet_tf
    from alexnet_tf.models.layers import GroupedConv2D, LocalResponseNormalization

    class TensorFlowNorm(keras.layers.Layer):
        def call(self, x):
            return tf.nn.local_response_normalization(x, 2, bias=2.0, alpha=1e-4, beta=0.75)

    def keras_groups(layer):
        if isinstance(layer, GroupedConv2D) and layer.groups > 1:
            # The paddings of conv2, conv4 and conv5 are "same".
            config = {**layer.get_config(), "padding": "same"}
            return keras.layers.Conv2D.from_config(config)
        return layer.__class__.from_config(layer.get_config())

    def tensorflow_norm(layer):
        if isinstance(layer, LocalResponseNormalization):
            return TensorFlowNorm(name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    network = alexnet_tf.build_model("alexnet", classifier_activation=None, initializer="he")
    models = {
        "alexnet_tf": network,
        "with tf.nn.local_response_normalization": keras.models.clone_model(
            network, clone_function=tensorflow_norm
        ),
        "with keras.layers.Conv2D(groups=2)": keras.models.clone_model(
            network, clone_function=keras_groups
        ),
    }
    x = tf.random.stateless_uniform((batch, 224, 224, 3), (5, 6), maxval=255.0)
    y = tf.range(batch) % 1000
    return {name: _training_step(model, x, y) for name, model in models.items()}


def _training_step(model, x, y):
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.SGD(1e-4, momentum=0.9)
    optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            value = loss(y, model(x, training=True))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return value

    return lambda: float(step(x, y))


if __name__ == "__main__":
    sys.exit(main())
