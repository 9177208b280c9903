"""Writes tests/testdata/golden/VARIANT.json for every variant: names, shapes, parameters.

    python tests/models/regenerate_golden.py

Run it after a change of a network that is meant, and read the difference before committing it.
"""

import json
import pathlib

import alexnet_tf

GOLDEN = pathlib.Path(__file__).parents[1] / "testdata" / "golden"


def describe(variant: str) -> dict:
    """What must not change unnoticed about a variant."""
    model = alexnet_tf.build_model(variant)
    layers = [
        {
            "name": layer.name,
            "type": type(layer).__name__,
            "output": list(layer.output.shape[1:]),
            "weights": {
                weight.path.split("/", 1)[1]: list(weight.shape) for weight in layer.weights
            },
        }
        for layer in model.layers
    ]
    trainable = sum(weight.numpy().size for weight in model.trainable_weights)
    return {
        "name": variant,
        "parameters": model.count_params(),
        "trainable": trainable,
        "layers": layers,
    }


def text(description: dict) -> str:
    """JSON with one line per layer, so that a difference can be read."""
    layers = ",\n  ".join(json.dumps(layer) for layer in description["layers"])
    head = {k: v for k, v in description.items() if k != "layers"}
    return json.dumps(head)[:-1] + ', "layers": [\n  ' + layers + "\n]}\n"


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for name in alexnet_tf.list_models():
        (GOLDEN / f"{name}.json").write_text(text(describe(name)), encoding="utf-8")
        print(f"wrote {GOLDEN / name}.json")
