"""`OpTimes`: what an engine's own benchmark program says of one network."""

from __future__ import annotations

import re
from dataclasses import dataclass

from latency_nas.errors import MeasureError

__all__ = ["OpTimes", "last_match", "no_times"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTimes:
    """What a program says of one network, the mean over its runs.

    Args:
        whole_ms: a run; of a program that times ops alone, their sum.
        ops_ms: each op, by its name; empty where the program does not time them.
        memory_mb: the session's, where the program says it.
    """

    whole_ms: float
    ops_ms: dict[str, float]
    memory_mb: float | None = None

    def __post_init__(self) -> None:
        for name, value in (("the network", self.whole_ms), *self.ops_ms.items()):
            if not 0 <= value < float("inf"):
                raise MeasureError(f"Expected the time of {name} to be a finite number >= 0, but got {value}.")
        if not self.whole_ms:
            raise MeasureError("Expected a network to take time, but got 0 ms: it did not run.")


def last_match(pattern: re.Pattern[str], text: str, program: str) -> re.Match[str]:
    """The last place where a program's output matches.

    Raises:
        MeasureError: if there is none.
    """
    found = list(pattern.finditer(text))
    if not found:
        raise no_times(program, text)
    return found[-1]


def no_times(program: str, text: str) -> MeasureError:
    """The error for output without times; it shows the output's end."""
    said = text.strip().splitlines() or ["nothing"]
    return MeasureError(f"Expected the times that {program} prints, but its output ends in {said[-1]!r}.")
