"""How fast an exported SavedModel answers: python benchmarks/serving.py [--workdir=RUN]

Latency and throughput of a network exported by `python -m alexnet_tf.export`, in this process, by
batch size and by number of concurrent clients, beside the bare Keras model and (where PyTorch is
installed) the same layers in PyTorch. Forms take turns within one run, after a warm-up that is not
counted. Without --workdir an AlexNet with random weights and 1000 classes is measured; time does
not depend on the weights. --server=http://HOST:8501 or grpc://HOST:8500 measures a server too.
"""

import concurrent.futures
import io
import os
import pathlib
import platform
import statistics
import sys
import tempfile
import time

from absl import flags as absl_flags

from alexnet_tf import door

RESULTS = pathlib.Path(__file__).parent / "results" / "serving.json"
BATCHES = (1, 8, 32)
CLIENTS = (1, 2, 4)


def main(argv=None) -> int:
    """The front door; returns the exit code."""
    return door.run(_define, _main, argv, doc=__doc__)


def _define(flags):
    absl_flags.DEFINE_string("workdir", None, "A run with a model.keras.", flag_values=flags)
    absl_flags.DEFINE_string("server", None, "A TF Serving server.", flag_values=flags)
    absl_flags.DEFINE_integer("runs", 10, "Timed runs of each form.", 3, flag_values=flags)
    absl_flags.DEFINE_string("output", str(RESULTS), "JSON file.", flag_values=flags)


def _main(flags, args) -> int:
    if args:
        raise door.UsageError(f"Unexpected argument {args[0]!r}: everything is a --flag here.")
    import keras
    import numpy as np
    import tensorflow as tf

    from alexnet_tf import evaluation, models
    from alexnet_tf.models import trained
    from alexnet_tf.serving import client, export, labels, precision

    if flags.workdir:
        network = trained.open_model(flags.workdir)
    else:
        model = models.build_model("alexnet", initializer="he")
        network = trained.TrainedModel("alexnet", model, None, 256)
    machine = {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    picture = _photograph()
    rng = np.random.default_rng(0)
    side = network.crop_size
    crops = {n: rng.uniform(0, 255, (n, side, side, 3)).astype(np.float32) for n in BATCHES}
    with tempfile.TemporaryDirectory() as directory:
        names = labels.class_names(network)
        loaded = {}
        for kind in precision.PRECISIONS:
            base = os.path.join(directory, kind, "alexnet")
            other = precision.in_precision(network, kind)
            loaded[kind] = tf.saved_model.load(export.export_saved_model(other, names, base))
        bare = tf.function(lambda x: network.model(x, training=False))
        rows = []
        torch_forward = _torch_network()
        for batch in BATCHES:
            tensor = tf.constant(crops[batch])
            files = tf.constant([picture] * batch)
            forms = {"bare Keras model": lambda x=tensor: bare(x)}
            for kind, one in loaded.items():
                forms[f"SavedModel {kind}, crops"] = lambda x=tensor, one=one: one.signatures[
                    "crops"
                ](crops=x)
                forms[f"SavedModel {kind}, JPEG files"] = lambda x=files, one=one: one.signatures[
                    "serving_default"
                ](image_bytes=x)
            if torch_forward is not None:
                forms["PyTorch, same layers"] = lambda x=crops[batch]: torch_forward(x)
            if flags.server:
                ask = client.open_server(client.Server(flags.server))
                forms["server, JPEG files"] = lambda ask=ask, n=batch: ask([picture] * n)
            rows += _timed(forms, batch, flags.runs)
        serve = loaded["float32"].signatures["serving_default"]
        one_file = tf.constant([picture])
        for clients in CLIENTS:
            rows.append(_concurrent(lambda: serve(image_bytes=one_file), clients, 4 * flags.runs))
    print(f"{'form':36}{'batch':>6}{'clients':>8}{'p50 ms':>9}{'p95':>9}{'p99':>9}{'images/s':>10}")
    for row in rows:
        print(
            f"{row['form']:36}{row['batch']:6}{row['clients']:8}{row['p50_ms']:9.1f}"
            f"{row['p95_ms']:9.1f}{row['p99_ms']:9.1f}{row['images_per_second']:10.1f}"
        )
    evaluation.write_results(flags.output, {"machine": machine, "runs": flags.runs, "rows": rows})
    print(f"every time is in {flags.output}")
    return door.EXIT_OK


def _timed(forms, batch: int, runs: int) -> list[dict]:
    """Each form `runs` times, in turn, so that a busy moment hits all alike."""
    seconds = {name: [] for name in forms}
    for run in range(-2, runs):
        for name, form in forms.items():
            started = time.perf_counter()
            form()
            if run >= 0:
                seconds[name].append(time.perf_counter() - started)
    return [
        _row(name, batch, 1, times, batch / statistics.median(times))
        for name, times in seconds.items()
    ]


def _concurrent(form, clients: int, requests: int) -> dict:
    """Requests of one picture from several threads."""

    def timed(_):
        started = time.perf_counter()
        form()
        return time.perf_counter() - started

    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(timed, range(2 * clients)))
        started = time.perf_counter()
        times = list(pool.map(timed, range(requests)))
        rate = requests / (time.perf_counter() - started)
    return _row("SavedModel float32, JPEG files", 1, clients, times, rate)


def _row(form: str, batch: int, clients: int, seconds: list[float], rate: float) -> dict:
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {
        "form": form,
        "batch": batch,
        "clients": clients,
        "p50_ms": 1e3 * cuts[49],
        "p95_ms": 1e3 * cuts[94],
        "p99_ms": 1e3 * cuts[98],
        "images_per_second": rate,
        "seconds": seconds,
    }


def _photograph() -> bytes:
    """A photograph of 512 x 512 as a JPEG file."""
    import skimage.data
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def _torch_network():
    """The paper's layers in PyTorch, channels last: NumPy (b, h, w, 3) -> (b, 1000); or None."""
    try:
        import torch
    except ImportError:
        return None
    nn = torch.nn

    def norm():
        # PyTorch divides alpha by the window.
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)

    network = nn.Sequential(
        *[nn.ZeroPad2d((0, 3, 0, 3)), nn.Conv2d(3, 96, 11, 4), nn.ReLU(), norm()],
        *[nn.MaxPool2d(3, 2), nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), norm()],
        *[nn.MaxPool2d(3, 2), nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()],
        *[nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()],
        *[nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2)],
        *[nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU()],
        *[nn.Linear(4096, 1000), nn.Softmax(dim=1)],
    ).eval()
    network = network.to(memory_format=torch.channels_last)

    def forward(pixels):
        with torch.inference_mode():
            images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
            return network(images.contiguous(memory_format=torch.channels_last))

    return forward


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            lines = [line for line in file if line.startswith("model name")]
        return lines[0].split(":", 1)[1].strip()
    except (OSError, IndexError):
        return platform.processor() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
