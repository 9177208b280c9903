"""Data that several rooms' tests read: a few of the embedded photographs, prepared once, and small
data sets of any shape."""

import ctypes
import dataclasses
import gc
import io
import os

import numpy as np
import pytest
import skimage.data
from PIL import Image

from alexnet_tf import memory

# As in the commands: see alexnet_tf/cli.py.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
# Tests compare float32 results; on a GPU TensorFloat-32 would round the factors to 10 bits.
os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")


def pytest_configure(config):
    """Two logical devices for the strategies' tests: to be asked for before anything runs."""
    import tensorflow as tf

    parts = {"CPU": tf.config.LogicalDeviceConfiguration()}
    if len(tf.config.list_physical_devices("GPU")) == 1:
        parts["GPU"] = tf.config.LogicalDeviceConfiguration(memory_limit=6144)
    for kind, part in parts.items():
        device = tf.config.list_physical_devices(kind)[0]
        tf.config.set_logical_device_configuration(device, [part] * 2)


@pytest.fixture(autouse=True, scope="session")
def _freed_memory_is_not_kept():
    """What a command does for its own process, the tests' process would do for all that follow."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "keep_freed_memory", lambda: None)
        yield


def _release_memory():
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # glibc keeps what is freed below what is in use
        trim(0)


@pytest.fixture(autouse=True, scope="module")
def _networks_are_let_go():
    """Keras' networks are circles of references: without this a suite of them fills the memory."""
    yield
    _release_memory()


@pytest.fixture(scope="session")
def release_memory():
    """A function that gives back what dead networks held, for tests that build many."""
    return _release_memory


PHOTOGRAPHS = (
    "astronaut",
    "chelsea",
    "coffee",
    "rocket",
    "retina",
    "hubble_deep_field",
    "immunohistochemistry",
)


@pytest.fixture(scope="session")
def photo_records(tmp_path_factory) -> str:
    """A prepared data set of 96 training and 42 validation images in 14 classes."""
    from data_prep import photos

    return photos.prepare_photos(
        str(tmp_path_factory.mktemp("photographs") / "records"), train=96, validation=42
    )


def crops(count, size, seed=0):
    """`count` uint8 (size, size, 3) windows, in turn of each of the photographs."""
    rng = np.random.default_rng(seed)
    photographs = [getattr(skimage.data, name)() for name in PHOTOGRAPHS]
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        top = rng.integers(photograph.shape[0] - size + 1)
        left = rng.integers(photograph.shape[1] - size + 1)
        yield photograph[top : top + size, left : left + size, :3]


@pytest.fixture(scope="session")
def photo_crops():
    """The function `crops`, for tests that want pixels and no data set."""
    return crops


def encode_jpeg(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


@pytest.fixture
def make_dataset(tmp_path):
    """A function that writes a data set and returns (directory, images, labels)."""

    def make(count, size=256, encoding="raw", classes=7, shards=2, labels=None):
        import tensorflow as tf
        import tensorflow_datasets as tfds

        from alexnet_tf.data import records

        directory = tmp_path / f"data{len(list(tmp_path.iterdir()))}"
        directory.mkdir()
        images = list(crops(count, size))
        labels = [n % classes for n in range(count)] if labels is None else list(labels)
        synsets = [f"n{n:08d}" for n in range(classes)]
        # Uneven shards: the last one takes what is left.
        bounds = [n * (count // shards) for n in range(shards)] + [count]
        for shard in range(shards):
            name = f"imagenet-validation.tfrecord-{shard:05d}-of-{shards:05d}"
            with tf.io.TFRecordWriter(str(directory / name)) as writer:
                for n in range(bounds[shard], bounds[shard + 1]):
                    image = images[n].tobytes() if encoding == "raw" else encode_jpeg(images[n])
                    # A label of -1 stands for none, as in TFDS.
                    synset = synsets[labels[n]] if labels[n] >= 0 else ""
                    writer.write(records.encode_example(image, labels[n], f"{n}.jpg", synset))
        # TFDS counts the records itself, and then reads one, where there is one.
        tfds.folder_dataset.write_metadata(
            data_dir=str(directory),
            features=records.tfds_features(records.RecordFormat(size, 3, encoding), synsets),
            check_data=bool(count),
        )
        pixels = np.stack(images) if images else np.zeros((0, size, size, 3), np.uint8)
        return str(directory), pixels, np.array(labels, int)

    return make


# torchvision's AlexNet with few maps, here and in PyTorch: for what does not depend on size.
MAPS, UNITS, SIDE, CLASSES = (6, 8, 8, 6, 6), 16, 95, 10


@pytest.fixture(scope="session")
def small_owt():
    """The name of the variant: images of 95 pixels, last maps of 2x2."""
    from alexnet_tf.models import alexnet, catalog
    from alexnet_tf.models.spec import Conv, Dense

    maps = iter(MAPS)

    def narrow(entry):
        if isinstance(entry, Conv):
            return dataclasses.replace(entry, filters=next(maps))
        if isinstance(entry, Dense) and entry.units:
            return dataclasses.replace(entry, units=UNITS)
        return entry

    source = alexnet.ALEXNET_OWT
    variant = dataclasses.replace(
        source,
        name="small_owt",
        crop_size=SIDE,
        classes=CLASSES,
        features=tuple(map(narrow, source.features)),
        top=tuple(map(narrow, source.top)),
    )
    catalog.add_variant(variant)
    return variant.name


@pytest.fixture(scope="session")
def small_torch():
    """The same network in PyTorch, with weights that keep the signal visible."""
    torch = pytest.importorskip("torch")
    nn = torch.nn
    a, b, c, d, e = MAPS

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                *(nn.Conv2d(3, a, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
                *(nn.Conv2d(a, b, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
                *(nn.Conv2d(b, c, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(c, d, 3, padding=1), nn.ReLU()),
                *(nn.Conv2d(d, e, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
            )
            self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
            self.classifier = nn.Sequential(
                *(nn.Dropout(), nn.Linear(4 * e, UNITS), nn.ReLU()),
                *(nn.Dropout(), nn.Linear(UNITS, UNITS), nn.ReLU()),
                nn.Linear(UNITS, CLASSES),
            )

        def forward(self, x):
            return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))

    torch.manual_seed(4)
    network = Small().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.mul_(2.5)
    return network
