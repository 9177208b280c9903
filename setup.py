"""Packaging of alexnet_tf. Tool settings are in pyproject.toml."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(
    r'__version__ = "([^"]+)"', (ROOT / "alexnet_tf" / "__init__.py").read_text(encoding="utf-8")
).group(1)

# A floor is the oldest version that works and has no known hole that this package's use of it
# opens; tests/test_floors.py has the holes.
# CVE-2025-27516: templates that leave the sandbox, before Jinja2 3.1.6.
PLOTS = ["matplotlib>=3.8", "jinja2>=3.1.6"]
# TensorFlow writes event files, and from 2.21 on does not bring the program that shows them.
TENSORBOARD = ["tensorboard>=2.20"]
DEMO = [*PLOTS, *TENSORBOARD, "scikit-learn>=1.5"]  # CVE-2024-5206: data kept in a fitted model
# Parquet files as sources of images.
DATA = ["pyarrow>=15"]  # CVE-2023-47248: code in Parquet files, before 14.0.1
# Serving itself needs nothing more; these are the protocol's own messages, to build on.
SERVING = ["tensorflow-serving-api>=2.20"]
# CVE-2026-27489, -34446, -34447: graphs that read other files, before onnx 1.21.
ONNX = ["onnx>=1.21", "onnxruntime>=1.18", "tf2onnx>=1.17"]
# Files of PyTorch and safetensors are read without these: they are the tests' oracles and the
# benchmarks' peers. CVE-2025-32434 and CVE-2026-24747: code in weights, before torch 2.10.
TORCH = ["torch>=2.10", "safetensors>=0.5", "onnxscript>=0.5"]
# Networks on the Hugging Face Hub, hf://OWNER/NAME.
HUB = ["huggingface_hub>=0.30"]
# Pins an older protobuf than TensorFlow takes: give it an environment of its own.
BEAM = ["apache-beam>=2.60"]
# Without PyTorch: its default build brings gigabytes of CUDA. Tests that want it skip without it.
TEST = [*DEMO, *DATA, *SERVING, *ONNX, *HUB, "openvino>=2024.4", "pytest>=8", "pytest-xdist>=3.6"]
TEST += ["hypothesis>=6.100"]
TEST += ["xarray>=2024.1", "h5netcdf>=1.3"]
TEST += ["playwright>=1.45", "psutil>=5.9", "pyyaml>=6"]
TEST += ["uv>=0.5"]  # resolves against what Google Colab ships
DOCS = ["mkdocs>=1.6,<2", "mkdocs-material>=9.5", "mkdocstrings[python]>=0.26"]
NOTEBOOK = ["nbclient>=0.10", "ipykernel>=6.29", *PLOTS]
DEV = [*TEST, *DOCS, *NOTEBOOK, "ruff>=0.6", "mypy>=1.11", "build>=1.2", "pre-commit>=3.8"]

# The same commands as `python -m alexnet_tf.X`, under names that collide with nobody's.
COMMANDS = {
    "analyze": "alexnet_tf.analyze",
    "atlas": "alexnet_tf.atlas",
    "benchmark": "alexnet_tf.benchmark",
    "convert": "data_prep.convert",
    "evaluate": "alexnet_tf.evaluate",
    "export": "alexnet_tf.export",
    "features": "alexnet_tf.features",
    "identify": "alexnet_tf.identify",
    "import-weights": "alexnet_tf.import_weights",
    "photos": "data_prep.photos",
    "predict": "alexnet_tf.predict",
    "reproduce": "alexnet_tf.reproduce",
    "train": "alexnet_tf.train",
    "verify": "data_prep.verify",
}

setup(
    name="alexnet-tf",
    version=VERSION,
    description="AlexNet in TensorFlow and Keras: the 2012 network, its data, training and serving",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["alexnet_tf", "alexnet_tf.*", "data_prep", "data_prep.*"]),
    # Nothing but these: MANIFEST.in says what the source archive holds, not what is installed.
    include_package_data=False,
    package_data={
        "alexnet_tf": ["py.typed", "*.pyi", "data/*.txt", "analysis/atlas/templates/*"],
        "data_prep": ["py.typed"],
    },
    entry_points={
        "console_scripts": [
            "alexnet-tf = alexnet_tf.__main__:main",
            *(f"alexnet-tf-{name} = {home}:main" for name, home in COMMANDS.items()),
        ]
    },
    install_requires=[
        # The oldest with which the quick tests of the networks, the data, training, evaluation and
        # export passed. TensorFlow 2.18 and 2.19 take no protobuf 6, which tensorflow-metadata,
        # and so TFDS, imports.
        "tensorflow>=2.20",
        # Holes in how Keras loads files (CVE-2025-8747, -9906, CVE-2026-1669, -0897) are no reason
        # for a newer one: alexnet_tf/models/keras_files.py looks at a file before Keras does.
        "keras>=3.10",
        "h5py>=3.11",
        "tensorflow-datasets>=4.9.10",  # 4.9.7 to 4.9.9 fail in training beside protobuf 7
        "importlib-resources>=6",  # TFDS imports it to build a data set and does not ask for it
        "numpy>=1.26",
        "absl-py>=2.1",
        # Of training from records on a local disk, and of the offline preparation.
        "simplejpeg>=1.7",
        # The offline preparation: photographs that ship in a wheel, and the resize.
        "scikit-image>=0.22",
        "scipy>=1.11",
        "opencv-python-headless>=4.12",  # CVE-2025-53644: writes outside of memory, JPEG
        "pillow>=12.3",  # CVE-2026-59199, CVE-2026-59204: writes outside of memory, JPEG 2000
        "tqdm>=4.66.3",  # CVE-2024-34062: code in its command's arguments
    ],
    extras_require={
        "plots": PLOTS,
        "tensorboard": TENSORBOARD,
        "demo": DEMO,
        "data": DATA,
        "serving": SERVING,
        "onnx": ONNX,
        "torch": TORCH,
        "beam": BEAM,
        "hub": HUB,
        "test": TEST,
        "docs": DOCS,
        "notebook": NOTEBOOK,
        "dev": DEV,
    },
)
