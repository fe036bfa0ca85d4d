"""Runs a session chunk by chunk: networks are repeated in shuffled rounds, until the times of each are known."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latency_nas.errors import GraphError, MeasureError
from latency_nas.measure.device.runner import IDENTITY, RepetitionRequest, Runner
from latency_nas.measure.repetition import MAX_REPEATS, DriftFilter, Progress, Repetition, repetition_of
from latency_nas.measure.session.chunk import Chunk
from latency_nas.measure.session.session import Session, StoredNetwork
from latency_nas.measure.times import spread
from latency_nas.measure.yardstick import write_yardstick

__all__ = ["check_device", "run_session"]

logger = logging.getLogger(__name__)

_HALF_WIDTH = 1.96 * np.sqrt(np.pi / 2)  # standard errors of a mean -> half of the 95 % interval of a median
_FLOOR = 0.02  # the error of an op that takes less than this part of the network is compared with this part


def run_session(
    session: Session,
    runner: Runner,
    *,
    on_progress: Progress | None = None,
    allow: Sequence[str] = (),
    strict: bool = False,
) -> None:
    """Meter what a session has not metered yet; a session that was interrupted continues where it was.

    Args:
        session: Session, open for writing.
        runner: Runner of the device, or of several devices of one kind.
        on_progress: Called after each repetition with the repetitions so far, and an estimate of all.
        allow: Packages that ops' classes may be of beside `ALLOWED_PACKAGES`. A session's file cannot store it: it is
            given again whenever the session is continued.
        strict: Whether what cannot be metered is an error; if not, it is put aside.

    Raises:
        UnsafeOpError: if an op's class is of a package that is not allowed.
        RunnerLostError: if the device no longer answers; what was measured is kept.
        SessionError: if the file cannot be written; what was measured is kept.
        MeasureError: if the device is another one than the session began on, or lacks the precision.
    """
    with tempfile.TemporaryDirectory() as name:
        yardstick = write_yardstick(session.engine, Path(name))
        check_device(session, runner.hello())
        loop = _RepetitionLoop(session, runner, yardstick, on_progress)
        for number in range(session.n_chunks):
            if session.fact(f"chunk {number}") == "done":
                continue
            with tempfile.TemporaryDirectory(dir=name) as folder:
                loop.run(Chunk(session, number, Path(folder), allow=allow, strict=strict), number)
            session.note(f"chunk {number}", "done")


def check_device(session: Session, hello: Mapping[str, Any]) -> None:
    """Check that the device and the engine are those that the session began on, and record them in the session.

    Args:
        session: Session, open for writing.
        hello: What the device is, as `Runner.hello` gives it.

    Raises:
        MeasureError: if the device or the engine is another one.
    """
    for name in (*IDENTITY, "governor", "samples", "at"):
        known, found = session.fact(name), str(hello.get(name, ""))
        if known and known != found and name in IDENTITY:
            raise MeasureError(
                f"Expected to go on with {session.path} where {name} is {known}, but here it is {found}: "
                f"a session is of one device and one engine."
            )
        session.note(name, found)


class _RepetitionLoop:
    """Makes the repetitions of a session and stores their samples.

    Args:
        session: Session that samples are stored in.
        runner: Runner that makes the repetitions.
        yardstick: File of the yardstick.
        on_progress: Called after each repetition.
    """

    def __init__(self, session: Session, runner: Runner, yardstick: Path, on_progress: Progress | None) -> None:
        self._session, self._runner, self._yardstick = session, runner, yardstick
        self._on_progress = on_progress
        self._drift_filter = DriftFilter(session.options.max_drift, session.options.yardstick_ms)
        for before, after in session.yardsticks_ms():
            self._drift_filter.note_ms((before + after) / 2)
        self._n_repetitions = session.n_repetitions
        self._random = np.random.default_rng([session.options.seed, self._n_repetitions])

    def run(self, chunk: Chunk, number: int) -> None:
        """Time the chunk's networks until each has its rounds or is known well enough."""
        chunk.compose_networks()
        repetitions: dict[int, list[Repetition]] = {}
        while True:
            networks = chunk.networks()
            for network in networks:
                if network.id not in repetitions:
                    repetitions[network.id] = [repetition_of(raw) for raw in self._session.repetitions(network.id)]
            due = [network for network in networks if self._is_due(repetitions[network.id])]
            if not due:
                return
            requested: dict[Path, StoredNetwork] = {}
            order = [due[index] for index in self._random.permutation(len(due))]
            for request, raw in self._runner.repeat_all(self._requests(chunk, order, repetitions, requested)):
                self._store(chunk, requested[request.file], raw, repetitions)
                self._report_progress(number, networks, repetitions)

    def _requests(
        self,
        chunk: Chunk,
        networks: Sequence[StoredNetwork],
        repetitions: Mapping[int, Sequence[Repetition]],
        requested: dict[Path, StoredNetwork],
    ) -> Iterator[RepetitionRequest]:
        """A request for each network that can be built; `requested` then maps its file to the network."""
        options = self._session.options.repetition
        for network in networks:
            try:
                file, min_ms = chunk.build(network), chunk.min_ms(network)
            except (MeasureError, GraphError) as error:
                chunk.fail(network, error)
                continue
            requested[file] = network
            describe = not repetitions[network.id]
            yield RepetitionRequest(
                file=file, yardstick=self._yardstick, options=options, describe=describe, min_ms=min_ms
            )

    def _store(
        self,
        chunk: Chunk,
        network: StoredNetwork,
        raw: Mapping[str, Any],
        repetitions: Mapping[int, list[Repetition]],
    ) -> None:
        """Store the samples of a repetition, or put the network aside if they are an error or do not fit it."""
        try:
            if "error" in raw:
                raise MeasureError(raw["error"])
            raw = chunk.checked(network, raw)
        except (MeasureError, GraphError) as error:
            chunk.fail(network, error)
            return
        self._session.add_repetition(network.id, raw)
        repetition = repetition_of(raw)
        repetitions[network.id].append(repetition)
        self._drift_filter.note_ms(repetition.yardstick_ms)
        self._n_repetitions += 1

    def _is_due(self, repetitions: Sequence[Repetition]) -> bool:
        """Whether a network needs another repetition."""
        options = self._session.options
        stable = [repetition for repetition in repetitions if not self._drift_filter.unstable(repetition)]
        if len(stable) >= options.rounds or len(repetitions) >= MAX_REPEATS * options.rounds:
            return False
        return not (
            options.stop_at is not None and len(stable) >= options.min_rounds and _half_width(stable) <= options.stop_at
        )

    def _report_progress(
        self, number: int, networks: Sequence[StoredNetwork], repetitions: dict[int, list[Repetition]]
    ) -> None:
        """Call `on_progress`; each later chunk is taken to need as many repetitions as this one."""
        if self._on_progress:
            due = [repetitions[network.id] for network in networks if self._is_due(repetitions[network.id])]
            left = sum(max(1, self._session.options.min_rounds - len(made)) for made in due)
            chunks_left = self._session.n_chunks - number - 1
            made = sum(len(repetitions[network.id]) for network in networks)
            self._on_progress(self._n_repetitions, self._n_repetitions + left + chunks_left * (made + left))


def _half_width(repetitions: Sequence[Repetition]) -> float:
    """Half of the 95 % interval over the time, of the worst op; a time counts as at least `_FLOOR` of the network's."""
    ops = np.stack([repetition.ops_ms / repetition.yardstick_ms for repetition in repetitions])
    half = _HALF_WIDTH * spread(ops) / np.sqrt(len(repetitions))
    return float(np.max(half / np.maximum(np.median(ops, axis=0), _FLOOR * np.median(ops.sum(axis=1)))))
