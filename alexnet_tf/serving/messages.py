"""TF Serving's request messages, without depending on its package.

The fields are those of TF Serving's predict.proto, model.proto and prediction_log.proto; a test
compares them with the protos of `tensorflow-serving-api`. Only field numbers and types are
transmitted, so the messages can use another package name, which avoids clashes.
"""

import functools

_PACKAGE = "alexnet_tf.serving"
_TENSOR = ".tensorflow.TensorProto"
# TF Serving's gRPC method.
PREDICT_METHOD = "/tensorflow.serving.PredictionService/Predict"


@functools.cache
def _messages() -> dict:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    # Registers tensor.proto, which the messages refer to, in the default pool.
    from tensorflow.core.framework import tensor_pb2

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="alexnet_tf/serving/messages.proto",
        package=_PACKAGE,
        dependency=[tensor_pb2.DESCRIPTOR.name],
        syntax="proto3",
    )

    def message(name, /, **fields):
        """Fields are name=(number, type, repeated); a type is a scalar kind or a message name."""
        described = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            added = described.field.add(name=field, number=number)
            added.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if isinstance(kind, str):
                added.type, added.type_name = kinds.TYPE_MESSAGE, kind
            else:
                added.type = kind
        return described

    def tensor_map(owner, name, number):
        entry = owner.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=1, type=kinds.TYPE_STRING)
        entry.field.add(name="value", number=2, label=1, type=kinds.TYPE_MESSAGE, type_name=_TENSOR)
        owner.field.add(
            name=name,
            number=number,
            label=kinds.LABEL_REPEATED,
            type=kinds.TYPE_MESSAGE,
            type_name=f".{_PACKAGE}.{owner.name}.{entry.name}",
        )

    message("Version", value=(1, kinds.TYPE_INT64, False))  # google.protobuf.Int64Value
    message(
        "ModelSpec",
        name=(1, kinds.TYPE_STRING, False),
        version=(2, f".{_PACKAGE}.Version", False),
        signature_name=(3, kinds.TYPE_STRING, False),
        version_label=(4, kinds.TYPE_STRING, False),
    )
    request = message("PredictRequest", model_spec=(1, f".{_PACKAGE}.ModelSpec", False))
    tensor_map(request, "inputs", 2)
    request.field.add(
        name="output_filter", number=3, label=kinds.LABEL_REPEATED, type=kinds.TYPE_STRING
    )
    response = message("PredictResponse", model_spec=(2, f".{_PACKAGE}.ModelSpec", False))
    tensor_map(response, "outputs", 1)
    message("PredictLog", request=(1, f".{_PACKAGE}.PredictRequest", False))
    message("PredictionLog", predict_log=(6, f".{_PACKAGE}.PredictLog", False))
    pool = descriptor_pool.Default()
    pool.Add(file)
    return {
        described.name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"{_PACKAGE}.{described.name}")
        )
        for described in file.message_type
    }


def predict_request(model_name: str, signature: str, inputs: dict, version_label: str = ""):
    """A PredictRequest.

    Args:
      model_name: the model's name on the server.
      signature: name of a signature.
      inputs: input name -> value that `tf.make_tensor_proto` accepts.
      version_label: such as "stable"; empty for the newest version.
    """
    import tensorflow as tf

    request = _messages()["PredictRequest"]()
    request.model_spec.name = model_name
    request.model_spec.signature_name = signature
    if version_label:
        request.model_spec.version_label = version_label
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def prediction_log(request) -> bytes:
    """A request as a record of a warm-up file: a serialised PredictionLog."""
    log = _messages()["PredictionLog"]()
    log.predict_log.request.CopyFrom(request)
    return log.SerializeToString(deterministic=True)


def parse_response(serialized: bytes) -> dict:
    """A serialised PredictResponse as output name -> NumPy array."""
    import tensorflow as tf

    response = _messages()["PredictResponse"].FromString(serialized)
    return {name: tf.make_ndarray(value) for name, value in response.outputs.items()}
