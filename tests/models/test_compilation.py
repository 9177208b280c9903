"""When XLA compiles."""

import pytest
import tensorflow as tf

from alexnet_tf.models import compilation


def test_when_compiling_is_worth_it():
    cpu = compilation.default_strategy()
    assert compilation.is_worthwhile("true", cpu, 1)
    assert not compilation.is_worthwhile("false", cpu, 10**9)
    if not tf.config.list_physical_devices("GPU"):
        assert not compilation.is_worthwhile("auto", cpu, 10**9)
    with pytest.raises(ValueError, match="expected one of auto, true, false"):
        compilation.is_worthwhile("yes", cpu, 1)
