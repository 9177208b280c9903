"""Training of a small network as a peer: small_peers.py NAME MODEL IMAGES (see
small_networks.py, which starts it and says what is measured)."""

import collections
import dataclasses
import sys
import tempfile
import time

import numpy as np
import peers

_RATE = 1e-5  # nothing of what is learned from noise matters to the clock
_MOMENTUM = 0.9


@dataclasses.dataclass(frozen=True)
class Task:
    """What all peers train.

    Attributes:
      side, channels: of stored images.
      crop: side of what the network sees; border: pixels of black around an image before the crop.
      mirror: whether half of the images are mirrored.
      batch_size: images of a step.
      steps: in a turn; a multiple of 32, because Keras always runs whole executions, and enough for
        the shuffle buffer that each `fit` fills again.
    """

    side: int
    channels: int
    crop: int
    border: int
    mirror: bool
    batch_size: int
    steps: int


TASKS = {
    "lenet5_softmax": Task(28, 1, 28, 1, False, batch_size=64, steps=960),
    "cifarnet": Task(32, 3, 24, 0, True, batch_size=128, steps=96),
}


def random_images(task: Task, count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    shape = (count, task.side, task.side, task.channels)
    return generator.integers(0, 256, shape, np.uint8), generator.integers(0, 10, count)


def clocked(task: Task, train, ended=time.perf_counter):
    """A turn: `train(steps)` returns when the steps are done; `ended()` says when that was."""

    def turn():
        started = time.perf_counter()
        train(task.steps)
        return [(task.steps * task.batch_size, ended() - started)]

    return turn


def ours(model: str, count: int):
    """This package, from records, as `train` runs."""
    sys.path.insert(0, str(peers.ROOT))
    import tensorflow as tf

    from alexnet_tf import memory
    from alexnet_tf.data import records
    from alexnet_tf.data.pipeline import Augmentation, Schedule, training_inputs
    from alexnet_tf.perf import steps
    from alexnet_tf.training import distributed_input, distribution

    memory.keep_freed_memory()  # as `train` does
    task = TASKS[model]
    strategy = distribution.make_strategy("none")
    # Read to its end in the first turn, which does not count: from then on it is in memory.
    with tempfile.TemporaryDirectory() as directory:
        _write_records(directory, *random_images(task, count))
        dataset = records.open_dataset(directory)
        augmentation = Augmentation(task.crop, border=task.border, mirror=task.mirror)
        what = (model, "float32", task.batch_size, 10)
        run, _ = steps.trainer(strategy, augmentation, what)
        schedule = Schedule(task.batch_size, epochs=1_000_000)
        batches = distributed_input.dealt(
            strategy, lambda context: training_inputs(dataset, augmentation, schedule)
        )
        train = steps.step_clock(run, batches)
        train(count // task.batch_size + 10)
    return {"tensorflow": tf.__version__}, clocked(task, train)


def _write_records(directory: str, images: np.ndarray, labels: np.ndarray) -> None:
    import pathlib

    import tensorflow as tf
    import tensorflow_datasets as tfds

    from alexnet_tf.data import records

    names = [f"class{number}" for number in range(10)]
    path = pathlib.Path(directory) / f"{records.DATASET_NAME}-train.tfrecord-00000-of-00001"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            example = records.encode_example(image.tobytes(), label, f"{number}", names[label])
            writer.write(example)
    form = records.RecordFormat(images.shape[1], images.shape[3], "raw")
    features = records.tfds_features(form, names)
    tfds.folder_dataset.write_metadata(data_dir=directory, features=features)


def stock_keras(model: str, count: int, steps_per_execution: int = 1):
    """Keras' own layers, `fit` and `tf.data`."""
    import keras
    import tensorflow as tf

    task = TASKS[model]
    network = {"lenet5_softmax": _keras_lenet, "cifarnet": _keras_cifarnet}[model](keras, tf)
    network.compile(
        keras.optimizers.SGD(_RATE, _MOMENTUM),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,  # XLA is slower on a processor
        steps_per_execution=steps_per_execution,
    )

    def augment(image, label):
        if task.border:
            image = tf.image.pad_to_bounding_box(
                image, task.border, task.border, *[task.side + 2 * task.border] * 2
            )
        image = tf.image.random_crop(image, (task.crop, task.crop, task.channels))
        image = tf.image.random_flip_left_right(image) if task.mirror else image
        return tf.cast(image, tf.float32), label

    data = tf.data.Dataset.from_tensor_slices(random_images(task, count))
    data = data.shuffle(count).repeat().map(augment, num_parallel_calls=tf.data.AUTOTUNE)
    data = data.batch(task.batch_size, drop_remainder=True).prefetch(tf.data.AUTOTUNE)

    # Without its return, which frees the iterator: that waits for tf.data's tuning, for seconds.
    ends = []
    watch = keras.callbacks.LambdaCallback(on_train_end=lambda _: ends.append(time.perf_counter()))

    def train(steps: int):
        network.fit(data, steps_per_epoch=steps, verbose=0, callbacks=[watch])

    train(32)
    return {"keras": keras.__version__}, clocked(task, train, lambda: ends[-1])


def _keras_lenet(keras, tf):
    layers = keras.layers
    network = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            *[layers.Rescaling(1 / 127.5, -1), layers.ZeroPadding2D(2)],
            *[layers.Conv2D(6, 5, activation="tanh"), layers.AveragePooling2D(2)],
            *[layers.Conv2D(16, 5, activation="tanh"), layers.AveragePooling2D(2)],
            *[layers.Conv2D(120, 5, activation="tanh"), layers.Flatten()],
            *[layers.Dense(84, activation="tanh"), layers.Dense(10)],
        ]
    )
    assert network.count_params() == 61_706
    return network


