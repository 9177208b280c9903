"""The files in saved_models/ are what TF Serving parses, and name what the package exports."""

import pathlib
import re

from google.protobuf import text_format

SAVED_MODELS = pathlib.Path(__file__).parents[2] / "saved_models"


def test_the_model_configuration_names_two_versions_by_label():
    from tensorflow_serving.config import model_server_config_pb2

    text = (SAVED_MODELS / "models.config").read_text()
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.model_platform) == ("alexnet", "tensorflow")
    assert dict(model.version_labels) == {"stable": 1, "canary": 2}
    assert set(model.version_labels.values()) == set(model.model_version_policy.specific.versions)
    assert pathlib.PurePosixPath(model.base_path).is_absolute()


def test_the_compose_file_mounts_what_its_flags_name():
    text = (SAVED_MODELS / "docker-compose.yml").read_text()
    named = re.findall(r"=/models/(\S+)", text)
    assert sorted(named) == ["models.config", "monitoring.config"]
    assert all((SAVED_MODELS / name).is_file() for name in named)
    ports = re.findall(r"127\.0\.0\.1:(\d+):(\d+)", text)
    assert ports == [("8500", "8500"), ("8501", "8501")]
    assert re.findall(r"port=(\d+)", text) == ["8500", "8501"]
