"""Measures networks beside the yardstick, and makes a table of their kernels' times in context.

These functions and `latency-nas measure` share one loop: a session, here in a temporary file, whose networks run in a
process of their own. A repetition opens a network anew, runs the yardstick, the network (whole, and op by op), and the
yardstick again. Opening it anew matters as much as many runs: the place of its memory changes a time by a few percent.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from latency_nas.engine import Engine, get_engine
from latency_nas.errors import MeasureError
from latency_nas.graph import OpGraph
from latency_nas.kernel import Kernel
from latency_nas.measure.device.runner import RepetitionOptions, Runner, given_or_local
from latency_nas.measure.repetition import Progress
from latency_nas.measure.session.options import SessionOptions
from latency_nas.measure.session.result import build_table, session_result
from latency_nas.measure.session.run import run_session
from latency_nas.measure.session.session import Session
from latency_nas.measure.session.work_item import WorkItem
from latency_nas.measure.times import Drift, NetworkTimes
from latency_nas.table import LatencyTable

__all__ = ["measure_networks", "measure_table"]


def measure_networks(
    networks: Sequence[OpGraph | str | os.PathLike[str]],
    *,
    engine: Engine | str | None = None,
    threads: int = 1,
    precision: str = "fp32",
    rounds: int = 8,
    n_runs: int = 6,
    profile: bool = False,
    yardstick_ms: float | None = None,
    max_drift: float = 0.1,
    seed: int = 0,
    runner: Runner | None = None,
    on_progress: Progress | None = None,
) -> tuple[list[NetworkTimes], Drift]:
    """Measure whole networks on this machine.

    Args:
        networks: Graphs (measured with random weights) or files that the engine takes, such as ``.mnn``.
        engine: Engine, or its name; the registry's default for None.
        threads: Number of threads of the engine.
        precision: Precision of the arithmetic, one of `Engine.precisions`.
        rounds: Repetitions of each network, in shuffled order.
        n_runs: Timed runs in a repetition.
        profile: Whether each op is timed as well; networks must then be graphs, and the engine must run exactly the
            kernels that they fuse to.
        yardstick_ms: Stable time of the yardstick that latencies are expressed at: that of the table they will be
            compared with. By default this session's own.
        max_drift: Part by which the yardstick may move within a repetition, or lie above its stable time, before the
            repetition is made again.
        seed: Seed of the order and the weights.
        runner: Where the networks run; this machine by default.
        on_progress: Called after each repetition with the repetitions so far and in all.

    Returns:
        Times by network, and the drift of the session.

    Raises:
        MissingExtraError: if the engine is not installed.
        MeasureError: if there are no networks, or one cannot be written, took less time than is possible, crashed the
            engine, or runs other kernels than expected.
    """
    repetition = RepetitionOptions(threads=threads, precision=precision, n_runs=n_runs, profile=profile, n_whole=n_runs)
    options = _options(repetition, engine, rounds, max_drift, seed, len(networks))
    options = replace(options, yardstick_ms=yardstick_ms)
    with _metered(networks, options, runner, on_progress) as session:
        result = session_result(session)
    return list(result.times), result.drift


def measure_table(
    networks: Sequence[OpGraph | Kernel],
    *,
    engine: Engine | str | None = None,
    device: str = "",
    threads: int = 1,
    precision: str = "fp32",
    rounds: int = 6,
    n_runs: int = 6,
    max_drift: float = 0.1,
    seed: int = 0,
    runner: Runner | None = None,
    on_progress: Progress | None = None,
) -> LatencyTable:
    """Measure, on this machine, what each kernel of `networks` costs inside them.

    A kernel's latency is the median over the places where it was timed, minus the cost of a callback. Its standard
    deviation is over these places, or over the repetitions where there is one place only. With an engine that times no
    ops, each kernel is measured as a network of its own.

    Args:
        networks: Graphs that hold each kernel of interest several times (`covering_architectures` chooses them), or
            kernels, which are composed into networks.
        engine: Engine, or its name; the registry's default for None.
        device: Name of this machine in the datasheet.
        threads: Number of threads of the engine.
        precision: Precision of the arithmetic.
        rounds: Repetitions of each network.
        n_runs: Timed runs in a repetition.
        max_drift: Bound of the drift in a repetition, as in `measure_networks`.
        seed: Seed of the order and the weights.
        runner: Where the networks run; this machine by default.
        on_progress: Called after each repetition with the repetitions so far and in all.

    Returns:
        The table, its datasheet filled in.

    Raises:
        MeasureError: as `measure_networks`, or if the networks differ in batch size.
    """
    batches = {
        network.values[network.inputs[0]].shape[0] for network in networks if isinstance(network, OpGraph)
    }  # fmt: skip
    if len(batches) > 1:
        raise MeasureError(f"Expected networks of one batch size in one table, but got {sorted(batches)}.")
    repetition = RepetitionOptions(threads=threads, precision=precision, n_runs=n_runs, n_whole=n_runs)
    options = replace(_options(repetition, engine, rounds, max_drift, seed, len(networks)), device=device)
    with _metered(networks, options, runner, on_progress) as session:
        table = build_table(session, batch=batches.pop() if batches else None)
    return LatencyTable(table.entries, table.datasheet)


def _options(
    repetition: RepetitionOptions,
    engine: Engine | str | None,
    rounds: int,
    max_drift: float,
    seed: int,
    n_networks: int,
) -> SessionOptions:
    if not n_networks:
        raise MeasureError("Expected at least one network to measure, but got none.")
    return SessionOptions(
        repetition=repetition, engine=get_engine(engine).name, rounds=rounds, min_rounds=rounds, stop_at=None,
        max_drift=max_drift, chunk_size=n_networks, seed=seed,
    )  # fmt: skip


@contextmanager
def _metered(
    networks: Sequence[OpGraph | Kernel | str | os.PathLike[str]],
    options: SessionOptions,
    runner: Runner | None,
    on_progress: Progress | None,
) -> Iterator[Session]:
    """A session of these networks, metered to its end; the first problem is an error."""
    work_items = [  # messages call a file by its name
        WorkItem.of(network, "" if isinstance(network, str | os.PathLike) else f"networks[{number}]")
        for number, network in enumerate(networks)
    ]
    with (
        tempfile.TemporaryDirectory() as folder,
        Session.create(Path(folder, "session.sqlite"), work_items, options) as session,
        given_or_local(runner, options.engine) as device,
    ):
        session.write_without_waiting()
        run_session(session, device, on_progress=on_progress, strict=True)
        yield session
