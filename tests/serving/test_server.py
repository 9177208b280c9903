"""A real tensorflow_model_server: REST and gRPC, a damaged request, a version switch under load.

Skipped where there is none: set TF_SERVING_BINARY to its path, or install docker with the image
tensorflow/serving.
"""

import concurrent.futures
import os
import shutil
import socket
import subprocess
import time

import pytest

from alexnet_tf.serving import client, export
from alexnet_tf.serving.classifier import ImageError
from alexnet_tf.serving.predictor import open_classifier

IMAGE = "tensorflow/serving:latest"


def _has_docker_image():
    if shutil.which("docker") is None:
        return False
    found = subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False)
    return found.returncode == 0


def _ports(count):
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture
def server(exported, tmp_path):
    """(REST URL, gRPC URL, the model's base directory) of a server that polls every second."""
    binary = os.environ.get("TF_SERVING_BINARY")
    if not binary and not _has_docker_image():
        pytest.skip("no tensorflow_model_server: set TF_SERVING_BINARY, or pull tensorflow/serving")
    base = tmp_path / "alexnet"
    shutil.copytree(exported, base / "1")
    grpc_port, rest_port = _ports(2)
    flags = ["--model_name=alexnet", "--file_system_poll_wait_seconds=1"]
    if binary:
        ports = [f"--port={grpc_port}", f"--rest_api_port={rest_port}"]
        command = [binary, *ports, f"--model_base_path={base}", *flags]
    else:
        command = [
            *["docker", "run", "--rm", "-v", f"{tmp_path}:/models:ro"],
            *["-p", f"127.0.0.1:{grpc_port}:8500", "-p", f"127.0.0.1:{rest_port}:8501"],
            *["--entrypoint", "tensorflow_model_server", IMAGE],
            *["--port=8500", "--rest_api_port=8501", "--model_base_path=/models/alexnet", *flags],
        ]
    with open(tmp_path / "server.log", "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{rest_port}", f"grpc://127.0.0.1:{grpc_port}", base
    finally:
        process.terminate()
        process.wait(timeout=30)


def test_a_real_server_serves_the_export(server, exported, network, images, bad_images):
    rest_url, grpc_url, base = server
    files = []
    for path in images.values():
        with open(path, "rb") as file:
            files.append(file.read())
    with open(bad_images["cut.jpg"], "rb") as file:
        bad = file.read()
    wanted = open_classifier(exported)(files)["classes"]
    asks = [client.open_server(client.Server(url, patience=120)) for url in (rest_url, grpc_url)]

    def classes(ask, file):
        return [
            name.decode() if isinstance(name, bytes) else name for name in ask([file])["classes"][0]
        ]

    for ask in asks:
        for number, file in enumerate(files):
            assert classes(ask, file) == [name.decode() for name in wanted[number]]
        with pytest.raises(ImageError):
            ask([bad])
    # A second version, whose classes have other names, while requests run.
    stop = time.monotonic() + 60
    renamed = [f"other {n}" for n in range(14)]

    def keep_asking(ask):
        seen = []
        while time.monotonic() < stop and not (seen and seen[-1].startswith("other")):
            seen.append(classes(ask, files[0])[0])
        return seen

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = [pool.submit(keep_asking, ask) for ask in asks]
        export.export_saved_model(network, renamed, str(base))
        for answers in running:
            seen = answers.result()
            assert seen[0].startswith("thing") and seen[-1].startswith("other")
