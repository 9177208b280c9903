"""The files in saved_models/ are what TF Serving parses, and agree with each other, with the README
and with what the package does by default.

`tensorflow-serving-api` ships the proto of the model configuration. It does not ship those of
batching and monitoring: their fields stand here, as TF Serving's session_bundle_config.proto and
monitoring_config.proto have them. Compose files are YAML.
"""

import http.server
import json
import pathlib
import re
import shlex
import subprocess
import threading

import pytest
import yaml
from absl import flags as absl_flags
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

SAVED_MODELS = pathlib.Path(__file__).parents[2] / "saved_models"


@pytest.fixture(scope="module")
def messages():
    """BatchingParameters and MonitoringConfig, from the fields of TF Serving's files."""
    from google.protobuf import wrappers_pb2

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="tests/serving/configuration.proto",
        package="tests.serving",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
        syntax="proto3",
    )
    boxed_int, boxed_text = ".google.protobuf.Int64Value", ".google.protobuf.StringValue"
    for message, fields in {
        "BatchingParameters": [
            ("max_batch_size", boxed_int),
            ("batch_timeout_micros", boxed_int),
            ("max_enqueued_batches", boxed_int),
            ("num_batch_threads", boxed_int),
            ("thread_pool_name", boxed_text),
            ("allowed_batch_sizes", kinds.TYPE_INT64),
            ("pad_variable_length_inputs", kinds.TYPE_BOOL),
        ],
        "PrometheusConfig": [("enable", kinds.TYPE_BOOL), ("path", kinds.TYPE_STRING)],
        "MonitoringConfig": [("prometheus_config", ".tests.serving.PrometheusConfig")],
    }.items():
        described = file.message_type.add(name=message)
        for number, (name, kind) in enumerate(fields, 1):
            several = name == "allowed_batch_sizes"
            field = described.field.add(name=name, number=number)
            field.label = kinds.LABEL_REPEATED if several else kinds.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type, field.type_name = kinds.TYPE_MESSAGE, kind
            else:
                field.type = kind
    pool = descriptor_pool.Default()
    pool.Add(file)
    return {
        described.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"tests.serving.{described.name}")
        )
        for described in file.message_type
    }


