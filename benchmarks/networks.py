"""The peers' networks and their training steps: PyTorch's and stock Keras layers."""

import time

CLASSES = 1000


def torch_same_network(torch):
    """The paper's network with response normalisation and groups: 60,965,224 parameters."""
    nn = torch.nn

    def norm():
        # PyTorch divides alpha by the window.
        return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0)

    return nn.Sequential(
        *[nn.ZeroPad2d((0, 3, 0, 3)), nn.Conv2d(3, 96, 11, 4), nn.ReLU(), norm()],
        *[nn.MaxPool2d(3, 2), nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(), norm()],
        *[nn.MaxPool2d(3, 2), nn.Conv2d(256, 384, 3, padding=1), nn.ReLU()],
        *[nn.Conv2d(384, 384, 3, padding=1, groups=2), nn.ReLU()],
        *[nn.Conv2d(384, 256, 3, padding=1, groups=2), nn.ReLU(), nn.MaxPool2d(3, 2)],
        *[nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(), nn.Dropout(0.5)],
        *[nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4096, CLASSES)],
    )


def torch_torchvision_network(torch):
    """torchvision's AlexNet, layer by layer: 61,100,840 parameters."""
    nn = torch.nn
    return nn.Sequential(
        *[nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)],
        *[nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)],
        *[nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(inplace=True)],
        *[nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(inplace=True)],
        *[nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2)],
        *[nn.AdaptiveAvgPool2d((6, 6)), nn.Flatten(), nn.Dropout(0.5)],
        *[nn.Linear(9216, 4096), nn.ReLU(inplace=True), nn.Dropout(0.5)],
        *[nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, CLASSES)],
    )


def torch_step_seconds(build, precision: str, batch_size: int, compiled: bool = False):
    """A function from a number of training steps to the seconds that they take.

    With `compiled` the network, forward and backward, is compiled in the first step.
    """
    import torch

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # PyTorch's fastest layout for convolutions; TF32 as TensorFlow has it by default.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    layout = {"device": device, "memory_format": torch.channels_last}
    network = build(torch).to(**layout)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-7, momentum=0.9, weight_decay=5e-4)
    images = (255 * torch.rand(batch_size, 3, 224, 224)).to(**layout)
    labels = (torch.arange(batch_size) % CLASSES).to(device)
    if compiled:
        network = torch.compile(network)
    kind = getattr(torch, precision)
    mixed = kind is not torch.float32
    scaler = torch.amp.GradScaler(device, enabled=kind is torch.float16)

    def seconds(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast(device, kind, enabled=mixed):
                loss = torch.nn.functional.cross_entropy(network(images), labels)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        loss.item()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    return seconds


def torch_forward(batch_size: int):
    """A function that gives the paper's network's probabilities of one batch in PyTorch."""
    import torch

    network = torch.nn.Sequential(torch_same_network(torch), torch.nn.Softmax(dim=1)).eval()
    network = network.to(memory_format=torch.channels_last)
    images = 255 * torch.rand(batch_size, 3, 224, 224)
    images = images.contiguous(memory_format=torch.channels_last)

    def forward():
        with torch.inference_mode():
            return network(images).numpy()

    return forward


def keras_step_seconds(policy: str, batch_size: int, jit_compile: bool = False):
    """The same for the paper's network of stock Keras layers and Keras' SGD.

    Keras has no response normalisation: `tf.nn.local_response_normalization` in a layer does it.
    The step is a `tf.function`, with `jit_compile` compiled by XLA as a whole, as `model.fit` does
    by default on a GPU.
    """
    import keras
    import tensorflow as tf

    keras.config.set_dtype_policy(policy)
    layers = keras.layers

    class Norm(layers.Layer):
        def call(self, x):
            # The kernel knows no bfloat16.
            y = tf.nn.local_response_normalization(
                tf.cast(x, tf.float32), 2, bias=2.0, alpha=1e-4, beta=0.75
            )
            return tf.cast(y, x.dtype)

    network = keras.Sequential(
        [
            keras.Input((224, 224, 3)),
            layers.ZeroPadding2D(((0, 3), (0, 3))),
            *[layers.Conv2D(96, 11, 4), layers.ReLU(), Norm(), layers.MaxPooling2D(3, 2)],
            layers.Conv2D(256, 5, padding="same", groups=2),
            *[layers.ReLU(), Norm(), layers.MaxPooling2D(3, 2)],
            *[layers.Conv2D(384, 3, padding="same"), layers.ReLU()],
            *[layers.Conv2D(384, 3, padding="same", groups=2), layers.ReLU()],
            *[layers.Conv2D(256, 3, padding="same", groups=2), layers.ReLU()],
            *[layers.MaxPooling2D(3, 2), layers.Flatten()],
            *[layers.Dense(4096), layers.ReLU(), layers.Dropout(0.5)],
            *[layers.Dense(4096), layers.ReLU(), layers.Dropout(0.5)],
            layers.Dense(CLASSES, dtype="float32"),
        ]
    )
    optimizer = keras.optimizers.SGD(1e-7, momentum=0.9)
    if policy == "mixed_float16":
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(network.trainable_variables)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    images = tf.random.stateless_uniform((batch_size, 224, 224, 3), (5, 6), maxval=255.0)
    labels = tf.range(batch_size) % CLASSES

    @tf.function(jit_compile=jit_compile)
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, network(images, training=True))
            scaled = optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, network.trainable_variables)
        optimizer.apply(gradients, network.trainable_variables)
        return loss

    def seconds(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            loss = step(images, labels)
        float(loss)
        return time.perf_counter() - started

    return seconds
