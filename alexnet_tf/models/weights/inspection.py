"""Tells whether weights look trained or randomly initialised.

A network with random weights loads without an error, because names and shapes match. Trained
kernels differ from random ones:

    neighbours   kernels of images are smooth: neighbouring weights are similar
    spectrum     some directions dominate: the largest singular value is beyond the edge of
                 Marchenko and Pastur's law, std * (sqrt(rows) + sqrt(columns))
    tails        the kurtosis differs from that of the normal, uniform and truncated normal
                 distributions used for initialisation
    mean         differs from 0, the mean of initial weights
    biases       are neither constant nor uniform in +-1/sqrt(fan-in)

A layer without any of the first four looks random.
"""

import dataclasses
import math

import numpy as np

# Threshold in standard errors of random weights. A network has about twenty such statistics, so a
# random one is taken for trained once in many millions.
_ERRORS = 6
# Excess kurtosis of the distributions used for initialisation; the truncated normal ends at two
# standard deviations.
_KURTOSIS = {"normal": 0.0, "uniform": -1.2, "truncated normal": -0.634}


@dataclasses.dataclass(frozen=True)
class LayerEvidence:
    """Statistics of a layer's weights.

    Attributes:
      layer: its name.
      std: standard deviation of the kernel.
      mean_z: mean of the kernel in standard errors around 0.
      neighbours: correlation of neighbouring weights; None for kernels without neighbours.
      neighbours_z: the same in standard errors of random weights.
      spectrum: largest singular value over the edge for random weights.
      spectrum_edge: maximum of `spectrum` for random weights.
      kurtosis: excess kurtosis, 0 for a normal distribution.
      start: the initialisation that the weights match, in words, or None.
      biases: "one number", "uniform" or "learned".
    """

    layer: str
    std: float
    mean_z: float
    neighbours: float | None
    neighbours_z: float
    spectrum: float
    spectrum_edge: float
    kurtosis: float
    start: str | None
    biases: str

    @property
    def random(self) -> bool:
        """Whether the kernel shows no sign of training."""
        return (
            self.start is not None
            and abs(self.neighbours_z) < _ERRORS
            and self.spectrum < self.spectrum_edge
        )

    def text(self) -> str:
        """One line."""
        said = [] if self.neighbours is None else [f"neighbours {self.neighbours:+.2f}"]
        said += [
            f"largest singular value {self.spectrum:.2f} of a random kernel's",
            f"kurtosis {self.kurtosis:+.2f}",
            f"mean {self.mean_z:+.0f} standard errors",
            f"std {self.std:.3g}",
            f"biases {self.biases}",
        ]
        looks = f"random, {self.start}" if self.random else "trained"
        return f"{self.layer:<6} {looks}: {', '.join(said)}"


def evidence(layer: str, kernel: np.ndarray, bias: np.ndarray) -> LayerEvidence:
    """Computes the statistics of one layer.

    Args:
      layer: its name.
      kernel: (O, I / groups, kh, kw) or (O, I).
      bias: (O,).
    """
    kernel = np.asarray(kernel, np.float32)
    mean, std = float(kernel.mean(dtype=np.float64)), float(kernel.std(dtype=np.float64))
    fan_in = kernel[0].size
    if not std:
        return LayerEvidence(
            layer, 0.0, 0.0, None, 0.0, 0.0, 1.0, 0.0, "all one number", _biases(bias, fan_in)
        )
    centred = (kernel - np.float32(mean)) / np.float32(std)
    neighbours, z = _neighbours(centred)
    spectrum, edge = _spectrum(centred.reshape(len(kernel), -1))
    kurtosis = float(np.mean(np.square(np.square(centred)), dtype=np.float64)) - 3
    mean_z = mean / std * math.sqrt(kernel.size)
    start = _start(centred, mean_z, std, kurtosis, fan_in, len(kernel) * kernel[0, 0].size)
    return LayerEvidence(
        layer, std, mean_z, neighbours, z, spectrum, edge, kurtosis, start, _biases(bias, fan_in)
    )


