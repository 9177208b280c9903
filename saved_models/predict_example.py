"""Predicts images with an exported model and TensorFlow alone: neither this package nor Keras.

python saved_models/predict_example.py saved_models/alexnet/1 PICTURE...
"""

import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow imports Keras by itself where it finds it. Here an import of either would fail.
sys.modules["keras"] = sys.modules["alexnet_tf"] = None


def import_tensorflow():
    """TensorFlow, without the lines about the machine that it writes while it is imported."""
    kept = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        import tensorflow as tf
    finally:
        os.dup2(kept, 2)
    return tf


def main(model: str, images: list[str]) -> None:
    tf = import_tensorflow()
    try:
        predict = tf.saved_model.load(model).signatures["serving_default"]
        files = [pathlib.Path(image).read_bytes() for image in images]
        outputs = predict(image_bytes=tf.constant(files))
    except OSError as error:
        sys.exit(f"error: {error}")
    except tf.errors.InvalidArgumentError as error:
        # It is the whole request that fails: ask about the images one by one to know which.
        sys.exit(f"error: an image was refused: {' '.join(error.message.split())}")
    for row, path in enumerate(images):
        best = zip(outputs["classes"][row].numpy(), outputs["scores"][row].numpy(), strict=True)
        answer = ", ".join(f"{name.decode()} {score:.1%}" for name, score in list(best)[:3])
        print(f"{'/'.join(path.split(os.sep)[-2:]):40} {answer}")
    print("Loaded with neither alexnet_tf nor Keras.")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: predict_example.py SAVED_MODEL_VERSION_DIRECTORY PICTURE...")
    main(sys.argv[1], sys.argv[2:])
