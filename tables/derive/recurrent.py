"""Recurrent layers of the sizes that phones run: keyword spotting, speech, handwriting, time series."""

from __future__ import annotations

import numpy as np

from latency_nas.kernel import AttrValue, Kernel

__all__ = ["recurrent_kernels", "recurrent_layer"]

_STEPS = (5, 1500)
_SIZES = (16, 640)  # of features and of the hidden state
_N_DRAWN = 24  # kernels of each op and number of directions
_MAX_MACS = 4e9  # about 0.3 s: longer runs are rarely undisturbed


def recurrent_layer(op: str, steps: int, features: int, hidden: int, directions: int = 1) -> Kernel:
    """A layer over one sequence."""
    both: dict[str, AttrValue] = {"directions": directions} if directions > 1 else {}
    return Kernel.of(op, [(steps, 1, features)], [(steps, 1, directions * hidden)], hidden=hidden, **both)


def recurrent_kernels(seed: int = 0) -> list[Kernel]:
    """Kernels whose sizes are drawn from log-uniform distributions, rounded to multiples of 4 (features) or of 8."""
    random = np.random.default_rng(seed)

    def drawn(low: int, high: int, step: int) -> int:
        value = np.exp(random.uniform(np.log(low), np.log(high)))
        return max(step, round(float(value) / step) * step)

    found: dict[Kernel, None] = {}
    for op, work in (("lstm", 4), ("gru", 3), ("rnn", 1)):
        for directions in (1, 2):
            left = _N_DRAWN
            while left:
                steps, features, hidden = drawn(*_STEPS, 1), drawn(*_SIZES, 4), drawn(*_SIZES, 8)
                if work * steps * hidden * (features + hidden) * directions <= _MAX_MACS:
                    found[recurrent_layer(op, steps, features, hidden, directions)] = None
                    left -= 1
    return list(found)
