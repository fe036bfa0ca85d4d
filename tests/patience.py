"""Measuring on a machine that other work shares: what is disturbed decides nothing and is measured again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from latency_nas.estimate.accuracy import Accuracy

T = TypeVar("T")
NEVER_UNDISTURBED = "never met undisturbed"  # as a datasheet says it of networks


def patiently(measure: Callable[[], T], undisturbed: Callable[[T], bool]) -> T:
    """The first measurement that was not disturbed, or the third."""
    for _ in range(2):
        result = measure()
        if undisturbed(result):
            return result
    return measure()


def repeats(accuracy: Accuracy) -> bool:
    """Whether two measurements of a network differ by less than what they are to decide."""
    assert accuracy.repeat_error is not None
    return accuracy.repeat_error <= 0.02