def _keras_cifarnet(keras, tf):
    layers = keras.layers

    class Norm(layers.Layer):
        def call(self, x):
            return tf.nn.local_response_normalization(x, 4, bias=1.0, alpha=1e-3 / 9, beta=0.75)

    class Local(layers.Layer):
        def __init__(self, filters, **arguments):
            super().__init__(**arguments)
            self.filters = filters

        def build(self, shape):
            _, height, width, channels = shape
            self.kernel = self.add_weight(
                shape=(height, width, 9 * channels, self.filters),
                regularizer=keras.regularizers.L2(0.002),
            )
            self.bias = self.add_weight(shape=(height, width, self.filters), initializer="zeros")

        def call(self, x):
            ones = [1, 1, 1, 1]
            patches = tf.image.extract_patches(x, [1, 3, 3, 1], ones, ones, "SAME")
            return tf.einsum("bhwi,hwio->bhwo", patches, self.kernel) + self.bias

    network = keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            layers.Rescaling(1.0, -120.0),
            *[layers.Conv2D(64, 5, padding="same", activation="relu")],
            *[layers.MaxPooling2D(3, 2, padding="same"), Norm()],
            *[layers.Conv2D(64, 5, padding="same", activation="relu"), Norm()],
            *[layers.MaxPooling2D(3, 2, padding="same")],
            *[Local(64), layers.ReLU(), Local(32), layers.ReLU(), layers.Flatten()],
            layers.Dense(10, kernel_regularizer=keras.regularizers.L2(0.005)),
        ]
    )
    assert network.count_params() == 2_112_970
    return network


