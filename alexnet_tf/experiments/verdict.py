"""A self-contained page about one network trained for table 1."""

import base64
import dataclasses
import html
import io
import json
import math
import os
from collections.abc import Mapping

from alexnet_tf import files, machine
from alexnet_tf.analysis import plots
from alexnet_tf.data import imagenet
from alexnet_tf.experiments import milestones, published
from alexnet_tf.experiments.results import Context
from alexnet_tf.training import recipes

_STYLE = """
:root { color-scheme: light dark; }
body { font-family: system-ui, sans-serif; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem;
  line-height: 1.45; }
table { border-collapse: collapse; display: block; overflow-x: auto; }
th, td { border: 1px solid #8886; padding: 0.35rem 0.6rem; text-align: left; vertical-align: top; }
img { max-width: 100%; background: white; }
code { overflow-wrap: anywhere; }
"""
# What the paper does and no run here can, whatever its recipe.
_ALWAYS = (
    "The paper's table 1 is of ILSVRC-2010's test images; here the errors are of the data set's "
    "validation split.",
    "Images were resized by area averaging and stored as the preparation's settings say; how the "
    "authors resized theirs is not published.",
)


def write(context: Context, workdir: str, scores: Mapping[int, dict]) -> str:
    """Writes verdict.html into a network's workdir.

    Args:
      context: the experiment's context.
      workdir: the trained network's workdir.
      scores: number of crops -> the result of `evaluation.evaluate`.

    Returns:
      The page's path.
    """
    with open(os.path.join(workdir, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    path = os.path.join(workdir, "verdict.html")
    files.write_text(path, _page(context, workdir, config, scores))
    return path


def deviations(context: Context, recipe: dict, classes: int, train: int) -> list[str]:
    """How a run differs from the authors' run, in sentences.

    Args:
      context: the experiment's context.
      recipe: the run's recipe, as in config.json.
      classes, train: numbers of classes and of training images in the data set.
    """
    found = list(_ALWAYS)
    if classes != 1000 or train not in {year.train for year in imagenet.CHALLENGES}:
        found.append(f"The data are {context.data}, not ILSVRC with 1000 classes.")
    if context.scale.narrowing > 1:
        found.append(
            f"Maps and units of each layer were divided by {context.scale.narrowing}: this is not "
            "the published network."
        )
    if not context.scale.measures:
        found.append("This is a smoke run on a few images: its errors measure nothing.")
    authors = dataclasses.asdict(recipes.SOURCE_145)
    for name, value in json.loads(json.dumps(authors)).items():
        if name != "model" and recipe.get(name) != value:
            found.append(f"Recipe: {name} is {recipe.get(name)!r}; the authors' is {value!r}.")
    return found


def _page(context: Context, workdir: str, config: dict, scores: Mapping[int, dict]) -> str:
    classes, counts = len(config["class_names"]), config["counts"]
    known = config["knowledge"]["lineage"]
    facts = {
        "network": config["recipe"]["model"],
        "data": context.data,
        "data fingerprint": known["data"],
        "training / validation images": f"{counts['train']:,} / {counts['validation']:,}",
        "seed": config["seed"],
        "replicas": f"{config['replicas']} ({config['strategy']})",
        "compiled by XLA": "yes" if config["jit_compile"] else "no",
        "versions": ", ".join(f"{name} {value}" for name, value in config["versions"].items()),
        "commit": config["git_commit"] or "an installed package",
        **machine.describe(),
    }
    metrics = plots.read_curves(workdir)
    hours = float(metrics["seconds"].sum()) / 3600
    facts["training took"] = f"{hours:.2f} hours, {len(metrics['epoch'])} epoch(s)"
    parts = ["<h1>AlexNet, measured beside published</h1>", _scores(scores, context)]
    parts += [_curve(metrics, classes), "<h2>What was run</h2>", _facts(facts)]
    warned = [
        f"epoch {int(row['epoch'])}: {text}"
        for row in _rows(metrics)
        for text in milestones.warnings(row, classes)
    ]
    parts += ["<h2>What was off on the way</h2>", _list(warned or ["Nothing was noticed."])]
    found = deviations(context, config["recipe"], classes, counts["train"])
    parts += ["<h2>Deviations from the paper</h2>", _list(found)]
    recipe = {name: json.dumps(value) for name, value in config["recipe"].items()}
    parts += ["<h2>Recipe</h2>", _facts(recipe)]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>AlexNet, measured beside published</title><style>{_STYLE}</style></head><body>"
        f"<main>{''.join(parts)}</main></body></html>\n"
    )


def _scores(scores: Mapping[int, dict], context: Context) -> str:
    claims = {1: published.ONE_CROP_2010, 10: published.ONE_NETWORK_2010}
    lines = ["<table><tr><th></th><th>top-1 error</th><th>top-5 error</th><th>published</th></tr>"]
    for crops, scored in sorted(scores.items()):
        cells = []
        for name in ("top1", "top5"):
            low, high = scored[f"{name}_error_interval_95"]
            cells.append(f"{scored[f'{name}_error']:.1%} ({low:.1%} to {high:.1%})")
        words = "one crop" if crops == 1 else f"{crops} crops"
        claim = claims[crops]
        cells.append(html.escape(f"{claim.value} on {claim.data}, {claim.source}"))
        lines.append(f"<tr><th>{words}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    count = next(iter(scores.values()))["count"]
    text = html.escape(f"{count:,} validation images of {context.data}")
    return "".join(lines) + f"</table><p>In brackets Wilson's 95 % interval, over {text}.</p>"


def _rows(metrics) -> list[dict]:
    names = ("epoch", "loss", "top1_error", "validation_top1_error")
    rows = zip(*(metrics[name] for name in names), strict=True)
    return [dict(zip(names, map(_known, row), strict=True)) for row in rows]


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _curve(metrics, classes: int) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), dpi=110, layout="constrained")
    axes = figure.subplots()
    plots.draw_curve(axes, metrics)
    for one in milestones.milestones(classes):
        if one.top1_error is not None:
            axes.axhline(one.top1_error, color="#777777", linewidth=0.8, linestyle=":")
            axes.annotate(
                f"{one.when}: {one.top1_error:.1%}",
                (1, one.top1_error),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=7,
                color="#444444",
            )
    content = io.BytesIO()
    figure.savefig(content, format="png")
    encoded = base64.b64encode(content.getvalue()).decode()
    text = "Top-1 error over epochs; dotted lines are published points."
    return f'<figure><img alt="{text}" src="data:image/png;base64,{encoded}">' + (
        f"<figcaption>{text}</figcaption></figure>"
    )


def _facts(facts: Mapping[str, object]) -> str:
    rows = (
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _list(texts) -> str:
    return "<ul>" + "".join(f"<li>{html.escape(text)}</li>" for text in texts) + "</ul>"
