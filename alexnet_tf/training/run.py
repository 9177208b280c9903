"""What a user decides about a training run. Light: imports no TensorFlow."""

import dataclasses
import time

from alexnet_tf.training.recipes import Recipe


@dataclasses.dataclass(frozen=True)
class CheckpointEvery:
    """When to save inside an epoch; the end of an epoch always saves. 0 turns either off."""

    steps: int = 0
    seconds: float = 600.0

    @classmethod
    def parse(cls, text: str) -> "CheckpointEvery":
        """ "500" (steps) or "10m" (minutes); ValueError for anything else."""
        number = text.removesuffix("m")
        if not number.isdigit() or int(number) < 1:
            raise ValueError(
                f"checkpoint_every={text!r} is not understood: expected steps (500) or minutes "
                "(10m)."
            )
        return cls(0, 60.0 * int(number)) if text.endswith("m") else cls(int(number), 0.0)

    def is_due(self, step: int, saved: float) -> bool:
        """Whether to save after `step`, when the last checkpoint is of monotonic time `saved`."""
        by_steps = bool(self.steps) and step % self.steps == 0
        return by_steps or (bool(self.seconds) and time.monotonic() - saved > self.seconds)


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that decides what a run computes, and its directory.

    Attributes:
      recipe: see `alexnet_tf.training.recipes`.
      data_dir, first_label: see `records.open_dataset`.
      workdir: where checkpoints, metrics, the model and the results go.
      seed: of weights, order, augmentation and dropout, 0..2**32 - 1.
      checkpoint_every: when to save inside an epoch.
      flags: the user's flags, kept in config.json.
      jit_compile: whether XLA compiles the step: "true", "false", or "auto", see
        `alexnet_tf.models.compilation`.
      debug_numerics: stop at the first operation that gives NaN or infinity; compiles nothing.
      data_service: grpc://HOST:PORT of a tf.data service that reads and decodes; "" for none. It
        keeps no order within an epoch, so such a run saves only at the end of each epoch.
    """

    recipe: Recipe
    data_dir: str
    workdir: str
    seed: int = 0
    checkpoint_every: CheckpointEvery = CheckpointEvery()
    flags: dict = dataclasses.field(default_factory=dict)
    jit_compile: str = "auto"
    debug_numerics: bool = False
    data_service: str = ""
    first_label: int | None = None

    def __post_init__(self):
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed={self.seed}: expected a number from 0 to {2**32 - 1}.")
        if self.debug_numerics and self.data_service:
            raise ValueError("debug_numerics does not work with data_service: leave one out.")
