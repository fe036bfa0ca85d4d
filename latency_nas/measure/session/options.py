"""`SessionOptions`: how a session meters."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from latency_nas.engine import Target, default_engine, get_engine
from latency_nas.errors import MeasureError
from latency_nas.measure.device.runner import RepetitionOptions

__all__ = ["SessionOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a session meters.

    Args:
        repetition: How a network is timed in one repetition.
        engine: Name of the engine.
        context: ``"composed"``: work items inside several networks; ``"alone"``: each work item by itself.
        contexts: Number of networks that each work item is in, if composed.
        rounds: Largest number of stable repetitions of a network.
        min_rounds: Smallest number of them before `stop_at` can end the network.
        stop_at: Precision at which a network is finished: the 95 % interval of each kernel reaches at most this part
            of its time to either side. None to make every round.
        max_drift: Part by which the yardstick may move in a repetition, or lie above its stable time, before the
            repetition is made again.
        items_per_network: Number of work items in a composed network.
        chunk_size: Number of work items that are composed, and timed in interleaved rounds, together.
        device: Name of the device in the datasheet.
        source: Origin of the work items.
        yardstick_ms: Stable time of the yardstick that latencies are expressed at; None for the session's own.
        seed: Seed of orders and weights.
    """

    repetition: RepetitionOptions = field(default_factory=RepetitionOptions)
    engine: str = field(default_factory=lambda: default_engine().name)
    context: Literal["composed", "alone"] = "composed"
    contexts: int = 3
    rounds: int = 5
    min_rounds: int = 3
    stop_at: float | None = 0.02
    max_drift: float = 0.1
    items_per_network: int = 8
    chunk_size: int = 96
    device: str = ""
    source: str = ""
    yardstick_ms: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("contexts", "rounds", "min_rounds", "items_per_network", "chunk_size"):
            if getattr(self, name) < 1:
                raise MeasureError(f"Expected `{name}` to be a positive integer, but got {getattr(self, name)}.")
        for name in ("stop_at", "max_drift", "yardstick_ms"):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise MeasureError(f"Expected `{name}` to be a positive number, but got {value}.")
        if self.context not in ("composed", "alone"):
            raise MeasureError(f"Expected `context` to be one of composed, alone, but got {self.context!r}.")
        engine = get_engine(self.engine)
        for name, known in (("precision", engine.precisions), ("power_mode", engine.power_modes)):
            if (value := getattr(self.repetition, name)) not in known:
                raise MeasureError(
                    f"Expected `{name}` to be one of {', '.join(known)} for {engine.title}, but got {value!r}."
                )

    @property
    def target(self) -> Target:
        """What the engine's rules depend on."""
        return Target(threads=self.repetition.threads, precision=self.repetition.precision)

    @classmethod
    def parse(cls, text: str) -> SessionOptions:
        """The inverse of ``json.dumps(asdict(options))``."""
        fields = json.loads(text)
        return cls(**{**fields, "repetition": RepetitionOptions(**fields["repetition"])})
