"""What ops truly cost on the simulated device: alone, in a network, and while the machine is slow.

Nothing here is from the library's own model of errors. Costs follow a roofline with padded channels, each kernel has a
deviation of its own, and a kernel's cost depends on what ran before it and on how much memory the network works on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from math import ceil, exp, inf, prod
from statistics import NormalDist
from typing import NamedTuple

__all__ = ["Op", "in_network_ms", "overhead_ms", "slowing", "true_ms", "working_set_bytes"]

Shape = Sequence[int]

# kind -> operations a millisecond. Winograd's products are counted as the convolution that they stand for.
_PEAK = {
    "winograd": 140e6, "dense": 75e6, "pointwise": 90e6, "depthwise": 22e6, "product": 18e6, "pooling": 9e6,
    "elementwise": 8e6, "exponential": 1.6e6, "copy": inf,
}  # fmt: skip
_BYTES_A_MS = 12e6
_START_MS = 0.0015  # of any op
_OWN = 0.12  # standard deviation of the logarithm of a kernel's own deviation
_AFTER = 0.04  # the most that what ran before changes
_CACHE_BYTES = 512e3
_MISS_MS_A_BYTE = 1 / 40e6
_WORKING_SET, _HALF_SET_BYTES = 0.06, 2e6  # what a large working set adds; where half of it is added
_DISPLACED, _DISPLACED_OWN = 0.36, 0.02  # how much more a slow machine slows many ops, and how differently
_PROFILED_MS = (0.0006, 0.0014)  # what timing an op adds to it


class Op(NamedTuple):
    """An op of a network.

    Args:
        name: Name in the network.
        type: Kind of op that the device reports.
        kind: Which of the device's speeds it runs at.
        key: Identity of the kernel, from which its own deviation is drawn.
        inputs: Shapes of what is read.
        outputs: Shapes of what is written.
        n_flops: Operations.
        read_bytes: Bytes of activations that are read.
        written_bytes: Bytes that are written.
        weight_bytes: Bytes of weights.
        n_channels: Channels that are written.
    """

    name: str
    type: str
    kind: str
    key: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    n_flops: int
    read_bytes: int
    written_bytes: int
    weight_bytes: int
    n_channels: int


@lru_cache(maxsize=100_000)
def _drawn(text: str) -> float:
    """A number from 0 to 1 that is the text's own."""
    return (int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big") + 0.5) / 2**48


def _normal(text: str) -> float:
    return NormalDist().inv_cdf(_drawn(text))


def _parts_ms(op: Op) -> tuple[float, float]:
    """Computing and moving, as if each was all."""
    padded = 4 * ceil(op.n_channels / 4) / op.n_channels  # vectors of four channels
    return padded * op.n_flops / _PEAK[op.kind], (op.read_bytes + op.written_bytes + op.weight_bytes) / _BYTES_A_MS


def true_ms(op: Op) -> float:
    """An op alone: the larger of computing and moving, a part of the smaller, and a deviation of its own."""
    computing, moving = _parts_ms(op)
    return (_START_MS + max(computing, moving) + 0.3 * min(computing, moving)) * exp(_OWN * _normal(op.key))


def slowing(ops: Sequence[Op]) -> list[float]:
    """The exponents by which a slow machine slows the ops of a network.

    The more ops there are, the more of their code and memory other work displaces. So a network is slowed more than the
    yardstick with its ten ops: by 3 to 5 % where that takes half as long again, as in the recording. And each op a
    little otherwise.
    """
    of_all = 1 + _DISPLACED * (len(ops) / (len(ops) + 10) - 0.5)
    return [of_all + _DISPLACED_OWN * _normal(f"slowing {op.key}") for op in ops]


def overhead_ms(op: Op) -> float:
    """What timing adds to an op."""
    low, high = _PROFILED_MS
    return low + (high - low) * _drawn(f"profiling {op.key}")


def working_set_bytes(ops: Sequence[Op]) -> int:
    """The bytes of all weights, and of the activations of the op that has the largest."""
    return sum(op.weight_bytes for op in ops) + max(op.read_bytes + op.written_bytes for op in ops)


def in_network_ms(ops: Sequence[Op]) -> list[float]:
    """What the ops of a network cost in it, without noise.

    - After another op a kernel takes up to 4 % more or less, whichever that is.
    - What it reads comes from memory if the op before did not write it, or wrote more than the cache holds.
    - In a network that works on much memory everything takes up to 6 % longer.
    """
    n_bytes = working_set_bytes(ops)
    factor = 1 + _WORKING_SET * n_bytes / (n_bytes + _HALF_SET_BYTES)
    costs = []
    for number, op in enumerate(ops):
        before = ops[number - 1] if number else None
        missed_bytes = 0.0
        for shape in op.inputs:
            size = 4 * prod(shape)
            at_hand = before is not None and shape in before.outputs and size + op.weight_bytes <= _CACHE_BYTES
            missed_bytes += 0 if at_hand else size
        after = 1 + _AFTER * (2 * _drawn(f"{before.key if before else 'nothing'} | {op.key}") - 1)
        costs.append(factor * (after * true_ms(op) + missed_bytes * _MISS_MS_A_BYTE))
    return costs
