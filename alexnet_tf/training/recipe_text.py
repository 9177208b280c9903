"""A recipe for people: what each field means, and which fields differ from the recipe's."""

import dataclasses
import inspect
import re
import textwrap

from alexnet_tf.training.recipes import Recipe

# Every field is in one group; a test holds that.
GROUPS = {
    "Network": ("model", "initializer", "dropout", "weights", "precision"),
    "Length and rates": (
        "epochs",
        "batch_size",
        "learning_rate",
        "schedule",
        "rate_steps",
        "warmup_epochs",
        "patience",
        "bias_learning_rate",
        "bias_rate_steps",
        "conv1_rate_steps",
        "body_learning_rate",
    ),
    "Optimiser and loss": (
        "momentum",
        "weight_decay",
        "layer_weight_decay",
        "bias_weight_decay",
        "class_weight",
    ),
    "Images": ("image_size", "crop_size", "border", "mirror", "crop_group", "mean"),
    "Colour noise": ("colour_noise", "colour_noise_epochs"),
}
_WIDTH = 100
_LABEL = max(map(len, GROUPS)) + 4


def explanations() -> dict[str, str]:
    """Field -> its meaning, unit and values, as the docstring of `Recipe` says them."""
    attributes = inspect.cleandoc(Recipe.__doc__ or "").partition("Attributes:\n")[2]
    found = re.findall(r"^  (\w+): (.*?)(?=^  \w+: |\Z)", attributes, re.MULTILINE | re.DOTALL)
    return {field: " ".join(text.split()) for field, text in found}


def described(name: str, recipe: Recipe, original: Recipe) -> str:
    """The recipe as lines, a group of fields in each; a star is at what was changed.

    Fields that have no value (such as weights) are left out, unless they were changed.

    Args:
      name: of the original.
      recipe: what is trained.
      original: the recipe of that name.
    """
    changed = [
        field.name
        for field in dataclasses.fields(Recipe)
        if getattr(recipe, field.name) != getattr(original, field.name)
    ]
    lines = [f"Recipe {name}" + (", changed where there is a *" if changed else "")]
    for group, fields in GROUPS.items():
        entries = [
            _entry(field, recipe, original, field in changed)
            for field in fields
            if field in changed or getattr(recipe, field) not in (None, ())
        ]
        # An entry is not broken over two lines.
        text = "  ".join(entry.replace(" ", "\0") for entry in entries)
        wrapped = textwrap.wrap(
            text,
            _WIDTH,
            initial_indent=f"  {group}".ljust(_LABEL),
            subsequent_indent=" " * _LABEL,
            break_long_words=False,
            break_on_hyphens=False,
        )
        lines += [line.replace("\0", " ") for line in wrapped]
    return "\n".join(lines)


def _entry(field: str, recipe: Recipe, original: Recipe, changed: bool) -> str:
    value = _value(getattr(recipe, field))
    if not changed:
        return f"{field}={value}"
    return f"*{field}={value} (not {_value(getattr(original, field)) or 'set'})"


def _value(value) -> str:
    """As the flag takes it."""
    if isinstance(value, tuple):
        return ",".join(f"{_value(key)}:{_value(number)}" for key, number in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)
