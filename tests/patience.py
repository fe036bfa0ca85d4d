"""Measuring on a machine that other work shares: what is disturbed decides nothing and is measured again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from latency_nas.estimate.accuracy import Accuracy

T = TypeVar("T")
NEVER_UNDISTURBED = "never met undisturbed"  # as a datasheet says it of networks
_WAITS_S = (5, 40)  # what disturbs a machine may last for a minute


def patiently(measure: Callable[[], T], undisturbed: Callable[[T], bool]) -> T:
    """The first measurement that was not disturbed, or the third."""
    for wait_s in _WAITS_S:
        result = measure()
        if undisturbed(result):
            return result
        time.sleep(wait_s)
    return measure()


def repeats(accuracy: Accuracy) -> bool:
    """Whether two measurements of a network differ by less than what they are to decide."""
    assert accuracy.repeat_error is not None
    return accuracy.repeat_error <= 0.02
