"""Assumptions of `benchmark plan` about GPUs, links, networks and records, with their sources.

Measured numbers are from one H200 with 16 cores, TensorFlow 2.21, batch 512.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Link:
    """A connection in a ring of devices.

    Attributes:
      bytes_per_second: rate from each device to the next.
      hop_seconds: latency of an empty piece.
      start_seconds: overhead of each collective before its first piece.
    """

    bytes_per_second: float
    hop_seconds: float = 0.0
    start_seconds: float = 0.0


# NCCL 2 (github.com/NVIDIA/nccl), src/graph/tuning.cc: base latency and latency of a hop over
# NVLink, PCI Express and the network; algorithm "Ring", protocol "Simple".
_START = 8.4e-6
_NVLINK_HOP, _PCIE_HOP, _NETWORK_HOP = 3.4e-6, 5.7e-6, 14.0e-6
# nvidia.com/en-us/data-center/h200: 900 GB/s of NVLink, both directions together; NVIDIA H100
# architecture white paper: over 18 links.
_NVLINKS = 18
# NCCL 2, src/graph/topo.h: what is left of 25 GB/s of a link and direction (SM90_NVLINK_BW) and of
# PCI Express 3 x16 (PCI_BW). Generation 5 has four times its clock.
_NVLINK_RATE, _PCIE_RATE = 20.6e9, 4 * 12.0e9
LINKS = {
    "nvlink": Link(_NVLINKS * _NVLINK_RATE, _NVLINK_HOP, _START),
    "pcie": Link(_PCIE_RATE, _PCIE_HOP, _START),
}
# NCCL 2, src/graph/topo.h: 12 GB/s of 100 Gbit/s (NET_BW).
_NETWORK_EFFICIENCY = 0.96


def network(gbit: float) -> Link:
    """The network between machines; `gbit` is Gbit/s in each direction."""
    return Link(_NETWORK_EFFICIENCY * gbit * 1e9 / 8, _NETWORK_HOP, _START)


# Bytes of gradients per collective if sums overlap the backward pass: the default of PyTorch's
# DistributedDataParallel (Li et al., PyTorch Distributed, arXiv 2006.15704).
BUCKET_BYTES = 25 * 2**20

# nvidia.com/en-us/data-center/h200: 4.8 TB/s.
MEMORY_RATE = 4.8e12
# Measured: operations per second of a large matrix product.
MATRIX_RATE = {"float32": 349e12, "mixed_bfloat16": 790e12, "mixed_float16": 790e12}
# Measured: images per second of a training step compiled by XLA, with images on the device.
STEP_RATES = {
    ("alexnet", "float32"): 22_790,
    ("alexnet", "mixed_bfloat16"): 30_570,
    ("alexnet_owt", "float32"): 32_650,
    ("alexnet_owt", "mixed_bfloat16"): 48_070,
}
# Measured: milliseconds of that step of "alexnet" in float32. Its shares are used for any step.
FORWARD, BACKWARD, UPDATE = 5.9, 16.1, 0.5

# Measured: core milliseconds per augmented image, from records of 256 x 256 pixels.
IMAGE_CPU_MS = {"jpeg": 0.52, "raw": 0.20}
# Of the records of that measurement.
JPEG_KB = 17.3
RAW_KB = 256 * 256 * 3 / 1e3
