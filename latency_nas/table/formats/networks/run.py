"""`NetworkRuns`: times of whole networks from a file of another tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from latency_nas.table.datasheet import finite

__all__ = ["NetworkRun", "NetworkRuns"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRun:
    """The time of one network.

    Args:
        network: Name of the network, or of its model file relative to the file of runs.
        latency_ms: Time of the whole network.
        batch: Number of inputs per run.
        conditions: What it ran on, name -> value, as the options of the reader call them.

    Raises:
        TableError: if the time is not a positive finite number.
    """

    network: str
    latency_ms: float
    batch: int = 1
    conditions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "latency_ms", finite("latency_ms", self.latency_ms, zero=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRuns:
    """Times of networks that ran under the same conditions.

    Args:
        runs: Runs, in the order of the file.
        skipped: Rows that could not be used -> the reason.
    """

    runs: tuple[NetworkRun, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
