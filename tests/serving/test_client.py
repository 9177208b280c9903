"""The client's own behaviour, against stand-in servers that answer from the exported model.

The stand-ins speak TF Serving's REST and gRPC interfaces (the latter with its own protos). They
prove what the client does, not what a server does: for that see test_server.py.
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import socket
import threading
import time

import numpy as np
import pytest

from alexnet_tf import predict as predict_command
from alexnet_tf.serving import client
from alexnet_tf.serving.classifier import ImageError

# TF Serving gives this the code that it gives to a bad image (server_core.cc).
UNKNOWN_LABEL = "Unrecognized servable version label: nobody"


class Backend:
    """What both stand-ins answer: the SavedModel's signature, or a fault for the first requests."""

    def __init__(self, exported):
        import tensorflow as tf

        self.tf = tf
        self.loaded = tf.saved_model.load(exported)
        self.faults = []  # (kind, seconds) for the next requests
        self.requests = 0
        self.labels = []
        self.batches = []

    def fault(self):
        self.requests += 1
        return self.faults.pop(0) if self.faults else None

    def __call__(self, files):
        self.batches.append(len(files))
        serve = self.loaded.signatures["serving_default"]
        outputs = serve(image_bytes=self.tf.constant(files, self.tf.string))
        return {name: value.numpy() for name, value in outputs.items()}


@pytest.fixture(scope="module")
def backend(exported):
    return Backend(exported)


@contextlib.contextmanager
def rest_server(backend, port=0):
    import tensorflow as tf

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, code, content):
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fault = backend.fault()
            if fault == "busy":
                return self.answer(503, {"error": "Servable not ready"})
            if fault == "slow":
                time.sleep(1.5)
            if fault == "page":
                return self.answer(200, b"<html>a proxy's page</html>")
            if not self.path.startswith("/v1/models/alexnet"):
                return self.answer(404, {"error": "Servable not found for request: Latest(other)"})
            if "/labels/nobody:" in self.path:
                return self.answer(400, {"error": UNKNOWN_LABEL})
            backend.labels.append(self.path.removeprefix("/v1/models/alexnet"))
            assert body["signature_name"] == "serving_default"
            files = [base64.b64decode(instance["b64"]) for instance in body["instances"]]
            try:
                outputs = backend(files)
            except tf.errors.InvalidArgumentError as error:
                return self.answer(400, {"error": error.message})
            rows = [
                {
                    "classes": [name.decode() for name in outputs["classes"][n]],
                    "scores": outputs["scores"][n].tolist(),
                    "probabilities": outputs["probabilities"][n].tolist(),
                }
                for n in range(len(files) - (fault == "short"))
            ]
            if fault == "ragged":
                rows[0]["scores"] = rows[0]["scores"][:1]
            return self.answer(200, {"predictions": rows})

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def grpc_server(backend, port=0):
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            fault = backend.fault()
            if fault == "busy":
                context.abort(grpc.StatusCode.UNAVAILABLE, "Servable not ready")
            if fault == "slow":
                time.sleep(1.5)
            if request.model_spec.name != "alexnet":
                context.abort(grpc.StatusCode.NOT_FOUND, "Servable not found for request: other")
            assert request.model_spec.signature_name == "serving_default"
            label = request.model_spec.version_label
            if label == "nobody":
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, UNKNOWN_LABEL)
            backend.labels.append(f"/labels/{label}:predict" if label else ":predict")
            try:
                outputs = backend(list(tf.make_ndarray(request.inputs["image_bytes"])))
            except tf.errors.InvalidArgumentError as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, error.message)
            response = predict_pb2.PredictResponse()
            for name, value in outputs.items():
                rows = value[: len(value) - (fault == "short")]
                response.outputs[name].CopyFrom(tf.make_tensor_proto(rows))
            return response

    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