def pytorch(model: str, count: int):
    """PyTorch, eager; whole batches are cropped and mirrored at once."""
    import torch

    task = TASKS[model]
    network = {"lenet5_softmax": _torch_lenet, "cifarnet": _torch_cifarnet}[model](torch)
    wanted = {"lenet5_softmax": 61_706, "cifarnet": 2_112_970}[model]
    assert sum(values.numel() for values in network.parameters()) == wanted
    network = network.to(memory_format=torch.channels_last)
    decays = {"local3": 0.004, "local4": 0.004, "fc10": 0.01}
    groups = [
        {
            "params": [values],
            "weight_decay": decays.get(name.split(".")[0], 0.0) if "bias" not in name else 0.0,
        }
        for name, values in network.named_parameters()
    ]
    optimizer = torch.optim.SGD(groups, lr=_RATE, momentum=_MOMENTUM)
    pixels, labels = map(torch.from_numpy, random_images(task, count))
    border = (0, 0, *[task.border] * 4)
    pixels = torch.nn.functional.pad(pixels, border)
    rows = torch.arange(task.crop)

    def batches():
        while True:
            order = torch.randperm(count)
            for begin in range(0, count - task.batch_size + 1, task.batch_size):
                yield order[begin : begin + task.batch_size]

    endless = batches()

    def train(steps: int):
        for _ in range(steps):
            chosen = next(endless)
            corners = torch.randint(pixels.shape[1] - task.crop + 1, (2, len(chosen), 1))
            columns = rows.expand(len(chosen), -1)
            if task.mirror:
                turned = torch.rand(len(chosen), 1) < 0.5
                columns = torch.where(turned, task.crop - 1 - columns, columns)
            down, across = corners[0] + rows, corners[1] + columns
            images = pixels[chosen[:, None, None], down[:, :, None], across[:, None, :]]
            images = images.permute(0, 3, 1, 2).float() - 120.0
            optimizer.zero_grad(set_to_none=True)
            loss = torch.nn.functional.cross_entropy(network(images), labels[chosen])
            loss.backward()
            optimizer.step()
        loss.item()

    train(10)
    return {"torch": torch.__version__, "threads": torch.get_num_threads()}, clocked(task, train)


def _torch_lenet(torch):
    nn = torch.nn
    return nn.Sequential(
        *[nn.ZeroPad2d(2), nn.Conv2d(1, 6, 5), nn.Tanh(), nn.AvgPool2d(2)],
        *[nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2)],
        *[nn.Conv2d(16, 120, 5), nn.Tanh(), nn.Flatten()],
        *[nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10)],
    )


def _torch_cifarnet(torch):
    nn = torch.nn

    class Local(nn.Module):
        def __init__(self, channels, filters, positions):
            super().__init__()
            kernel = 0.04 * torch.randn(positions, 9 * channels, filters)
            self.kernel = nn.Parameter(kernel)
            self.bias = nn.Parameter(torch.zeros(positions, 1, filters))

        def forward(self, x):
            height, width = x.shape[2:]
            patches = nn.functional.unfold(x, 3, padding=1).permute(2, 0, 1)
            y = torch.baddbmm(self.bias, patches, self.kernel)  # (positions, b, filters)
            return y.permute(1, 2, 0).reshape(len(x), -1, height, width)

    def norm():
        # PyTorch divides alpha by the window.
        return nn.LocalResponseNorm(9, alpha=1e-3, beta=0.75, k=1.0)

    def pool():
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    layers = collections.OrderedDict(
        {
            "conv1": nn.Conv2d(3, 64, 5, padding=2),
            **{"relu1": nn.ReLU(), "pool1": pool(), "norm1": norm()},
            "conv2": nn.Conv2d(64, 64, 5, padding=2),
            **{"relu2": nn.ReLU(), "norm2": norm(), "pool2": pool()},
            **{"local3": Local(64, 64, 36), "relu3": nn.ReLU()},
            **{"local4": Local(64, 32, 36), "relu4": nn.ReLU()},
            **{"flatten": nn.Flatten(), "fc10": nn.Linear(6 * 6 * 32, 10)},
        }
    )
    return nn.Sequential(layers)


PEERS = {
    "ours": ours,
    "keras": stock_keras,
    "keras_many": lambda *args: stock_keras(*args, steps_per_execution=32),
    "torch": pytorch,
}


if __name__ == "__main__":
    name, model, count = sys.argv[1:]
    peers.serve(lambda: PEERS[name](model, int(count)))
