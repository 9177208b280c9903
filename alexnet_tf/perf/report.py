"""Formats measurements as text."""


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
    lines.append(f"{operations / 1e9:.3g} GFLOP per image and step")
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


def plan_text(result: dict) -> str:
    settings = result["settings"]
    first, last = result["dense_layers"][0], result["dense_layers"][-1]
    dense = first if first == last else f"{first} to {last}"
    lines = [
        f"{settings['model']} in {settings['precision']}, {settings['batch_size']} images a GPU: "
        f"{1e3 * result['step_seconds']:.1f} ms a step on one GPU, "
        f"{settings['batch_size'] / result['step_seconds']:,.0f} images/s",
        f"{result['parameters']:,} weights, {4 * result['parameters'] / 1e6:.0f} MB of float32 "
        f"gradients, {result['dense_parameters'] / result['parameters']:.0%} of them in {dense}",
        f"{_PLACE_HEAD}{'scheme':20}{'sent as':9}{'MB/GPU':>7}{'MB/mach.':>9}{'alone ms':>9}"
        f"{'step ms':>8}{'images/s':>11}{'of linear':>10}",
    ]
    for row in result["rows"]:
        lines.append(
            f"{_place(row)}{row['scheme']:20}{row['sent_as']:9}{row['link_bytes'] / 1e6:7.0f}"
            f"{row['network_bytes'] / 1e6:9.0f}{1e3 * row['sending_seconds']:9.1f}"
            f"{1e3 * row['step_seconds']:8.1f}{row['images_per_second']:11,.0f}"
            f"{row['efficiency']:10.0%}"
        )
    lines += [
        f"one weird trick sends less than the sum of the gradients of {dense} up to "
        f"{result['split_pays_below']:,.0f} images on a machine's GPUs",
        f"{_PLACE_HEAD}{'images/s':>9}{'records':>9}{'cores/mach.':>12}{'disk GB/s':>10}"
        f"{'or workers':>11}{'with Gbit/s':>12}",
    ]
    for row in result["inputs"]:
        lines.append(
            f"{_place(row)}{row['images_per_second']:9,.0f}{row['encoding']:>9}{row['cores']:12.0f}"
            f"{row['disk_bytes_per_second'] / 1e9:10.1f}{row['service_workers']:11}"
            f"{row['service_gbit']:12.0f}"
        )
    lines.append(
        f"workers are tf.data's, with {settings['worker_cores']} cores each; Gbit/s and disk of "
        "each machine"
    )
    return "\n".join(lines)


_PLACE_HEAD = f"{'machines':>8}{'GPUs':>5} {'link':7}{'Gbit/s':>6}  "


def _place(row: dict) -> str:
    gbit = row["network_gbit"] or "-"
    return f"{row['machines']:8}{row['gpus']:5} {row['link'] or '-':7}{gbit:>6}  "


def _data(result: dict) -> str:
    data = result["data"]
    return (
        f"{data['pictures']} records of {data['image_size']} x {data['image_size']} x "
        f"{data['channels']}, {data['encoding']}, {data['bytes_per_record'] / 1e3:.0f} KB each; "
        f"batches of {result['settings']['batch_size']}"
    )


def _spread(values: dict) -> str:
    return f" (spread {values['spread']:.0%})"
