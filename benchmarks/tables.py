"""Writes the tables of benchmarks/README.md from the JSON files of the raw runs.

    python benchmarks/tables.py

A table is between `<!-- table NAME -->` and `<!-- end -->` and is made of results/NAME.json
(`step_on_h100` is a table like `step`, from a machine that `make bench` does not run on);
a test holds that README says what those files say. Medians, and in brackets the least and the
greatest of the runs.
"""

import json
import pathlib
import re
import statistics
import sys

HERE = pathlib.Path(__file__).resolve().parent
README, RESULTS = HERE / "README.md", HERE / "results"
_BLOCK = re.compile(r"(<!-- table (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main() -> int:
    text = README.read_text(encoding="utf-8")
    README.write_text(render(text, RESULTS), encoding="utf-8")
    return 0


def render(text: str, results: pathlib.Path) -> str:
    """`text` with every table updated from the files in `results`.

    Raises:
      ValueError: a table that no function here makes.
    """

    def block(match: re.Match) -> str:
        begin, name, end = match.groups()
        kind = name.partition("_on_")[0]
        if kind not in TABLES:
            raise ValueError(f"README asks for a table {name}: expected {', '.join(TABLES)}.")
        path = results / f"{name}.json"
        lines = ["Not measured yet."]
        if path.exists():
            result = json.loads(path.read_text(encoding="utf-8"))
            lines = [_machine(result["machine"]), "", *TABLES[kind](result)]
        return begin + "\n".join(["", *lines, "", end])

    return _BLOCK.sub(block, text)


def step(result: dict) -> list[str]:
    rows = [
        [
            row["strategy"],
            row["precision"],
            str(row["batch_size"]),
            _rate(row["images_per_second"]),
            f"{row['share_of_ceiling']:.0%}",
        ]
        for row in result["rows"]
    ]
    titles = ["strategy", "precision", "batch", "images/s", "of the matrix products"]
    ceilings = ", ".join(
        f"{kind} {_number(value['median'] / 1e9)} GFLOP/s"
        for kind, value in result["ceilings"].items()
    )
    count = _runs(result["rows"][0]["images_per_second"])
    return [*_table(titles, rows), "", f"{count}. Matrix products: {ceilings}."]


def input(result: dict) -> list[str]:
    whole = sum(row["cpu_milliseconds_per_image"] for row in result["rows"])
    rows = [
        [
            row["stage"],
            _rate(row["images_per_second"]),
            f"{row['cpu_milliseconds_per_image']:.3f}",
            f"{row['cpu_milliseconds_per_image'] / whole:.0%}",
        ]
        for row in result["rows"]
    ]
    titles = ["up to", "images/s", "processor ms of the stage", "share"]
    count = _runs(result["rows"][0]["images_per_second"])
    return [*_table(titles, rows), "", f"{_data(result)} {count}."]


def train(result: dict) -> list[str]:
    rows = [[row["form"], _rate(row["images_per_second"])] for row in result["rows"]]
    count = _runs(result["rows"][0]["images_per_second"])
    return [
        *_table(["", "images/s"], rows),
        "",
        f"Training keeps {result['share_of_slower']:.0%} of the slower of the other two. "
        f"{_data(result)} {count}.",
    ]


def serve(result: dict) -> list[str]:
    rows = [
        [
            row["form"],
            str(row["batch_size"]),
            str(row["clients"]),
            *(f"{row[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms")),
            _number(row["images_per_second"]),
        ]
        for row in result["rows"]
    ]
    titles = ["form", "batch", "clients", "p50 ms", "p95 ms", "p99 ms", "images/s"]
    requests = result["settings"]["requests"]
    return [*_table(titles, rows), "", f"{requests} requests of each client."]


def input_pipeline(result: dict) -> list[str]:
    rates = {row["form"]: row["rate"] for row in result["rows"]}
    rows = []
    for name, rate in rates.items():
        # The same product; who only decodes makes whole images.
        products = ("uint8 crops", "float32")
        product = next((one for one in products if one in name), "whole images")
        ours = f"alexnet_tf, {product}" + ", raw records" * name.endswith("raw records")
        rows.append([name, _rate(rate), _ratio(rates, ours, name)])
    lines = _table(["", "images/s", "alexnet_tf over it"], rows)
    size = result["pictures"]["bytes_per_picture"] / 1e3
    facts = (
        f"{result['pictures']['count']} images of 256 x 256, {size:.0f} KB each as JPEG; batches "
        f"of {result['batch_size']}. {_runs(result['rows'][0]['rate'])}."
    )
    return [*lines, "", facts, *_absent(result)]


def emulated_cores(result: dict) -> list[str]:
    rows = [
        [
            str(row["batch_size"]),
            str(row["threads"]),
            _rate(row["images_per_second"]),
            _number(row["ideal"]),
            f"{row['cpu_microseconds_per_image']['median']:.0f}",
        ]
        for row in result["rows"]
    ]
    titles = ["batch", "threads", "images/s", "ideal", "processor us per image beside decoding"]
    count = _runs(result["rows"][0]["images_per_second"])
    facts = f"Decoding is a sleep of {result['milliseconds']} ms. {count}."
    return [*_table(titles, rows), "", facts]


