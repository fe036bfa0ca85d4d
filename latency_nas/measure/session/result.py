"""The results of a session, as times or as a latency table: computed anew from its raw samples at each call."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass

from latency_nas.errors import MeasureError
from latency_nas.kernel import Kernel
from latency_nas.kernel.cost import GATES
from latency_nas.measure.left_out import left_out_error
from latency_nas.measure.repetition import DriftFilter, Repetition, Statistic, repetition_of
from latency_nas.measure.session.session import Session
from latency_nas.measure.times import Drift, NetworkTimes, aggregate, entries_of
from latency_nas.table import Datasheet, LatencyTable
from latency_nas.table.identity import architecture_of

__all__ = ["SessionResult", "build_table", "session_result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionResult:
    """A session's networks as they were measured.

    Args:
        kernels: Kernels of each network, in order.
        times: Times of each network.
        drift: Drift of the whole session.
    """

    kernels: tuple[tuple[Kernel, ...], ...]
    times: tuple[NetworkTimes, ...]
    drift: Drift


def session_result(session: Session, statistic: Statistic = "median") -> SessionResult:
    """Summarise a session's samples at the yardstick's stable speed.

    Args:
        session: Session, finished or not.
        statistic: Statistic of the runs of a repetition; over repetitions it is always the median.

    Raises:
        MeasureError: if there are no samples yet.
    """
    options = session.options
    drift_filter = DriftFilter(options.max_drift, options.yardstick_ms)
    for before, after in session.yardsticks_ms():
        drift_filter.note_ms((before + after) / 2)
    known = session.kernels()
    kernels: list[tuple[Kernel, ...]] = []

    def repetitions() -> Iterator[list[Repetition]]:
        for ids, group in _repetitions_by_network(session, statistic):
            kernels.append(tuple(known[number] for number in ids))
            yield group

    times, drift = aggregate(
        repetitions(),
        drift_filter,
        options.rounds,
        options.repetition.n_runs,
        options.yardstick_ms,
        min_rounds=options.min_rounds,
    )
    if not times:
        raise MeasureError(f"Expected samples in {session.path}, but there are none yet: run the session first.")
    return SessionResult(kernels=tuple(kernels), times=tuple(times), drift=drift)


def _repetitions_by_network(
    session: Session, statistic: Statistic
) -> Iterator[tuple[tuple[int, ...], list[Repetition]]]:
    for network in session.networks():
        repetitions = [repetition_of(raw, statistic) for raw in session.repetitions(network.id)]
        if repetitions:
            yield network.kernels, repetitions


def build_table(session: Session, statistic: Statistic = "median", *, batch: int | None = None) -> LatencyTable:
    """The table of a session, its datasheet filled in.

    Args:
        session: Session, finished or not.
        statistic: Statistic of the runs of a repetition; over repetitions it is always the median.
        batch: Number of images in a run; by default the one in the kernels' shapes.

    Raises:
        MeasureError: if there are no samples yet, or kernels of several batch sizes.
    """
    result = session_result(session, statistic)
    options, repetition = session.options, session.options.repetition
    batch = _batch(session, result) if batch is None else batch
    ended = datetime.datetime.fromtimestamp(session.last_repetition_s() or 0, datetime.UTC)
    runs = {"median": "the median", "min": "the minimum", "mean": "the mean"}[statistic] + " of the runs"
    runs += f" ({session.fact('samples')})" * bool(session.fact("samples"))
    power = "" if repetition.power_mode == "normal" else repetition.power_mode
    governor, emulated = session.fact("governor"), session.fact("emulated") == "True"
    error, n_left_out = left_out_error(result.kernels, result.times)
    here = f"{'emulated' if emulated else session.fact('at') or 'this machine'} ({session.fact('machine')})"
    datasheet = Datasheet(
        device=options.device or here,
        soc=session.fact("processor"),
        architecture=architecture_of(session.fact("machine")),
        engine=session.fact("engine"),
        engine_version=session.fact("engine_version"),
        method="measured",
        precision=repetition.precision,
        threads=repetition.threads,
        power_mode=", ".join(filter(None, (power, governor and f"governor {governor}"))),
        batch=batch,
        date=ended.date().isoformat(),
        statistic=f"median over the places of a kernel of the median over repetitions of {runs}, "
        f"at the yardstick's stable speed",
        sources=(
            f"{len(result.times)} {_how(session, result)} of {repetition.n_runs} runs each"
            + (f", of {options.source}" if options.source else ""),
        ),
        expected_error=error,
        expected_error_method="" if error is None else f"{n_left_out} metered networks, each left out",
        yardstick_ms=result.drift.yardstick_ms,
        emulated=emulated,
        notes=str(result.drift),
    )
    return LatencyTable.of(entries_of(result.kernels, result.times), datasheet, name=str(session.path))


def _how(session: Session, result: SessionResult) -> str:
    """What was metered, and how often, for the datasheet."""
    repetitions = f"{result.drift.n_repetitions} repetitions"
    if not session.engine.times_ops:
        return f"kernels, each a network of its own, {repetitions}"
    if all(work_item.kind == "network" for work_item in session.work_items()):
        return f"networks profiled op by op, {session.options.rounds} repetitions"
    return {"composed": "composed networks", "alone": "networks of one work item each"}[
        session.options.context
    ] + f", {repetitions}"


def _batch(session: Session, result: SessionResult) -> int:
    """The images in a run: the first size of the inputs of convolutions and poolings, or of all kernels.

    The first size of a recurrent layer is the number of steps, the second that of sequences.
    """
    first = {
        (kernel.op.startswith(("conv", "pool")), kernel.inputs[0][kernel.op in GATES])
        for kernel in set().union(*result.kernels)
        if kernel.inputs and kernel.inputs[0]
    }
    batches = {size for images, size in first if images} or {size for _, size in first}
    if len(batches) > 1:
        raise MeasureError(
            f"Expected kernels of one batch size in {session.path}, but got {sorted(batches)}: "
            f"make a session for each batch size."
        )
    return batches.pop() if batches else 1
