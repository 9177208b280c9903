"""The experiments by name. Importing this imports none of them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Experiment:
    """summary: one line for people. module: what holds `run(setting) -> Finding`."""

    summary: str
    module: str


def _of(module: str, summary: str) -> Experiment:
    return Experiment(summary, f"alexnet_tf.experiments.{module}")


# In the order of the report.
EXPERIMENTS = {
    "table1": _of("table1", "one network's error, ten crops and one"),
    "table2": _of("table2", "one network against an average of five"),
    "ten_crop": _of("ten_crop", "what ten crops gain over one"),
    "ablations": _of("ablations", "without LRN, overlap, a column, communication, a middle layer"),
    "two_gpus": _of("two_gpus", "two halves against one column, and both halves' first kernels"),
    "pca_color": _of("pca_color", "with and without colour noise"),
    "fig1": _of("fig1", "ReLU against tanh: epochs to 25 % training error"),
    "fig3": _of("fig3", "the first kernels, and how much of each group is colour"),
    "fig4": _of("fig4", "predictions, and images near to each other in fc7"),
    "lenet_to_alexnet": _of("lenet_to_alexnet", "LeNet-5 and AlexNet on the same images"),
    "gpu_speedup": _of("gpu_speedup", "a training step on the CPU and on a GPU"),
}