@pytest.fixture(scope="module")
def model():
    from tensorflow_serving.config import model_server_config_pb2

    text = (SAVED_MODELS / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (only,) = config.model_config_list.config
    return only


@pytest.fixture(scope="module")
def service():
    """The service of the compose file."""
    compose = yaml.safe_load((SAVED_MODELS / "docker-compose.yml").read_text())
    (only,) = compose["services"].values()
    return only


def flags_of(words):
    """--name=value words as a dictionary."""
    return dict(word.removeprefix("--").split("=", 1) for word in words if word.startswith("--"))


@pytest.fixture(scope="module")
def readme():
    return (SAVED_MODELS / "README.md").read_text(encoding="utf-8")


def default_of(command, name):
    flags = absl_flags.FlagValues()
    command._define(flags)
    return flags[name].default


def test_the_newest_version_is_served_without_labels(model):
    """So that a server starts after one export: a label of a version that is not there stops it."""
    assert model.model_version_policy.WhichOneof("policy_choice") == "latest"
    assert model.model_version_policy.latest.num_versions == 1 and not model.version_labels


def test_the_commented_labels_are_a_configuration_that_the_readme_describes(readme):
    from tensorflow_serving.config import model_server_config_pb2

    text = (SAVED_MODELS / "models.config").read_text()
    policy = r"    model_version_policy \{\n      latest \{.*?\n    \}\n"
    text = re.sub(policy, "", text, count=1, flags=re.DOTALL)
    text = text.replace("    # Two versions under", "## ").replace("    # ", "    ")
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (only,) = config.model_config_list.config
    served = list(only.model_version_policy.specific.versions)
    assert dict(only.version_labels) == {"stable": 1, "canary": 2}
    assert set(only.version_labels.values()) == set(served)
    assert "`stable` is 1, `canary`\nis 2" in readme
    assert set(re.findall(r"--version_label=(\w+)", readme)) <= set(only.version_labels)


def test_the_image_is_pinned_and_the_gpus_is_of_the_same_version(service):
    gpu = yaml.safe_load((SAVED_MODELS / "docker-compose.gpu.yml").read_text())
    (other,) = gpu["services"].values()
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", service["image"])
    assert other["image"] == f"{service['image']}-gpu"


@pytest.mark.parametrize(("state", "healthy"), [("AVAILABLE", True), ("LOADING", False)])
def test_the_container_is_healthy_when_a_version_answers(service, model, state, healthy):
    """The check itself, in bash, against a server that says what TF Serving says."""
    asked = []

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"model_version_status": [{"state": state}]}).encode())

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("localhost", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        kind, *command = service["healthcheck"]["test"]
        port = flags_of(service["command"])["rest_api_port"]
        assert kind == "CMD" and f"localhost/{port}" in command[-1]
        command[-1] = command[-1].replace(f"/{port}", f"/{server.server_port}")
        done = subprocess.run(command, timeout=20)
        server.shutdown()
    assert (done.returncode == 0) == healthy
    assert asked == [f"/v1/models/{model.name}"]


def test_the_name_and_the_place_are_those_of_the_export_and_the_client(model, service, readme):
    from alexnet_tf import benchmark, export
    from alexnet_tf.serving import client

    assert (model.name, model.model_platform) == ("alexnet", "tensorflow")
    assert model.name == client.Server("http://here").model == default_of(benchmark, "name")
    # The export's default directory, as the container sees it.
    (mount,) = service["volumes"]
    here, inside, mode = mount.split(":")
    assert (here, mode) == (".", "ro")
    output = pathlib.PurePosixPath(default_of(export, "output"))
    assert output.parent.name == SAVED_MODELS.name
    assert pathlib.PurePosixPath(model.base_path) == pathlib.PurePosixPath(inside) / output.name
    assert f"/v1/models/{model.name}:predict" in readme


def test_the_compose_file_starts_what_the_readme_starts(service, readme):
    assert service["entrypoint"] == ["tensorflow_model_server"]
    assert service["image"].split(":")[0] == "tensorflow/serving"
    (command,) = re.findall(r"^    (tensorflow_model_server --(?:.*\\\n)+.*)", readme, re.MULTILINE)
    by_hand = flags_of(shlex.split(command))
    in_container = flags_of(service["command"])
    assert by_hand.keys() == in_container.keys()
    inside = service["volumes"][0].split(":")[1]
    for name, value in in_container.items():
        assert value.removeprefix(f"{inside}/") == by_hand[name]
    for name in ("model_config_file", "monitoring_config_file"):
        assert (SAVED_MODELS / by_hand[name]).is_file()
    # Labels of a version that is not there yet stop a server without this.
    assert by_hand["allow_version_labels_for_unavailable_models"] == "true"


def test_ports_are_published_on_this_machine_only_and_are_the_documented_ones(service, readme):
    from alexnet_tf import predict

    flags = flags_of(service["command"])
    grpc, rest = flags["port"], flags["rest_api_port"]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}" for port in (grpc, rest)]
    text = absl_flags.FlagValues()
    predict._define(text)
    for words in (readme, text["server"].help.replace("HOST", "localhost")):
        assert set(re.findall(r"grpc://localhost:(\d+)", words)) == {grpc}
        assert set(re.findall(r"http://localhost:(\d+)", words)) == {rest}


def test_metrics_are_where_the_readme_asks_for_them(messages, readme):
    text = (SAVED_MODELS / "monitoring.config").read_text()
    prometheus = text_format.Parse(text, messages["MonitoringConfig"]()).prometheus_config
    assert prometheus.enable
    assert f"http://localhost:8501{prometheus.path}\n" in readme


def test_batches_are_those_that_tf_serving_allows_and_are_off_by_default(messages, service, readme):
    text = (SAVED_MODELS / "batching.config").read_text()
    batching = text_format.Parse(text, messages["BatchingParameters"]())
    sizes = list(batching.allowed_batch_sizes)
    # As the proto demands: ascending, the last one the largest batch.
    assert sizes == sorted(set(sizes)) and sizes[-1] == batching.max_batch_size.value
    assert batching.num_batch_threads.value >= 1 and batching.batch_timeout_micros.value > 0
    assert not [flag for flag in service["command"] if "batching" in flag]
    assert "--enable_batching=true --batching_parameters_file=batching.config" in readme


def test_an_unknown_field_does_not_parse(messages):
    """The parser is strict: a misspelt setting would not pass the tests above."""
    with pytest.raises(text_format.ParseError, match="max_batch_sise"):
        text_format.Parse("max_batch_sise { value: 3 }", messages["BatchingParameters"]())