def _neighbours(centred: np.ndarray) -> tuple[float | None, float]:
    """The correlation of horizontal and vertical neighbours, and the same in standard errors."""
    if centred.ndim != 4 or min(centred.shape[2:]) < 3:
        return None, 0.0
    pairs = [
        (centred[..., :-1] * centred[..., 1:]),
        (centred[..., :-1, :] * centred[..., 1:, :]),
    ]
    count = sum(pair.size for pair in pairs)
    found = float(sum(pair.sum(dtype=np.float64) for pair in pairs)) / count
    return found, found * math.sqrt(count)


def _spectrum(rows: np.ndarray) -> tuple[float, float]:
    """The largest singular value over a random matrix's edge, and its maximum for random ones."""
    import scipy.sparse.linalg

    m, n = rows.shape
    edge = math.sqrt(m) + math.sqrt(n)
    # A random matrix's largest value is within a few m^(-2/3) of the edge (Tracy and Widom).
    margin = 1 + 3 * min(m, n) ** (-2 / 3) + 0.01
    if min(m, n) < 8:
        largest = float(np.linalg.norm(rows, 2))
    else:
        start = np.random.default_rng(0).normal(size=min(m, n)).astype(rows.dtype)
        (value,) = scipy.sparse.linalg.svds(
            rows, k=1, v0=start, tol=1e-3, return_singular_vectors=False
        )
        largest = float(value)
    return largest / edge, margin


def _start(centred, mean_z, std, kurtosis, fan_in, fan_out) -> str | None:
    """The initialisation that the weights match."""
    count = centred.size
    if abs(mean_z) > _ERRORS:
        return None
    # The standard error of the kurtosis of normal samples; it is lower for the other distributions.
    near = _ERRORS * math.sqrt(24 / count) + 0.01
    shape = min(_KURTOSIS, key=lambda name: abs(kurtosis - _KURTOSIS[name]))
    if abs(kurtosis - _KURTOSIS[shape]) > near:
        return None
    if shape == "uniform" and float(np.abs(centred).max()) > math.sqrt(3) * 1.01 + near:
        return None
    return f"{shape} {_known_width(shape, std, fan_in, fan_out, count)}"


def _known_width(shape: str, std: float, fan_in: int, fan_out: int, count: int) -> str:
    """The published initialisation of this width, or the width itself."""
    known = {
        "+-1/sqrt(fan-in), PyTorch's default": 1 / math.sqrt(3 * fan_in),
        "of std 0.01, the paper's": 0.01,
        "of std 0.03, the original program's": 0.03,
        "of std 0.005, Caffe's": 0.005,
        "of std sqrt(2 / fan-in), He's": math.sqrt(2 / fan_in),
        "of std sqrt(2 / (fan-in + fan-out)), Glorot's": math.sqrt(2 / (fan_in + fan_out)),
    }
    near = 0.01 + _ERRORS / math.sqrt(2 * count)
    width = 0.880 if shape == "truncated normal" else 1.0  # the std that remains after truncation
    for name, value in known.items():
        if abs(std / (value * (1 if "sqrt" in name else width)) - 1) < near:
            return name
    return f"of std {std:.3g}"


def _biases(bias: np.ndarray, fan_in: int) -> str:
    bias = np.asarray(bias, np.float64)
    if np.ptp(bias) == 0:
        return f"all {bias[0]:g}"
    limit = 1 / math.sqrt(fan_in)
    inside = np.abs(bias).max() <= limit * 1.0001
    # A uniform start fills its range evenly: its std is the limit over the root of three.
    even = abs(bias.std() / (limit / math.sqrt(3)) - 1) < 0.05 + 2 / math.sqrt(len(bias))
    return "uniform in +-1/sqrt(fan-in)" if inside and even else "learned"
