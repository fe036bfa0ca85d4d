"""The machine's speed and its jitter: replayed from a trace that was recorded on a shared machine with two cores.

``trace.int16`` holds how much slower than its stable time that machine was, as ten-thousandths of a logarithm, eight
numbers for each of its rounds of 24.5 ms (``make_trace.py`` derives it).
"""

from __future__ import annotations

import random
from array import array
from itertools import pairwise
from pathlib import Path
from statistics import median

__all__ = ["REGIMES", "Machine", "trace"]

N_A_ROW = 8
_STEP_MS = 24.5 / N_A_ROW
_SLOW, _FAST = 0.25, 0.06
REGIMES = ("mixed", "fast", "slow")


def trace(regime: str = "mixed") -> list[float]:
    """Logarithms of how much slower the machine was, in order of time; of one regime only its rounds.

    Args:
        regime: ``"mixed"`` for all rounds, ``"fast"`` or ``"slow"``.
    """
    numbers = array("h")
    numbers.frombytes(Path(__file__).with_name("trace.int16").read_bytes())
    rows = [[number / 1e4 for number in numbers[at : at + N_A_ROW]] for at in range(0, len(numbers), N_A_ROW)]
    keep = {"mixed": lambda _: True, "fast": lambda middle: middle < _FAST, "slow": lambda middle: middle > _SLOW}
    return [value for row in rows if keep[regime](median(row)) for value in row]


class Machine:
    """The machine at some moment of the trace. Its time passes as work is done, and at no other moment.

    Args:
        regime: See `trace`.
        row: Round of the trace at which it begins.
    """

    def __init__(self, regime: str = "mixed", row: int = 0) -> None:
        self._trace = trace(regime)
        fast = [pair for pair in pairwise(trace("fast")) if max(pair) < _FAST + _FAST]  # bursts are in the trace itself
        self._jitter = [(after - before) / 2**0.5 for before, after in fast]
        self._random = random.Random(f"{regime}@{row}")
        self.time_ms = row * N_A_ROW * _STEP_MS

    def slowness(self) -> float:
        """The logarithm of how much slower than its stable time it is now."""
        return self._trace[int(self.time_ms / _STEP_MS) % len(self._trace)]

    def jitter(self) -> float:
        """The logarithm by which one measurement differs from the next: one that was recorded, at any fast moment."""
        return self._jitter[int(self._random.random() * len(self._jitter))]
