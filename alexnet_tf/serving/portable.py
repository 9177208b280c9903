"""Exports ONNX and LiteRT files and compares them with the network on real images.

Both hold the bare network, from float32 crops (b, crop, crop, channels), RGB, 0..255, to
probabilities. The caller decodes, resizes and crops (`preprocessing.evaluation_crop`).
"""

import dataclasses
import json
import warnings
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from alexnet_tf import files, quiet
from alexnet_tf.data import evaluation_data, preprocessing, records
from alexnet_tf.models import card, saved_run
from alexnet_tf.serving import integers, onnx_conversion

QUANTIZATIONS = ("float32", "float16", "dynamic_int8", "int8")
_PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "retina", "hubble_deep_field")
# Images for the comparison; "int8" uses the same number of others to calibrate ranges.
COMPARED = 128
MIN_AGREEMENT = 0.95
_BATCH = 16  # a larger one takes more memory than AlexNet's weights
LABELS_FILE, KNOWLEDGE_FILE = "labels.txt", "knowledge.json"


@dataclasses.dataclass(frozen=True)
class Parity:
    """Agreement of an exported file with its network.

    Attributes:
      images: number of images compared.
      largest_difference: largest absolute difference of any probability.
      top1_agreement: fraction of images with the same most probable class.
    """

    images: int
    largest_difference: float
    top1_agreement: float


def sample_crops(
    network: saved_run.TrainedModel, data_dir: str | None, split: str, count: int = COMPARED
) -> np.ndarray:
    """Returns real images as network input: float32 (n, crop, crop, channels), 0..255.

    Args:
      network: determines input size and channels.
      data_dir: a prepared data set, or None for photographs that scikit-image ships.
      split: a split of the data set.
      count: maximum n. A smaller split gives all its images; there are twelve photographs.
    """
    if data_dir is not None:
        dataset = records.open_dataset(data_dir)
        dataset = dataset.viewed(network.image_size, network.channels, network.apply_exif)
        batch = min(count, dataset.counts.get(split, 0) or count)
        batches = evaluation_data.evaluation_batches(dataset, split, batch, network.crop_size)
        if dataset.format.channels != network.channels:
            raise ValueError(
                f"{data_dir} stores {dataset.format.channels} channel(s), but the network takes "
                f"{network.channels}: name the data that it was trained on."
            )
        images, _, _ = next(iter(batches))
        return images[:, 0].numpy().astype(np.float32)
    import skimage.data

    photographs = [getattr(skimage.data, name)()[..., :3] for name in _PHOTOGRAPHS]
    if network.channels == 1:
        photographs = [tf.image.rgb_to_grayscale(photograph) for photograph in photographs]
    crops = [
        preprocessing.evaluation_crop(tf.constant(part), network.crop_size, network.image_size)
        for photograph in photographs
        for part in (photograph, photograph[: len(photograph) // 2])
    ]
    return np.stack(crops)


def export_onnx(
    network: saved_run.TrainedModel,
    class_names,
    output: str,
    crops: np.ndarray,
    min_agreement: float = MIN_AGREEMENT,
) -> Parity:
    """Writes an ONNX file with input "crops", output "probabilities" and class names as metadata.

    Args:
      network: the classifier.
      class_names: one per output; in the metadata under "class_names", as JSON.
      output: path ending in .onnx; written to a temporary name and renamed.
      crops: images for the comparison, from `sample_crops`.
      min_agreement: minimum fraction of images with the network's most probable class.

    Raises:
      ValueError: another file name, missing packages, or a file that disagrees with the network.
    """
    _require_ending(output, ".onnx")
    try:
        import onnx
        import onnxruntime
        import tf2onnx  # noqa: F401 (reports its absence here, like that of the others)
    except ImportError as error:
        raise ValueError(
            f"ONNX needs the package {error.name}: pip install 'alexnet-tf[onnx]'."
        ) from error
    with files.replacing(output) as path:
        model = onnx_conversion.convert(network.model)
        for key, value in (
            ("class_names", json.dumps(list(class_names))),
            ("image_size", str(network.image_size)),
            ("knowledge", json.dumps(network.known)),
            ("card", card.of_run(network)),
        ):
            model.metadata_props.add(key=key, value=value)
        onnx.checker.check_model(model)
        onnx.save(model, path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        parity = _compare(network, lambda x: session.run(None, {"crops": x})[0], crops)
        _require_agreement(parity, output, min_agreement)
    return parity


def export_litert(
    network: saved_run.TrainedModel,
    class_names,
    output: str,
    crops: np.ndarray,
    quantization: str = "float32",
    min_agreement: float = MIN_AGREEMENT,
) -> Parity:
    """Writes a LiteRT (TensorFlow Lite) file.

    Args:
      network: the classifier.
      class_names: one per output; written as lines of labels.txt into a zip archive at the file's
        end, following LiteRT's metadata convention, beside the network's metadata,
        knowledge.json.
      output: path ending in .tflite; written to a temporary name and renamed.
      crops: real images for the comparison. With "int8", every second one calibrates the ranges
        and the others are compared.
      quantization: "float32", "float16" (weights), "dynamic_int8" (weights) or "int8" (weights and
        arithmetic except response normalisation; input and output stay float32).
      min_agreement: minimum fraction of images with the network's most probable class.

    Raises:
      ValueError: another file name or quantization, a network that LiteRT cannot convert, or a
        file that disagrees with the network.
    """
    _require_ending(output, ".tflite")
    if quantization not in QUANTIZATIONS:
        raise ValueError(f"There is no quantization {quantization!r}: use one of {QUANTIZATIONS}.")
    learnt_from = None
    if quantization == "int8":
        if len(crops) < 2:
            raise ValueError(
                f"Found {len(crops)} image(s): int8 needs at least 2, one to learn ranges from and "
                "another one to compare on."
            )
        learnt_from, crops = crops[::2], crops[1::2]
    content = _litert(network, quantization, learnt_from)
    with files.replacing(output) as path:
        with open(path, "wb") as file:
            file.write(content)
        with zipfile.ZipFile(path, "a") as archive:  # appends an archive to the file
            # An explicit ZipInfo has no timestamp: the same network gives the same bytes.
            text = "".join(f"{name}\n" for name in class_names)
            archive.writestr(zipfile.ZipInfo(LABELS_FILE), text)
            facts = {**network.known, "image_size": network.image_size}
            archive.writestr(zipfile.ZipInfo(KNOWLEDGE_FILE), json.dumps(facts))
            archive.writestr(zipfile.ZipInfo(card.CARD_FILE), card.of_run(network))
        runner = litert_runner(path)
        parity = _compare(network, lambda x: run_one_by_one(runner, x), crops)
        _require_agreement(parity, output, min_agreement)
    return parity


def _litert(network, quantization, learnt_from) -> bytes:
    model = network.model if learnt_from is None else integers.for_integers(network.model)
    shape = (None, network.crop_size, network.crop_size, network.channels)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="crops")])
    def bare(crops):
        return {"probabilities": model(crops, training=False)}

    holder = tf.Module()
    holder.weights = [variable.value for variable in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [bare.get_concrete_function()], holder
    )
    if quantization != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if quantization == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if learnt_from is not None:
        converter.representative_dataset = lambda: ([crop[None]] for crop in learnt_from)
    try:
        return converter.convert()
    # The quantiser raises RuntimeError, the converter its own Exception.
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise ValueError(
            f"LiteRT's converter refuses the network as {quantization} ({reason}): choose another "
            "--quantization."
        ) from error


