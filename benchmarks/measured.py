"""Writes the table and plots of measured results from results/*.json.

    python benchmarks/measured.py

fills the tables between `<!-- measured -->` and `<!-- end -->` of docs/reproducing.md and, short,
of README.md, which a test compares with the files; draws results/lenet5.png and quickstart.png.
"""

import json
import pathlib
import re
import sys

from alexnet_tf import files
from alexnet_tf.experiments.results import SCALES

HERE = pathlib.Path(__file__).resolve().parent
DOCUMENT, RESULTS = HERE.parent / "docs" / "reproducing.md", HERE / "results"
# Document -> how many of the table's columns it shows.
DOCUMENTS = {DOCUMENT: 6, HERE.parent / "README.md": 3}
_BLOCK = re.compile(r"(<!-- measured -->\n).*?(<!-- end -->)", re.DOTALL)
_NAMES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
# Published on the same data; only such numbers are shown beside a measured one.
_PUBLISHED = {"mnist": "0.95 % (LeCun et al. 1998, with their own output units and training)"}
_PUBLISHED_EPOCHS = 520  # of the CIFAR-10 networks
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def main() -> int:
    for document, columns in DOCUMENTS.items():
        files.write_text(document, render(document.read_text(encoding="utf-8"), RESULTS, columns))
    draw(RESULTS)
    return 0


def render(text: str, results: pathlib.Path, columns: int = 6) -> str:
    """`text` with the first `columns` of its table updated from the files in `results`."""
    titles = ["what", "published", "measured here", "seeds and spread", "training", "all numbers"]
    # The paper's data and networks first, the photographs last.
    kinds = (
        ("fig1_cifar10", _fig1),
        ("fig1_conditions", _fig1_conditions),
        ("cifar10_*", _cifar10),
        ("ablations_*", _ablations),
        ("lenet5_*", _lenet5),
        ("fig1_fashion*", _fig1),
        ("quickstart", _quickstart),
    )
    rows = []
    for pattern, of_kind in kinds:
        for file in _files(results, pattern):
            made = of_kind(file)
            rows += made if isinstance(made[0], list) else [made]
    rows = [row[:columns] for row in [titles, *rows]]
    lines = [_line(rows[0]), "|" + " --- |" * columns, *map(_line, rows[1:])]
    return _BLOCK.sub(lambda match: f"{match[1]}\n" + "\n".join(lines) + f"\n\n{match[2]}", text)


def draw(results: pathlib.Path) -> None:
    """lenet5.png and quickstart.png in `results`, of the files that are there."""
    of_lenet5 = [json.loads(file.read_text("utf-8")) for file in _files(results, "lenet5_*")]
    curves = {_name(one): one["test_error_by_epoch"] for one in of_lenet5}
    _draw_errors(results / "lenet5.png", "LeNet-5's recipe: error on the test set", curves)
    for file in _files(results, "quickstart"):
        runs = json.loads(file.read_text("utf-8"))["runs"]
        curves = {f"seed {run['seed']}": run["test_error_by_epoch"] for run in runs}
        title = "AlexNet, quickstart recipe: validation error on the photographs"
        _draw_errors(results / "quickstart.png", title, curves)


def _files(results: pathlib.Path, pattern: str) -> list[pathlib.Path]:
    return sorted(results.glob(f"{pattern}.json"), reverse=True)  # MNIST before Fashion-MNIST


def _lenet5(file: pathlib.Path) -> list[str]:
    one = json.loads(file.read_text("utf-8"))
    low, high = one["test_error_interval_95"]
    images, name = one["pictures"]["validation"], _name(one)
    return [
        f"LeNet-5's recipe (`{one['recipe']['model']}`) on {name}",
        _PUBLISHED.get(one["data"], "none that is comparable"),
        f"{_percent(one['test_error'])} of {images:,} test images",
        f"seed {one['seed']}; 95 % interval over the images {_percent(low)} to {_percent(high)}",
        _time(one["recipe"]["epochs"], one["training_seconds"]),
        _links(file, "lenet5.png"),
    ]


def _quickstart(file: pathlib.Path) -> list[str]:
    one = json.loads(file.read_text("utf-8"))
    runs, crop, crops = one["runs"], one["top1_error_1_crop"], one["top1_error_10_crops"]
    seconds = sum(run["training_seconds"] for run in runs) / len(runs)
    seeds = ", ".join(map(str, one["seeds"]))
    return [
        f"AlexNet (`{one['recipe']['model']}`, recipe `quickstart`) on {one['data']}",
        "none: the data is this package's",
        f"{_percent(crop['mean'], 1)} of {runs[0]['count']:,} images with one crop, "
        f"{_percent(crops['mean'], 1)} with ten",
        f"seeds {seeds}: {_spread(crop)}; with ten crops {_spread(crops)}",
        _time(one["recipe"]["epochs"], seconds),
        _links(file, "quickstart.png"),
    ]


