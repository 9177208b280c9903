"""Experiments by name. Importing this module imports none of them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Experiment:
    """An experiment that can be run by name.

    Attributes:
      title: its title in the report; tables and figures are the paper's.
      summary: a one-line description.
      module: the module with `run(context) -> Result`.
      cifar10: whether the claim is about CIFAR-10. Such an experiment runs on any data when it is
        named, but in "all" only on CIFAR-10.
      any_size: whether it accepts images smaller than AlexNet's crop; in "all" the others are
        left out on such data.
    """

    title: str
    summary: str
    module: str
    cifar10: bool = False
    any_size: bool = False


def _of(
    module: str, title: str, summary: str, cifar10: bool = False, any_size: bool = False
) -> Experiment:
    home = f"alexnet_tf.experiments.{module}"
    return Experiment(title, summary, home, cifar10, any_size or cifar10)


# In the order of the report.
EXPERIMENTS = {
    "table1": _of("table1", "Table 1", "one network's error, ten crops and one"),
    "table2": _of("table2", "Table 2", "one network against an average of five"),
    "ten_crop": _of("ten_crop", "Ten crops", "what ten crops gain over one"),
    "ablations": _of(
        "ablations",
        "Ablations",
        "without LRN, overlap, a column, communication, a middle layer",
        any_size=True,
    ),
    "two_gpus": _of(
        "two_gpus", "Two GPUs", "two halves against one column, and both halves' first kernels"
    ),
    "pca_color": _of("pca_color", "Colour noise", "with and without colour noise"),
    "fig1": _of(
        "fig1", "Figure 1", "ReLU against tanh: epochs to 25 % training error", cifar10=True
    ),
    "fig1_conditions": _of(
        "fig1_conditions",
        "Conditions of figure 1",
        "how figure 1 depends on start, batch size and rate",
        cifar10=True,
    ),
    "cifar10": _of(
        "cifar10", "CIFAR-10", "the CIFAR-10 network with and without LRN", cifar10=True
    ),
    "fig3": _of("fig3", "Figure 3", "the first kernels, and how much of each group is colour"),
    "fig4": _of("fig4", "Figure 4", "predictions, and images near to each other in fc7"),
    "lenet_to_alexnet": _of(
        "lenet_to_alexnet", "From LeNet-5 to AlexNet", "LeNet-5 and AlexNet on the same images"
    ),
    "gpu_speedup": _of(
        "gpu_speedup", "GPU speed-up", "a training step on the CPU and on a GPU", any_size=True
    ),
}