def train_step(result: dict) -> list[str]:
    lines = []
    for part in result["precisions"]:
        rates = {row["form"]: row["rate"] for row in part["rows"]}
        ceiling = rates.pop("matrix products", None)
        rows = []
        for name, rate in rates.items():
            other = "torchvision's network" in name
            ours = "alexnet_tf, torchvision's network" if other else "alexnet_tf"
            rows.append([name, _rate(rate), _ratio(rates, ours, name)])
        lines += _table([part["precision"], "images/s", "alexnet_tf over it"], rows)
        facts = f"Batches of {result['batch_size']}. {_runs(next(iter(rates.values())))}."
        if ceiling and "share_of_ceiling" in part:
            facts += (
                f" The first reaches {part['share_of_ceiling']:.0%} of the matrix products' "
                f"{_number(ceiling['median'] / 1e9)} GFLOP/s."
            )
        lines += ["", facts, *_absent(part), ""]
    return lines[:-1]


def small_networks(result: dict) -> list[str]:
    lines = []
    for part in result["models"]:
        rates = {row["form"]: row["rate"] for row in part["rows"]}
        rows = [
            [name, _rate(rate), _ratio(rates, "alexnet_tf", name)] for name, rate in rates.items()
        ]
        lines += _table([part["model"], "images/s", "alexnet_tf over it"], rows)
        lines += [*_absent(part), ""]
    return [*lines, f"{result['rounds']} runs of each."]


def serving(result: dict) -> list[str]:
    bare = {
        row["batch_size"]: row["images_per_second"]
        for row in result["rows"]
        if row["form"] == "bare Keras model"
    }
    rows = [
        [
            row["form"],
            str(row["batch_size"]),
            *(f"{row[name]:.1f}" for name in ("p50_ms", "p95_ms", "p99_ms")),
            _number(row["images_per_second"]),
            f"{row['images_per_second'] / bare[row['batch_size']]:.2f}",
        ]
        for row in result["rows"]
    ]
    titles = ["form", "batch", "p50 ms", "p95 ms", "p99 ms", "images/s", "of bare"]
    facts = [f"{result['runs']} requests of each, one at a time."]
    facts += [
        f"Top-1 error in {kind}: {error:.2%}."
        for kind, error in result.get("top1_error", {}).items()
    ]
    return [*_table(titles, rows), "", " ".join(facts), *_absent(result)]


def layers(result: dict) -> list[str]:
    rows = []
    for section in result["sections"]:
        medians = section["medians"]
        ours = next(iter(medians))
        for name, values in section["seconds"].items():
            rows.append(
                [
                    section["title"] if name == ours else "",
                    name,
                    f"{1e3 * medians[name]:.0f} ({1e3 * min(values):.0f} to "
                    f"{1e3 * max(values):.0f})",
                    f"{medians[name] / medians[ours]:.2f}",
                ]
            )
    sizes = ", ".join(str(section["batch_size"]) for section in result["sections"])
    facts = f"{result['runs']} runs of each; batches of {sizes}."
    return [*_table(["", "", "ms", "over alexnet_tf"], rows), "", facts]


def data_prep(result: dict) -> list[str]:
    bare, *_ = result["pictures_per_second"].values()
    rows = [
        [
            name,
            f"{_number(result['median'][name])} ({_number(min(values))} to {_number(max(values))})",
            # Round by round: the machine's speed drifts from one to the next.
            f"{statistics.median(a / b for a, b in zip(values, bare, strict=True)):.2f}",
        ]
        for name, values in result["pictures_per_second"].items()
    ]
    source = result["source"]
    facts = (
        f"{source['files']} JPEGs of {source['mean_bytes'] / 1e3:.0f} KB, {result['workers']} "
        f"processes, {result['rounds']} runs of each."
    )
    return [*_table(["", "images/s", "over the bare loop, in the same round"], rows), "", facts]


TABLES = {
    table.__name__: table
    for table in (
        *(step, input, train, serve),
        *(input_pipeline, emulated_cores, train_step, small_networks, serving, layers, data_prep),
    )
}


def _machine(machine: dict) -> str:
    known = {name: value for name, value in machine.items() if value not in (None, "", "none")}
    first = known.pop("processor", None) or known.pop("cpu", "unknown processor")
    cores = known.pop("cores")
    rest = ", ".join(f"{name} {value}" for name, value in known.items())
    return f"{first}, {cores} cores; {rest}."


def _data(result: dict) -> str:
    data = result["data"]
    size = data["image_size"]
    return (
        f"{data['pictures']} {data['encoding']} records of {size} x {size}, "
        f"{data['bytes_per_record'] / 1e3:.0f} KB each, batches of "
        f"{result['settings']['batch_size']}."
    )


def _table(titles: list[str], rows: list[list[str]]) -> list[str]:
    def line(cells):
        return "| " + " | ".join(cells) + " |"

    return [line(titles), "|" + " --- |" * len(titles), *map(line, rows)]


def _rate(values: dict) -> str:
    return (
        f"{_number(values['median'])} ({_number(values['least'])} to {_number(values['greatest'])})"
    )


def _ratio(rates: dict, ours: str, name: str) -> str:
    if ours not in rates or name == ours:
        return ""
    return f"{rates[ours]['median'] / rates[name]['median']:.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _runs(values: dict) -> str:
    return f"{len(values['runs'])} runs of each"


def _absent(result: dict) -> list[str]:
    return [f"\nNot there: {name} ({why})." for name, why in result["absent"].items()]


if __name__ == "__main__":
    sys.exit(main())
