"""`OpTimes`: the times of one network by an engine's own benchmark program."""

from __future__ import annotations

import re
from dataclasses import dataclass

from latency_nas.errors import MeasureError

__all__ = ["OpTimes", "last_match", "no_times"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTimes:
    """Times of one network, each a mean over the runs of a program.

    Args:
        whole_ms: Time of a whole run; the sum of all ops where the program times only these.
        ops_ms: Time of each op, by its name; empty where the program does not time ops.
        memory_mb: Peak memory of the session, where the program reports it.
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
    """The last match of a pattern in a program's output.

    Raises:
        MeasureError: if there is none.
    """
    found = list(pattern.finditer(text))
    if not found:
        raise no_times(program, text)
    return found[-1]


def no_times(program: str, text: str) -> MeasureError:
    """The error for an output without times. It shows the output's last line."""
    lines = text.strip().splitlines() or ["nothing"]
    return MeasureError(f"Expected the times that {program} prints, but its output ends in {lines[-1]!r}.")