def litert_runner(path: str) -> Any:
    """Returns the file's only signature: a function crops= -> {"probabilities"}.

    Raises:
      ValueError: not a LiteRT file, or one without a signature.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        Interpreter = tf.lite.Interpreter
    # It logs that it is deprecated in TensorFlow, and that it created a delegate.
    with warnings.catch_warnings(), quiet.standard_error_aside():
        warnings.simplefilter("ignore")
        runner = Interpreter(model_path=path).get_signature_runner()
        shape = runner.get_input_details()["crops"]["shape"]
        runner(crops=np.zeros(shape, np.float32))  # the first call creates the delegate
    return runner


def run_one_by_one(runner, crops: np.ndarray) -> np.ndarray:
    """Computes probabilities one crop at a time, with a fixed shape as on a device."""
    return np.concatenate([runner(crops=crop[None])["probabilities"] for crop in crops])


def _compare(network, run: Callable[[np.ndarray], np.ndarray], crops: np.ndarray) -> Parity:
    wanted = network.model.predict(crops, batch_size=_BATCH, verbose=0)
    found = np.concatenate([run(crops[n : n + _BATCH]) for n in range(0, len(crops), _BATCH)])
    if found.shape != wanted.shape or not np.isfinite(found).all():
        raise ValueError(
            f"The exported file gives {found.shape} (finite: {np.isfinite(found).all()}), expected "
            f"{wanted.shape}: it is not written."
        )
    return Parity(
        images=len(crops),
        largest_difference=float(np.abs(found - wanted).max()),
        top1_agreement=float((found.argmax(1) == wanted.argmax(1)).mean()),
    )


def _require_agreement(parity: Parity, output: str, least: float) -> None:
    if parity.top1_agreement < least:
        raise ValueError(
            f"{output} is not written: its most probable class is the network's for only "
            f"{parity.top1_agreement:.1%} of {parity.images} images, expected {least:.1%}. "
            "Choose another --quantization, images like those of the training with --data_dir, or "
            "a lower --min_agreement."
        )


def _require_ending(output: str, ending: str) -> None:
    if not output.endswith(ending):
        raise ValueError(f"{output} should end in {ending}: --output names the file here.")
