"""Measures latency and throughput of an exported network, in process and behind a server."""

import concurrent.futures
import contextlib
import dataclasses
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable

from alexnet_tf import machine

_WARM_REQUESTS = 2
_PATIENCE = 10.0  # seconds to wait for a starting server


@dataclasses.dataclass(frozen=True)
class ServeSettings:
    """What to measure: every combination of batch size and number of clients.

    Attributes:
      saved_model: a version's directory; None exports an AlexNet with random weights and 1000
        classes: time does not depend on the weights.
      server: http://HOST:8501 or grpc://HOST:8500 to measure as well, or None.
      name: the model's name on the server.
      batch_sizes: images per request.
      clients: numbers of concurrent requests.
      requests: timed requests per client.
    """

    saved_model: str | None = None
    server: str | None = None
    name: str = "alexnet"
    batch_sizes: tuple[int, ...] = (1, 8, 32)
    clients: tuple[int, ...] = (1, 2, 4)
    requests: int = 10


def measure_serve(settings: ServeSettings) -> dict:
    """Times requests: files to classes, ready crops to probabilities, and decoding alone.

    Returns:
      {"machine", "settings", "rows"}: see `ask`. Forms: "SavedModel, JPEG files"; "SavedModel,
      crops", the network alone; "decode and crop", the preprocessing alone; "server, JPEG files",
      over the network.

    Raises:
      FileNotFoundError, ValueError: not a SavedModel of this package.
      ConnectionError, TimeoutError: the server does not answer.
    """
    image = photograph()
    with contextlib.ExitStack() as stack:
        path = settings.saved_model
        if path is None:
            path = exported_alexnet(stack.enter_context(tempfile.TemporaryDirectory()))
        loaded = open_saved_model(path)
        rows = []
        for batch_size in settings.batch_sizes:
            forms = request_forms(loaded, image, batch_size)
            if settings.server:
                forms["server, JPEG files"] = _server_form(settings, image, batch_size)
            for clients in settings.clients:
                for name, form in forms.items():
                    asked = ask(form, batch_size, clients, settings.requests)
                    rows.append({"form": name, **asked})
    return {
        "machine": machine.describe(),
        "settings": dataclasses.asdict(settings),
        "picture": {"bytes": len(image), "size": [512, 512]},
        "rows": rows,
    }


def ask(form: Callable[[], object], batch_size: int, clients: int, requests: int) -> dict:
    """Calls `form` in `clients` threads, `requests` times in each.

    Returns:
      {"batch_size", "clients", "p50_ms", "p95_ms", "p99_ms": latency of a request,
      "images_per_second": of all clients together, "seconds": of every request}.
    """

    def client(_) -> list[float]:
        seconds = []
        for _ in range(requests):
            started = time.perf_counter()
            form()
            seconds.append(time.perf_counter() - started)
        return seconds

    for _ in range(_WARM_REQUESTS):
        form()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        started = time.perf_counter()
        each = list(pool.map(client, range(clients)))
        whole = time.perf_counter() - started
    seconds = [value for values in each for value in values]
    return {
        "batch_size": batch_size,
        "clients": clients,
        **percentiles(seconds),
        "images_per_second": clients * requests * batch_size / whole,
        "seconds": seconds,
    }


def percentiles(seconds: list[float]) -> dict[str, float]:
    """p50_ms, p95_ms and p99_ms of latencies in seconds, interpolated."""
    if len(seconds) == 1:
        return dict.fromkeys(("p50_ms", "p95_ms", "p99_ms"), 1e3 * seconds[0])
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {f"p{percent}_ms": 1e3 * cuts[percent - 1] for percent in (50, 95, 99)}


def request_forms(loaded, image: bytes, batch_size: int) -> dict[str, Callable[[], object]]:
    """Blocking calls of a loaded SavedModel with `batch_size` images, by form."""
    import tensorflow as tf

    from alexnet_tf.serving import signatures

    whole = loaded.signatures[signatures.SERVING_DEFAULT]
    bare = loaded.signatures[signatures.CROPS]
    (spec,) = bare.structured_input_signature[1].values()
    files = tf.constant([image] * batch_size)
    crops = tf.random.stateless_uniform((batch_size, *spec.shape[1:]), (7, 8), maxval=255.0)
    decode = decoder(spec.shape[1], spec.shape[3])
    return {
        "SavedModel, JPEG files": lambda: whole(image_bytes=files)["probabilities"].numpy(),
        "SavedModel, crops": lambda: bare(crops=crops)["probabilities"].numpy(),
        "decode and crop": lambda: decode(files).shape,
    }


def decoder(crop_size: int, channels: int):
    """A function that decodes and crops JPEG files as the signature does."""
    import tensorflow as tf

    from alexnet_tf.data import preprocessing, untrusted
    from alexnet_tf.models import saved_run

    window = tf.TensorSpec((crop_size, crop_size, channels), tf.float32)
    size = saved_run.default_image_size(crop_size)

    def crop(encoded):
        image = untrusted.decode_untrusted(encoded, channels)
        return preprocessing.evaluation_crop(image, crop_size, size)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def decode(files):
        return tf.map_fn(crop, files, fn_output_signature=window)

    return decode


def exported_alexnet(directory: str, precision: str = "float32") -> str:
    """Exports an AlexNet with random weights below `directory`; returns the version's directory."""
    from alexnet_tf.serving import export, labels
    from alexnet_tf.serving import precision as precisions

    network = precisions.in_precision(random_alexnet(), precision)
    names = labels.class_names(network)
    return export.export_saved_model(network, names, os.path.join(directory, precision, "alexnet"))


def random_alexnet():
    """An AlexNet with 1000 classes and random weights that give distinct probabilities."""
    import keras

    from alexnet_tf import models
    from alexnet_tf.models import saved_run

    keras.utils.set_random_seed(0)
    return saved_run.TrainedModel(
        "alexnet", models.build_model("alexnet", initializer="he"), None, 256
    )


def open_saved_model(path: str):
    """Loads a version's directory written by `python -m alexnet_tf.export`.

    Raises:
      FileNotFoundError: there is none. ValueError: another program wrote it.
    """
    import tensorflow as tf

    from alexnet_tf.models import saved_run
    from alexnet_tf.serving import signatures

    wanted = "Name a version's directory, such as saved_models/alexnet/1."
    if not saved_run.is_saved_model(path):
        raise FileNotFoundError(f"There is no SavedModel in {path}. {wanted}")
    loaded = tf.saved_model.load(path)
    needed = {signatures.SERVING_DEFAULT, signatures.CROPS}
    if not needed <= set(loaded.signatures):
        found = ", ".join(sorted(loaded.signatures)) or "none"
        raise ValueError(
            f"The SavedModel {path} has the signatures {found}: expected "
            f"{', '.join(sorted(needed))}, as `python -m alexnet_tf.export` writes them. {wanted}"
        )
    return loaded


def photograph() -> bytes:
    """A 512 x 512 photograph as a JPEG file of quality 90."""
    import skimage.data
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(skimage.data.astronaut()).save(buffer, format="JPEG", quality=90)
    return buffer.getvalue()


def _server_form(settings: ServeSettings, image: bytes, batch_size: int):
    from alexnet_tf.serving import client

    server = client.Server(settings.server, settings.name, patience=_PATIENCE)
    classify = client.open_server(server)
    return lambda: classify([image] * batch_size)
