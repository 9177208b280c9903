"""One training step as a peer: train_peers.py NAME PRECISION BATCH_SIZE (see train_step.py,
which starts it and says what is measured)."""

import sys

import networks
import peers

_AT_LEAST = 1.0  # seconds of a turn
_POLICIES = {
    "float32": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}


def turn_of(seconds, amount: float):
    """A turn that repeats short work, more and more, so that it lasts long enough to be timed."""
    seconds(1)  # tracing, compiling, and the memory to be there

    def turn():
        work, times = [], 1
        while sum(took for _, took in work) < _AT_LEAST:
            work.append((times * amount, seconds(times)))
            times *= 2
        return work

    return turn


def ours(precision: str, batch_size: int, model: str = "alexnet", deterministic: bool = False):
    """This package's training step, as `train` runs it; compiled by XLA on a GPU."""
    sys.path.insert(0, str(peers.ROOT))
    import tensorflow as tf

    from alexnet_tf import memory
    from alexnet_tf.perf import steps
    from alexnet_tf.training import distribution

    memory.keep_freed_memory()  # as `train` does
    if deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = distribution.make_strategy("none")
    form, operations = steps.training_form(strategy, model, _POLICIES[precision], batch_size)
    about = {"tensorflow": tf.__version__, "operations_per_image": operations}
    return about, turn_of(form.seconds, batch_size)


def stock_keras(precision: str, batch_size: int, jit_compile: bool = False):
    """The same network of Keras' own layers, as they are or compiled by XLA."""
    import keras

    seconds = networks.keras_step_seconds(_POLICIES[precision], batch_size, jit_compile)
    return {"keras": keras.__version__}, turn_of(seconds, batch_size)


def pytorch(build, compiled: bool = False):
    """A network in PyTorch, as it is or compiled by `torch.compile`."""

    def prepare(precision: str, batch_size: int):
        import torch

        seconds = networks.torch_step_seconds(build, precision, batch_size, compiled)
        about = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        if not compiled:
            return about, turn_of(seconds, batch_size)
        try:
            return about, turn_of(seconds, batch_size)  # which compiles
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = str(error).strip().splitlines()[0]
            raise peers.Absent(f"torch.compile: {reason}") from error

    return prepare


def matrices(precision: str, batch_size: int):
    """The ceiling: products of large square matrices in TensorFlow, counted in operations."""
    sys.path.insert(0, str(peers.ROOT))
    import tensorflow as tf

    from alexnet_tf.perf import timing

    form = timing.matrix_product(precision)
    return {"tensorflow": tf.__version__}, turn_of(form.seconds, form.amount)


FORMS = {
    "ours": ours,
    "ours_deterministic": lambda *args: ours(*args, deterministic=True),
    "ours_owt": lambda *args: ours(*args, model="alexnet_owt"),
    "keras": stock_keras,
    "keras_compiled": lambda *args: stock_keras(*args, jit_compile=True),
    "torch": pytorch(networks.torch_same_network),
    "torch_compiled": pytorch(networks.torch_same_network, compiled=True),
    "torch_owt": pytorch(networks.torch_torchvision_network),
    "torch_owt_compiled": pytorch(networks.torch_torchvision_network, compiled=True),
    "matrices": matrices,
}


if __name__ == "__main__":
    name, precision, batch_size = sys.argv[1:]
    peers.serve(lambda: FORMS[name](precision, int(batch_size)))
