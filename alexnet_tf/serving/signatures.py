"""Signatures of a served model: functions from images to classes, as TensorFlow ops.

    serving_default  {"image_bytes": string (b,)}        -> {"probabilities": float32 (b, classes),
                                                             "classes": string (b, 5),
                                                             "scores": float32 (b, 5)}
    image_tensor     {"images": uint8 (b, h, w, channels)} -> the same
    features         {"image_bytes": string (b,)}        -> {"fc7": float32 (b, 4096)}
    crops            {"crops": float32 (b, crop, crop, channels)}
                                                         -> {"probabilities"}: the bare network,
                                                            for runtimes without image decoders

If EXIF orientation was applied to the network's training images, it is applied to requests too.
Preprocessing is `preprocessing.evaluation_crop`, as in evaluation, and the exported functions are
those that `predict` calls on a Keras model.
"""

import tensorflow as tf

from alexnet_tf.data import preprocessing, untrusted
from alexnet_tf.models import saved_run

TOP = 5
SERVING_DEFAULT = "serving_default"
IMAGE_TENSOR = "image_tensor"
FEATURES = "features"
CROPS = "crops"
NO_PICTURES = "The request holds no image: send at least one."


def signatures(network: saved_run.TrainedModel, class_names) -> dict:
    """Returns a network's signatures.

    Args:
      network: a classifier whose outputs are probabilities.
      class_names: one per output.

    Returns:
      Signature name -> `tf.function` with one named argument that returns a dictionary. They raise
      `tf.errors.InvalidArgumentError` for an image that `untrusted.decode_untrusted` refuses, and
      for a request without images.

    Raises:
      ValueError: the number of names is not the number of outputs.
    """
    if len(class_names) != network.classes:
        raise ValueError(
            f"Found {len(class_names)} class names, but {network.path} has {network.classes} "
            "outputs: give one name for each."
        )
    crop_size, channels = network.crop_size, network.channels
    window = tf.TensorSpec((crop_size, crop_size, channels), tf.float32)
    features_name, feature_network = feature_model(network.model)

    def crop(image):
        return preprocessing.evaluation_crop(image, crop_size, network.image_size)

    def crops_of_files(image_bytes):
        def decoded_crop(encoded):
            return crop(untrusted.decode_untrusted(encoded, channels, network.apply_exif))

        with tf.control_dependencies([_require_images(image_bytes)]):
            image_bytes = tf.identity(image_bytes)
        return tf.map_fn(decoded_crop, image_bytes, fn_output_signature=window)

    def classify(crops):
        probabilities = tf.cast(network.model(crops, training=False), tf.float32)
        scores, indices = tf.math.top_k(probabilities, min(TOP, network.classes))
        return {
            "probabilities": tf.identity(probabilities, "probabilities"),
            "classes": tf.gather(tf.constant(list(class_names)), indices, name="classes"),
            "scores": tf.identity(scores, "scores"),
        }

    files = tf.TensorSpec((None,), tf.string, name="image_bytes")
    pixels = tf.TensorSpec((None, None, None, channels), tf.uint8, name="images")

    @tf.function(input_signature=[files])
    def serving_default(image_bytes):
        return classify(crops_of_files(image_bytes))

    @tf.function(input_signature=[pixels])
    def image_tensor(images):
        size = untrusted.require_size(tf.shape(images)[1:3])
        with tf.control_dependencies([_require_images(images), size]):
            images = tf.identity(images)
        return classify(tf.map_fn(crop, images, fn_output_signature=window))

    @tf.function(input_signature=[files])
    def features(image_bytes):
        found = feature_network(crops_of_files(image_bytes), training=False)
        return {features_name: tf.cast(found, tf.float32)}

    crops_spec = tf.TensorSpec((None, *window.shape), tf.float32, name="crops")

    @tf.function(input_signature=[crops_spec])
    def bare(crops):
        with tf.control_dependencies([_require_images(crops)]):
            crops = tf.identity(crops)
        return {"probabilities": tf.cast(network.model(crops, training=False), tf.float32)}

    return {
        SERVING_DEFAULT: serving_default,
        IMAGE_TENSOR: image_tensor,
        FEATURES: features,
        CROPS: bare,
    }


def _require_images(batch: tf.Tensor) -> tf.Operation:
    """An op that fails with INVALID_ARGUMENT for an empty batch.

    Without it the result depends on the machine: oneDNN fails with an internal message; other
    kernels return empty arrays.
    """
    return tf.debugging.Assert(tf.shape(batch)[0] > 0, [NO_PICTURES])


def feature_model(model):
    """(name, Keras model) of the last hidden layer's output, the classifier's input.

    For the AlexNet family this is "fc7" after its ReLU, 4,096 values, as in section 6.1 of the
    paper, without the test-time dropout scaling of some variants. For other networks it is the
    input of the last layer with weights, named "features".
    """
    import keras

    if any(layer.name == "relu7" for layer in model.layers):
        return "fc7", keras.Model(model.inputs, model.get_layer("relu7").output)
    classifier = [layer for layer in model.layers if layer.weights][-1]
    return "features", keras.Model(model.inputs, classifier.input)


def trackable(network: saved_run.TrainedModel) -> tf.Module:
    """A module with the network's variables, without Keras objects, for `tf.saved_model`."""
    module = tf.Module(name="alexnet_tf")
    module.weights = [variable.value for variable in network.model.variables]
    return module
