"""Names of layers in other programs: each means the output that it means there."""

import numpy as np
import pytest

from alexnet_tf.models import build_model, layer_names

WRITTEN = {
    "conv1": "conv1",
    "caffe:conv1": "relu1",
    "caffe:fc7": "relu7",
    "caffe:pool5": "pool5",
    "features.10": "conv5",
    "torchvision:features.11": "relu5",
    "classifier.4": "fc7",
    "classifier.5": "relu7",
    "layer7": "relu7",
    "paper:layer8": "fc8",
}


@pytest.mark.parametrize(("written", "ours"), WRITTEN.items())
def test_a_name_means_the_output_that_it_means_there(written, ours):
    assert layer_names.our_name(written) == ours


def test_every_torchvision_module_is_the_layer_with_its_output(small_owt, small_torch):
    """Each module's output in PyTorch, by a hook, beside the layer that the table names."""
    torch = pytest.importorskip("torch")
    import keras

    model = build_model(small_owt, include_preprocessing=False)
    state = {name: value.numpy() for name, value in small_torch.state_dict().items()}
    for module, layer in layer_names.TORCHVISION_WEIGHTS.items():
        kernel = state[f"{module}.weight"]
        if layer == "fc6":
            kernel = kernel.reshape(len(kernel), -1, 2, 2).transpose(0, 2, 3, 1)
            kernel = kernel.reshape(len(kernel), -1)
        kernel = kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T
        model.get_layer(layer).set_weights([kernel, state[f"{module}.bias"]])
    outputs = {}
    modules = {
        name: module
        for name, module in small_torch.named_modules()
        if name and not isinstance(module, torch.nn.Sequential)
    }
    assert set(modules) == set(layer_names.NAMES["torchvision"])
    hooks = [
        module.register_forward_hook(
            lambda _, __, out, name=name: outputs.update({name: out.detach().clone().numpy()})
        )
        for name, module in modules.items()
    ]
    x = np.random.default_rng(0).normal(size=(2, 95, 95, 3)).astype(np.float32)
    small_torch(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))
    for hook in hooks:
        hook.remove()
    wanted = [layer_names.NAMES["torchvision"][name] for name in outputs]
    layers = [model.get_layer(layer).output for layer in wanted]
    # torchvision drops its flattened maps before fc6; its Dropout is the identity here.
    found = keras.Model(model.inputs, layers)(x, training=False)
    for name, one in zip(outputs, found, strict=True):
        theirs, ours = outputs[name], np.asarray(one)
        if theirs.ndim == 4:
            theirs = theirs.transpose(0, 2, 3, 1)
        elif name == "classifier.0":
            theirs = theirs.reshape(2, -1, 2, 2).transpose(0, 2, 3, 1).reshape(2, -1)
        np.testing.assert_allclose(ours, theirs, atol=2e-5, err_msg=name)


def test_names_that_mean_nothing_are_one_sentence():
    have = ["conv1", "relu1", "fc7"]
    assert layer_names.find_layers(["caffe:conv1", "conv1"], have, "net") == {
        "caffe:conv1": "relu1",
        "conv1": "conv1",
    }
    for names, words in [
        (["features.10"], r"net has no layer 'features.10' \(here conv5\): it has conv1, relu1"),
        (["norm7"], "net has no layer 'norm7': it has"),
        (["theano:conv1"], "'theano:conv1' names no known program: expected torchvision, caffe"),
        (["caffe:relu1"], "caffe has no layer 'relu1': expected one of conv1"),
        (["conv1", "conv1"], "named twice"),
        ([], "No layer is named"),
    ]:
        with pytest.raises(ValueError, match=words):
            layer_names.find_layers(names, have, "net")
