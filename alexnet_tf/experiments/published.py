"""Published numbers with their sources.

[P] Krizhevsky, Sutskever, Hinton, NIPS 2012. [S] the authors' program and its notes, published in
2025 as computerhistory/AlexNet-Source-Code.
"""

import dataclasses

TEST_2010 = "ILSVRC-2010 test"
VALIDATION_2012 = "ILSVRC-2012 validation"
CIFAR10 = "CIFAR-10"


@dataclasses.dataclass(frozen=True)
class Claim:
    """text: what is claimed. value: the published number. data: measured on. source: where."""

    text: str
    value: str
    data: str
    source: str


SPARSE_CODING = Claim(
    "sparse coding, top-1 / top-5 error", "47.1 % / 28.2 %", TEST_2010, "[P] table 1"
)
SIFT = Claim("SIFT + FVs, top-1 / top-5 error", "45.7 % / 25.7 %", TEST_2010, "[P] table 1")
ONE_NETWORK_2010 = Claim(
    "one CNN, ten crops, top-1 / top-5 error", "37.5 % / 17.0 %", TEST_2010, "[P] table 1"
)
ONE_CROP_2010 = Claim(
    "one CNN, one crop, top-1 / top-5 error",
    "39.0 % / 18.3 %",
    TEST_2010,
    "[P] section 4.1 and footnote of section 6",
)
TEN_CROP_GAIN = Claim(
    "ten crops instead of one lower top-1 / top-5 error by",
    "1.5 / 1.3 points",
    TEST_2010,
    "[P] section 6: 39.0 % / 18.3 % against 37.5 % / 17.0 %",
)

SIFT_2012 = Claim("SIFT + FVs, top-5 error", "26.2 %", "ILSVRC-2012 test", "[P] table 2")
ONE_NETWORK_2012 = Claim(
    "1 CNN, top-1 / top-5 error", "40.7 % / 18.2 %", VALIDATION_2012, "[P] table 2"
)
FIVE_NETWORKS = Claim(
    "5 CNNs averaged, top-1 / top-5 error", "38.1 % / 16.4 %", VALIDATION_2012, "[P] table 2"
)
ONE_PRETRAINED = Claim(
    "1 CNN*, pre-trained on ImageNet Fall 2011, top-1 / top-5 error",
    "39.0 % / 16.6 %",
    VALIDATION_2012,
    "[P] table 2",
)
SEVEN_NETWORKS = Claim(
    "7 CNNs*, top-1 / top-5 error", "36.7 % / 15.4 %", VALIDATION_2012, "[P] table 2"
)

ONE_COLUMN = Claim(
    "one column (half the kernels) instead of two raises top-1 / top-5 error by",
    "1.7 / 1.2 points",
    TEST_2010,
    "[P] section 3.2",
)
NO_NORM = Claim(
    "no response normalisation raises top-1 / top-5 error by",
    "1.4 / 1.2 points",
    VALIDATION_2012,
    "[P] section 3.3; [S] #148 - #145: 1.37 / 1.15",
)
NO_OVERLAP = Claim(
    "pools that do not overlap raise top-1 / top-5 error by",
    "0.4 / 0.3 points",
    VALIDATION_2012,
    "[P] section 3.4; [S] #147 - #145: 0.39 / 0.30",
)
NO_CROSSING = Claim(
    "columns that never communicate raise top-1 / top-5 error by",
    "1.2 / 1.1 points",
    VALIDATION_2012,
    "[S] #150 - #145: 1.16 / 1.12",
)
NO_CONV4 = Claim(
    "without the middle layer conv4, top-1 error rises by",
    "about 2 points",
    "ImageNet, split not stated",
    "[P] section 7, of any middle layer",
)
NO_CONV5 = dataclasses.replace(
    NO_CONV4, text="without the middle layer conv5, top-1 error rises by"
)

COLOUR_NOISE = Claim(
    "colour noise lowers top-1 error by",
    "over 1 point",
    "ImageNet, split not stated",
    "[P] section 4.1",
)
RELU_SPEED = Claim(
    "epochs to 25 % training error, tanh over ReLU, four-layer network",
    "6 times",
    CIFAR10,
    "[P] figure 1 and section 3.1",
)
CIFAR_NO_NORM = Claim(
    "four-layer CIFAR-10 network without response normalisation, test error",
    "13 %",
    CIFAR10,
    "[P] section 3.3",
)
CIFAR_NORM = dataclasses.replace(
    CIFAR_NO_NORM,
    text="four-layer CIFAR-10 network with response normalisation, test error",
    value="11 %",
)
# Read from the printed figure, by eye.
FIGURE_1_EPOCHS = {"relu": 6, "tanh": 36}
COLOUR_GROUPS = Claim(
    "one GPU's first kernels are mostly colour-agnostic, the other's mostly colour-specific, in "
    "every run",
    "seen, no number",
    "ILSVRC-2010 or 2012",
    "[P] section 6.1 and figure 3",
)
LIKE_PICTURES = Claim(
    "images with close fc7 activations show the same kind of thing",
    "seen, no number",
    TEST_2010,
    "[P] section 6.1 and figure 4",
)
FROM_LENET = Claim(
    "AlexNet against LeNet-5 on the same images, top-1 error",
    "no such measurement",
    "-",
    "ours: [P] builds on LeCun et al. 1998, which has 0.95 % on MNIST",
)
TRAINING_TIME = Claim(
    "90 epochs on two GTX 580 take",
    "5 to 6 days",
    "ILSVRC, 1.2 million images",
    "[P] section 5",
)


@dataclasses.dataclass(frozen=True)
class Milestone:
    """A published point of training.

    Attributes:
      when: in words; publications do not always state the step.
      loss, top1_error, top5_error: mean cross entropy and error fractions; None if not known.
      source: where it is published.
    """

    when: str
    loss: float | None
    top1_error: float | None
    top5_error: float | None
    source: str


_CUDA_CONVNET2 = "cuda-convnet2's wiki, TrainingExample; the same authors' later network"
FIRST_BATCHES = Milestone("first batches", 7.156, 1.0, None, _CUDA_CONVNET2)
FIRST_CHECKPOINT = Milestone(
    "its first checkpoint, at a step that is not stated", 5.305, 0.939, 0.820, _CUDA_CONVNET2
)
# The ends of the training runs behind the paper's tables.
END_2010 = Milestone(
    "end, 93 epochs, one crop, ILSVRC-2010 test", 1.706, 0.390, 0.183, "[S] #145-2010; [P] 4.1"
)
END_2010_TEN_CROPS = Milestone(
    "end, 93 epochs, ten crops, ILSVRC-2010 test", 1.615, 0.375, 0.170, "[S] #145-2010; [P] table 1"
)
END_2012_TEN_CROPS = Milestone(
    "end, 91 epochs, ten crops, ILSVRC-2012 validation",
    1.741,
    0.407,
    0.182,
    "[S] #145; [P] table 2",
)
MILESTONES = (
    FIRST_BATCHES,
    FIRST_CHECKPOINT,
    END_2010,
    END_2010_TEN_CROPS,
    END_2012_TEN_CROPS,
)