def _fig1(file: pathlib.Path) -> list[str]:
    one = json.loads(file.read_text("utf-8"))["fig1"]
    (row,) = one["finding"]["rows"]
    seeds = ", ".join(map(str, one["seeds"]))
    return [
        "Figure 1: epochs to 25 % training error, tanh over ReLU",
        f"{row['claim']['value']}, on {row['claim']['data']}",
        f"{row['measured']}, on {row['data']}",
        f"seeds {seeds}; {row['spread']}; {row['note']}",
        "",
        _links(file, f"{file.stem}.png"),
    ]


def _fig1_conditions(file: pathlib.Path) -> list[list[str]]:
    return [
        [
            f"Figure 1, {row['claim']['text']}",
            "not stated",
            f"{row['measured']}, on {row['data']}",
            f"the seed of the choice; {row['note']}",
            "",
            _link(file),
        ]
        for row in json.loads(file.read_text("utf-8"))["fig1_conditions"]["finding"]["rows"]
    ]


def _ablations(file: pathlib.Path) -> list[list[str]]:
    content = json.loads(file.read_text("utf-8"))
    one, width = content["ablations"], SCALES[content["scale"]].narrowing
    seeds = ", ".join(map(str, one["seeds"]))
    return [
        [
            f"AlexNet with 1/{width} of its maps: {row['claim']['text']}",
            f"{row['claim']['value']}, on {row['claim']['data']}",
            f"{row['measured']}, on {row['data']}",
            f"seeds {seeds}; {row['spread']}",
            "",
            _link(file),
        ]
        for row in one["finding"]["rows"]
    ]


def _cifar10(file: pathlib.Path) -> list[list[str]]:
    one = json.loads(file.read_text("utf-8"))["cifar10"]
    finding, rows = one["finding"], []
    pairs = zip(finding["rows"], finding["numbers"].items(), strict=True)
    for row, (model, found) in pairs:
        seconds = found["training_seconds"]
        seeds = ", ".join(map(str, one["seeds"]))
        rows.append(
            [
                f"`{model}`: {row['claim']['text']}",
                row["claim"]["value"],
                f"{row['measured']} ({found['recipe']['epochs']} epochs of the published 520)"
                if found["recipe"]["epochs"] != _PUBLISHED_EPOCHS
                else row["measured"],
                f"seeds {seeds}; {row['spread']}",
                _time(found["recipe"]["epochs"], sum(seconds) / len(seconds)),
                _links(file, f"{file.stem}.png"),
            ]
        )
    return rows


def _name(one: dict) -> str:
    return _NAMES.get(one["data"], one["data"])


def _percent(share: float, digits: int = 2) -> str:
    return f"{100 * share:.{digits}f} %"


def _time(epochs: int, seconds: float) -> str:
    return f"{epochs} epochs, {seconds / 60:.1f} minutes"


def _spread(values: dict) -> str:
    text = f"{_percent(values['least'], 1)} to {_percent(values['greatest'], 1)}"
    deviation = values["standard_deviation"]
    return text if deviation is None else f"{text}, standard deviation {100 * deviation:.2g} points"


def _links(file: pathlib.Path, image: str) -> str:
    return f"{_link(file)}, [image](../benchmarks/results/{image})"


def _link(file: pathlib.Path) -> str:
    return f"[{file.name}](../benchmarks/results/{file.name})"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _draw_errors(output: pathlib.Path, title: str, curves: dict[str, list[float]]) -> None:
    """Error against epochs, a line each, the last value written out."""
    from matplotlib.figure import Figure

    if not curves:
        return
    figure = Figure(figsize=(7, 4.2), dpi=120, layout="constrained")
    axes = figure.subplots()
    for (name, errors), colour in zip(curves.items(), _COLOURS, strict=False):
        label = f"{name}: {_percent(errors[-1])} at the end"
        epochs = range(1, len(errors) + 1)
        axes.plot(epochs, errors, color=colour, marker="o", markersize=3, label=label)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g} %")
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set_xlabel("epoch")
    axes.set_ylabel("top-1 error")
    axes.set_title(title, loc="left", fontsize=11)
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with files.replacing(output) as aside:
        figure.savefig(aside, format="png")


if __name__ == "__main__":
    sys.exit(main())
