"""The interface of classifiers: encoded images in, predictions or an `ImageError` out."""

import re
from collections.abc import Callable

import numpy as np


class ImageError(ValueError):
    """The server or the model refused the images of a request."""


# Takes encoded images and returns the arrays of the serving_default signature. Raises ImageError
# if one of them is bad.
Classifier = Callable[[list[bytes]], dict[str, np.ndarray]]


def reason(message: str) -> str:
    """Extracts from TensorFlow's error message the line that says what is wrong with an image."""
    text = re.sub(r"\{\{function_node [^}]*\}\}\s*", "", message)
    # The reason precedes the node that failed: "...\n\t [[{{node map/while/...}}]]".
    lines = [line.strip() for line in text.split("[[{{node", 1)[0].split("\n") if line.strip()]
    line = lines[-1] if lines else "The image was refused."
    if "assertion failed:" in line:
        # Assert prints its data as a list, each element in brackets.
        line = line.split("assertion failed:", 1)[1].replace("[", "").replace("]", "")
    return line.strip()
