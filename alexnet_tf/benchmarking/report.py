"""What was measured, as text for people."""


def step_text(result: dict) -> str:
    lines = [
        f"matrix products, {kind}: {ceiling['median'] / 1e9:.0f} GFLOP/s{_spread(ceiling)}"
        for kind, ceiling in result["ceilings"].items()
    ]
    lines.append(
        f"{'strategy':12}{'replicas':>9}{'precision':>16}{'batch':>7}{'images/s':>10}{'spread':>8}"
        f"{'of the ceiling':>16}"
    )
    for row in result["rows"]:
        rate = row["images_per_second"]
        lines.append(
            f"{row['strategy']:12}{row['replicas']:9}{row['precision']:>16}{row['batch_size']:7}"
            f"{rate['median']:10.1f}{rate['spread']:8.0%}{row['share_of_ceiling']:16.0%}"
        )
    operations = result["rows"][0]["operations_per_image"]
    lines.append(f"{operations / 1e9:.3g} GFLOP per picture and step")
    return "\n".join(lines)


def input_text(result: dict) -> str:
    whole = sum(row["cpu_milliseconds_per_image"] for row in result["rows"])
    lines = [
        _data(result),
        f"{'up to':10}{'images/s':>10}{'spread':>8}{'CPU ms per image':>18}{'share':>8}",
    ]
    for row in result["rows"]:
        rate, own = row["images_per_second"], row["cpu_milliseconds_per_image"]
        lines.append(
            f"{row['stage']:10}{rate['median']:10.0f}{rate['spread']:8.0%}{own:18.3f}"
            f"{own / whole:8.0%}"
        )
    lines.append("images/s is of the pipeline up to that stage, CPU time of that stage alone")
    return "\n".join(lines)


def train_text(result: dict) -> str:
    lines = [_data(result), f"{'':10}{'images/s':>10}{'spread':>8}"]
    for row in result["rows"]:
        rate = row["images_per_second"]
        lines.append(f"{row['form']:10}{rate['median']:10.1f}{rate['spread']:8.0%}")
    lines.append(f"training keeps {result['share_of_slower']:.0%} of the slower of the other two")
    return "\n".join(lines)


def serve_text(result: dict) -> str:
    lines = [
        f"{'form':26}{'batch':>6}{'clients':>8}{'p50 ms':>9}{'p95 ms':>9}{'p99 ms':>9}"
        f"{'images/s':>10}"
    ]
    for row in result["rows"]:
        lines.append(
            f"{row['form']:26}{row['batch_size']:6}{row['clients']:8}{row['p50_ms']:9.1f}"
            f"{row['p95_ms']:9.1f}{row['p99_ms']:9.1f}{row['images_per_second']:10.1f}"
        )
    return "\n".join(lines)


def _data(result: dict) -> str:
    data = result["data"]
    return (
        f"{data['pictures']} records of {data['image_size']} x {data['image_size']} x "
        f"{data['channels']}, {data['encoding']}, {data['bytes_per_record'] / 1e3:.0f} KB each; "
        f"batches of {result['settings']['batch_size']}"
    )


def _spread(values: dict) -> str:
    return f" (spread {values['spread']:.0%})"