SERVERS = pytest.mark.parametrize("start", [rest_server, grpc_server], ids=["rest", "grpc"])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@SERVERS
def test_the_answers_equal_the_local_ones(backend, exported, images, bad_images, start, capsys):
    files = [images["astronaut.jpg"], bad_images["cut.jpg"], images["grey.png"]]

    def predictions(*flags):
        code = predict_command.main([*flags, *files, "--json"])
        return code, [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    code, local = predictions(f"--model={exported}")
    with start(backend) as url:
        remote_code, remote = predictions(f"--server={url}", "--version_label=stable")
    assert backend.labels[-1] == "/labels/stable:predict"
    assert (code, remote_code) == (1, 1)
    assert "Invalid JPEG data" in remote[1]["error"]
    for ours, theirs in zip(local[::2], remote[::2], strict=True):
        ours, theirs = ours["predictions"], theirs["predictions"]
        assert [p["class"] for p in ours] == [p["class"] for p in theirs]
        scores = [[p["score"] for p in one] for one in (ours, theirs)]
        np.testing.assert_allclose(*scores, atol=1e-6)


@SERVERS
def test_a_server_that_is_starting_is_waited_for(backend, images, start):
    with open(images["small.png"], "rb") as file:
        content = file.read()
    port = free_port()
    scheme = "grpc" if start is grpc_server else "http"
    ask = client.open_server(client.Server(f"{scheme}://127.0.0.1:{port}", patience=30))
    backend.faults[:] = ["busy", "busy"]
    backend.requests = 0
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(ask, [content])
        time.sleep(0.4)  # nobody listens yet
        with start(backend, port):
            outputs = answer.result(timeout=30)
    assert backend.requests == 3 and outputs["probabilities"].shape == (1, 14)


@SERVERS
def test_a_server_that_never_starts_is_given_up_in_words(start):
    scheme = "grpc" if start is grpc_server else "http"
    url = f"{scheme}://127.0.0.1:{free_port()}"
    ask = client.open_server(client.Server(url, patience=1))
    started = time.monotonic()
    with pytest.raises(ConnectionError, match=r"did not answer within 1 s .*running"):
        ask([b"picture"])
    assert time.monotonic() - started < 10


@SERVERS
def test_a_slow_server_is_not_waited_for_longer_than_the_timeout(backend, images, start):
    with open(images["small.png"], "rb") as file:
        content = file.read()
    backend.faults[:] = ["slow"]
    with start(backend) as url:
        ask = client.open_server(client.Server(url, timeout=0.5))
        with pytest.raises(TimeoutError, match=r"longer than 0\.5 s"):
            ask([content])
        time.sleep(1.2)  # let the stand-in finish


@SERVERS
def test_refusals_are_passed_on(backend, images, bad_images, start):
    with start(backend) as url:
        with (
            open(bad_images["bomb.png"], "rb") as file,
            pytest.raises(ImageError, match="Images may have"),
        ):
            client.open_server(client.Server(url))([file.read()])
        with (
            open(images["small.png"], "rb") as file,
            pytest.raises(ValueError, match=r"model 'other'.*Servable not found"),
        ):
            client.open_server(client.Server(url, model="other"))([file.read()])


@SERVERS
def test_an_unknown_label_is_said_once_and_not_of_each_image(backend, images, start, capsys):
    files = [images["small.png"], images["grey.png"]]
    backend.requests = 0
    with start(backend) as url:
        assert predict_command.main([f"--server={url}", "--version_label=nobody", *files]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and UNKNOWN_LABEL in line and url in line
    assert backend.requests == 1


@SERVERS
def test_a_request_without_images_is_not_sent(backend, start):
    backend.requests = 0
    with start(backend) as url, pytest.raises(ImageError, match="holds no image"):
        client.open_server(client.Server(url))([])
    assert backend.requests == 0


@SERVERS
def test_rows_for_other_images_are_no_answer(backend, images, start):
    with open(images["small.png"], "rb") as file:
        content = file.read()
    backend.faults[:] = ["short"]
    with start(backend) as url:
        ask = client.open_server(client.Server(url))
        with pytest.raises(ValueError, match=r"2 image\(s\) .* a row for each image"):
            ask([content, content])
        outputs = ask([content])
    assert {name: value.dtype.kind for name, value in outputs.items()} in (
        {"classes": "U", "scores": "f", "probabilities": "f"},
        {"classes": "O", "scores": "f", "probabilities": "f"},
    )
    assert outputs["scores"].dtype == outputs["probabilities"].dtype == np.float32


def test_numbers_that_fit_no_table_are_no_answer(backend, images):
    backend.faults[:] = ["ragged"]
    with open(images["small.png"], "rb") as file:
        content = file.read()
    with rest_server(backend) as url:
        ask = client.open_server(client.Server(url))
        with pytest.raises(ValueError, match="does not answer as TF Serving does"):
            ask([content, content])


def test_the_wrong_port_or_scheme_is_said_at_once(backend, images):
    """REST asked at the gRPC port, and https at a port without it, answer with gibberish."""
    with open(images["small.png"], "rb") as file:
        content = file.read()
    started = time.monotonic()
    with grpc_server(backend) as url:
        ask = client.open_server(client.Server(url.replace("grpc", "http")))
        with pytest.raises(ValueError, match="does not answer as TF Serving does"):
            ask([content])
    with rest_server(backend) as url:
        ask = client.open_server(client.Server(url.replace("http", "https")))
        with pytest.raises(ConnectionError, match="over https"):
            ask([content])
    assert time.monotonic() - started < 20  # a server that is starting gets 60 s


@SERVERS
def test_the_benchmark_measures_the_server_too(backend, exported, start, tmp_path):
    from alexnet_tf import benchmark

    output = tmp_path / "serve.json"
    flags = [f"--saved_model={exported}", "--batch_size=2", "--clients=2", "--requests=2"]
    backend.batches.clear()
    with start(backend) as url:
        code = benchmark.main(["serve", *flags, f"--server={url}", f"--output={output}"])
    assert code == 0
    *_, row = json.loads(output.read_text())["rows"]
    assert (row["form"], row["batch_size"], row["clients"]) == ("server, JPEG files", 2, 2)
    assert len(row["seconds"]) == 4 and 0 < row["p50_ms"] <= row["p99_ms"]
    # Two requests that are not timed, and two of each of the two clients.
    assert backend.batches == [2] * 6


def test_a_page_of_something_else_is_not_taken_for_an_answer(backend, images):
    backend.faults[:] = ["page"]
    with rest_server(backend) as url, open(images["small.png"], "rb") as file:
        ask = client.open_server(client.Server(url))
        with pytest.raises(ValueError, match="does not answer as TF Serving does"):
            ask([file.read()])


def test_wrong_flags_end_with_one_sentence(images, capsys):
    image = images["small.png"]
    for flags, wanted, sentence in [
        (["--server=ftp://here", image], 1, "is no server"),
        (["--server=localhost:8501", image], 1, "is no server"),
        (["--server=http://here:99999", image], 1, "is no server"),
        (["--server=http://[::1", image], 1, "is no server"),
        (["--server=grpc://here", image], 1, "is no server"),
        (["--server=grpc://here:8500/v1", image], 1, "is no server"),
        (["--server=http://h", "--timeout=0", image], 2, "--timeout"),
        (["--server=http://h", "--patience=-1", image], 2, "--patience"),
        (["--server=http://h", "--labels=x", image], 2, "--labels is not for --server"),
        (["--model=x", "--timeout=3", image], 2, "--timeout is only for --server"),
    ]:
        code = predict_command.main(flags)
        err = capsys.readouterr().err.strip().splitlines()
        assert (code, sentence in err[-1]) == (wanted, True), (flags, code, err)
