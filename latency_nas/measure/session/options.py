"""`SessionOptions`: how a session meters."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from latency_nas.engine import Target, default_engine, get_engine
from latency_nas.errors import MeasureError
from latency_nas.measure.device.runner import VisitOptions

__all__ = ["SessionOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOptions:
    """How a session meters.

    Args:
        visit: how a network is timed in one visit.
        engine: the name of the engine.
        context: ``"composed"``: inside several networks; ``"alone"``: each piece by itself.
        contexts: networks in which each piece is met, if composed.
        rounds: undisturbed visits of each network, at most.
        least_rounds: and at least, before `stop_at` can end it.
        stop_at: a network is not visited again once the 95 % interval of each of its kernels is at most this part of
            its time to either side; None to make every round.
        max_drift: how far the yardstick may move in a visit, or lie above its best, before the visit is made again.
        n_pieces: pieces of a composed network.
        chunk_size: pieces that are composed, and visited in interleaved rounds, together.
        device: what the datasheet calls the device.
        source: where the pieces are from.
        yardstick_ms: the yardstick's undisturbed time that latencies are expressed at; None for the session's own.
        seed: of orders and weights.
    """

    visit: VisitOptions = field(default_factory=VisitOptions)
    engine: str = field(default_factory=lambda: default_engine().name)
    context: Literal["composed", "alone"] = "composed"
    contexts: int = 3
    rounds: int = 5
    least_rounds: int = 3
    stop_at: float | None = 0.02
    max_drift: float = 0.1
    n_pieces: int = 8
    chunk_size: int = 96
    device: str = ""
    source: str = ""
    yardstick_ms: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("contexts", "rounds", "least_rounds", "n_pieces", "chunk_size"):
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
            if (value := getattr(self.visit, name)) not in known:
                raise MeasureError(
                    f"Expected `{name}` to be one of {', '.join(known)} for {engine.title}, but got {value!r}."
                )

    @property
    def target(self) -> Target:
        """What the engine's rules depend on."""
        return Target(threads=self.visit.threads, precision=self.visit.precision)

    @classmethod
    def parse(cls, text: str) -> SessionOptions:
        """The inverse of ``json.dumps(asdict(options))``."""
        fields = json.loads(text)
        return cls(**{**fields, "visit": VisitOptions(**fields["visit"])})
