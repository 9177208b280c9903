"""Stochastic gradient descent as the paper writes it.

    v <- momentum * v - weight_decay * rate * w - rate * gradient
    w <- w + v                                                     (paper, section 5)

The decay is inside the velocity. Keras' `SGD(weight_decay=)` is another rule: it shrinks weights
outside the velocity, biases included. The original program (cuda-convnet, src/weights.cu) and Caffe
(solvers/sgd_solver.cpp) compute the same recurrence; they also give biases twice the rate and no
decay, which the paper does not mention.
"""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="alexnet_tf")
class PaperSGD(keras.optimizers.Optimizer):
    """SGD with momentum and weight decay inside the velocity.

    Args:
      learning_rate: float or `keras.optimizers.schedules.LearningRateSchedule`.
      momentum: coefficient of the old velocity, 0..1.
      weight_decay: decay coefficient of kernels, per unit of rate.
      bias_learning_rate: factor on the rate of biases: a float, or a schedule that gives it. 1 in
        the paper's text, 2 in the original program and in Caffe.
      bias_weight_decay: whether biases decay too. The original program: no.
      layer_learning_rates: layer name -> factor on the rate of that layer's variables, a float or a
        schedule. 0 freezes weights and velocity, as in the original program.
      layer_weight_decay: layer name -> decay of that layer's kernels, instead of `weight_decay`.

    A bias is a variable named "bias". The gradient must be that of the mean loss over the global
    batch; under a `tf.distribute` strategy `apply` sums the replicas' gradients.

    Raises:
      ValueError: momentum or weight_decay out of range, or a layer that the model does not have.
    """

    def __init__(
        self,
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=0.0005,
        bias_learning_rate=2.0,
        bias_weight_decay=False,
        layer_learning_rates=None,
        layer_weight_decay=None,
        name="paper_sgd",
        **kwargs,
    ):
        # The base class's weight_decay is decoupled: it stays off.
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}: expected a number from 0 to 1.")
        self.layer_weight_decay = dict(layer_weight_decay or {})
        for decay in (weight_decay, *self.layer_weight_decay.values()):
            if not decay >= 0:  # NaN too
                raise ValueError(f"weight_decay is {decay}: expected 0 or more.")
        self.momentum = momentum
        self.decay = weight_decay
        self.bias_learning_rate = as_schedule(bias_learning_rate)
        self.bias_weight_decay = bias_weight_decay
        self.layer_learning_rates = {
            layer: as_schedule(rate) for layer, rate in (layer_learning_rates or {}).items()
        }

    def build(self, variables):
        """Creates one zero velocity per variable."""
        if self.built:
            return
        super().build(variables)
        self.velocities = self.add_optimizer_variables(variables, "velocity")
        # update_step gets the backend's variable, without its path.
        paths = [variable.path.split("/") for variable in variables]
        self._layers = [path[-2] if len(path) > 1 else "" for path in paths]
        self._is_bias = [path[-1] == "bias" for path in paths]
        for argument in ("layer_learning_rates", "layer_weight_decay"):
            unknown = set(getattr(self, argument)) - set(self._layers)
            if unknown:
                raise ValueError(
                    f"{argument} names {sorted(unknown)}, but the layers with weights are "
                    f"{sorted(set(self._layers))}."
                )

    def update_step(self, gradient, variable, learning_rate):
        """One step of the recurrence on one variable."""
        index = self._get_variable_index(variable)
        is_bias = self._is_bias[index]
        factors = [self.layer_learning_rates.get(self._layers[index], 1.0)]
        if is_bias:
            factors.append(self.bias_learning_rate)
        if any(factor == 0.0 for factor in factors if isinstance(factor, float)):
            return
        rate = ops.cast(learning_rate, variable.dtype)
        for factor in factors:
            if not isinstance(factor, float):
                factor = ops.cast(factor(self.iterations), variable.dtype)
            rate = rate * factor
        gradient = ops.cast(gradient, variable.dtype)
        decay = 0.0
        if self.bias_weight_decay or not is_bias:
            decay = self.layer_weight_decay.get(self._layers[index], self.decay)
        velocity = self.velocities[index]
        scheduled = any(not isinstance(factor, float) for factor in factors)
        if keras.backend.backend() == "tensorflow" and self.momentum and not scheduled:
            _fused_step(variable, velocity, gradient, rate, (self.momentum, decay))
            return
        if decay:
            gradient = gradient + decay * ops.convert_to_tensor(variable)
        if scheduled:
            # A rate of zero freezes the velocity too.
            moves = ops.cast(rate > 0, variable.dtype)
            old = ops.convert_to_tensor(velocity)
            new = moves * (self.momentum * old - rate * gradient) + (1 - moves) * old
            self.assign(velocity, new)
            self.assign_add(variable, moves * new)
        else:
            self.assign(velocity, self.momentum * velocity - rate * gradient)
            self.assign_add(variable, velocity)

    def get_config(self):
        """The constructor's arguments."""
        config = super().get_config()
        config.update(
            momentum=self.momentum,
            weight_decay=self.decay,
            bias_learning_rate=serialized(self.bias_learning_rate),
            bias_weight_decay=self.bias_weight_decay,
            layer_weight_decay=self.layer_weight_decay,
            layer_learning_rates={
                layer: serialized(rate) for layer, rate in self.layer_learning_rates.items()
            },
        )
        return config


@keras.saving.register_keras_serializable(package="alexnet_tf")
class SharedLossScale(keras.optimizers.LossScaleOptimizer):
    """Loss scaling for float16 in which all replicas skip the same steps.

    Keras checks only the first replica's gradients, before they are summed: an overflow in another
    replica would reach the weights, or, between processes, block the other one.

    Unlike in Keras, a skipped step counts in `iterations`: rates follow the recipe's epochs.
    """

    def _stateful_handle_non_finite_grads(self):
        super()._stateful_handle_non_finite_grads()
        self.inner_optimizer.iterations.assign_add(1)

    def check_finite(self, grads):
        finite = super().check_finite(grads)
        if keras.backend.backend() != "tensorflow":
            return finite
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        if context is None or context.num_replicas_in_sync == 1:
            return finite
        overflows = tf.cast(tf.logical_not(finite), tf.float32)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, overflows) == 0


def _fused_step(variable, velocity, gradient, rate, momentum_and_decay):
    """The same recurrence in two passes without temporaries: m (v - decay rate / m w) - rate g.

    AlexNet has 240 MB of weights: a temporary of that size costs more than the arithmetic.
    """
    import tensorflow as tf

    momentum, decay = momentum_and_decay
    if decay:
        tf.raw_ops.ResourceApplyGradientDescent(
            var=velocity.value.handle, alpha=rate * (decay / momentum), delta=variable.read_value()
        )
    tf.raw_ops.ResourceApplyKerasMomentum(
        var=variable.handle,
        accum=velocity.value.handle,
        lr=rate,
        grad=gradient,
        momentum=tf.constant(momentum, variable.dtype),
    )


def as_schedule(rate):
    """A schedule, also from its configuration; anything else as a float."""
    if isinstance(rate, dict):
        return keras.optimizers.schedules.deserialize(rate)
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return rate
    return float(rate)


def serialized(rate):
    """The inverse of `as_schedule`."""
    return rate if isinstance(rate, float) else keras.optimizers.schedules.serialize(rate)
