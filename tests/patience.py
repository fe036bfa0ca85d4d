"""On a machine that other work shares, what is unstable is measured again, and the most stable result is used."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from latency_nas.estimate.accuracy import Accuracy
from latency_nas.table import LatencyTable

T = TypeVar("T")
SELDOM_UNDISTURBED = "rarely stable"  # in a datasheet, of networks
_WAITS_S = (5, 40)  # what disturbs a machine may last for a minute


def patiently(measure: Callable[[], T], disturbance: Callable[[T], float]) -> T:
    """The first of three measurements whose disturbance is at most 1, or the least unstable of them."""
    results: list[T] = []
    for wait_s in (0, *_WAITS_S):
        time.sleep(wait_s)
        results.append(measure())
        if disturbance(results[-1]) <= 1:
            return results[-1]
    return min(results, key=disturbance)


def table_disturbance(checked: tuple[LatencyTable, Accuracy]) -> float:
    """Of a table and of what it was checked by: how far two measurements of a network differ, and what the meter says.

    Two per cent is what is borne where three are asserted.
    """
    table, accuracy = checked
    assert accuracy.repeat_error is not None
    return accuracy.repeat_error / 0.02 + (SELDOM_UNDISTURBED in table.datasheet.notes)
