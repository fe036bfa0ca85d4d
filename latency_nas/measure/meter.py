"""Meters networks in interleaved rounds beside the yardstick, and makes a table of what their kernels cost in context.

A visit opens a network afresh, runs the yardstick, the network (whole, and op by op), and the yardstick again. Times
are divided by the yardstick's of that visit and multiplied by its undisturbed time; the median over visits stands. A
visit in which the yardstick moved or was slow is made again, and used only where a network has too few better ones. A
fresh session each visit matters as much as many runs: where its memory happens to lie moves a time by a few percent.
"""

from __future__ import annotations

import datetime
import logging
import platform
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from latency_nas.engine.mnn.fusion import fuse_mnn
from latency_nas.engine.mnn.mnn_engine import ExecutedOp, convert, engine_version, expected_ops
from latency_nas.errors import MeasureError
from latency_nas.graph import OpGraph
from latency_nas.kernel import Kernel
from latency_nas.measure.bench import Bench, Calm, Progress, Visit, visit_all
from latency_nas.table import Datasheet, Entry, LatencyTable

__all__ = ["Drift", "NetworkTimes", "entries_of", "measure_networks", "measure_table", "spread", "summarise"]

logger = logging.getLogger(__name__)

_MAD_TO_STD = 1.4826  # of a normal distribution
_LEAST_SHARE = 0.05  # of what was clocked that is left of an op, however little more than calling back it was


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """How the machine's speed moved while it was measured.

    Args:
        yardstick_ms: the yardstick's undisturbed time, its tenth percentile over the session.
        slowest: its slowest visit over its undisturbed time (1.2: a fifth slower).
        n_visits: visits in all.
        n_repeated: of which in place of a disturbed one.
        n_unstable: networks that were met undisturbed in no more than half of the rounds, so that disturbed visits had
            to serve.
    """

    yardstick_ms: float
    slowest: float
    n_visits: int
    n_repeated: int
    n_unstable: int

    def __str__(self) -> str:
        moved = f"the yardstick moved {self.slowest - 1:.0%}"
        verdict = f"stable: {moved}"
        if self.n_repeated or self.n_unstable:
            verdict = f"unstable: {moved}; {self.n_repeated} visits were made again"
        if self.n_unstable:
            verdict += f", {self.n_unstable} of the networks were too seldom met undisturbed"
        return f"{verdict}; {self.n_visits} visits, the yardstick took {self.yardstick_ms:.3f} ms undisturbed"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTimes:
    """What one network took.

    Args:
        latency_ms: whole runs without callbacks, at the yardstick's undisturbed speed: the median over visits.
        std_ms: standard error of `latency_ms`; None after a single visit.
        raw_ms: the same as the clock said, whatever slowed it.
        ops_ms: each op at the yardstick's undisturbed speed, callbacks included, of shape ``(n_ops,)``; empty if not
            profiled.
        ops_std_ms: one standard deviation of a visit of each op, as `ops_ms`; NaN after a single visit.
        n_samples: timed runs.
        memory_mb: the session's memory at its peak, as the engine counts it; None where it does not say.
    """

    latency_ms: float
    std_ms: float | None
    raw_ms: float
    ops_ms: NDArray[np.float64]
    ops_std_ms: NDArray[np.float64]
    n_samples: int
    memory_mb: float | None = None


def spread(samples: NDArray[np.float64]) -> NDArray[np.float64]:
    """A robust standard deviation over the first axis, from the median absolute deviation."""
    return np.asarray(_MAD_TO_STD * np.median(np.abs(samples - np.median(samples, axis=0)), axis=0))


def summarise(visits: Sequence[Visit], n_runs: int, unit_ms: float) -> NetworkTimes:
    """What a network took over its visits, at the speed at which the yardstick takes `unit_ms`."""
    factors = np.array([unit_ms / visit.yardstick_ms for visit in visits])
    whole = np.array([visit.whole_ms for visit in visits])
    normalised = whole * factors
    ops = np.stack([visit.ops_ms for visit in visits]) * factors[:, None]
    lone = len(visits) == 1
    return NetworkTimes(
        latency_ms=float(np.median(normalised)),
        std_ms=None if lone else float(np.sqrt(np.pi / 2 / len(visits)) * spread(normalised)),  # that of a median
        raw_ms=float(np.median(whole)),
        ops_ms=np.median(ops, axis=0),
        ops_std_ms=np.full(ops.shape[1], np.nan) if lone else spread(ops),
        n_samples=len(visits) * n_runs,
        memory_mb=visits[0].memory_mb,
    )


def measure_networks(
    networks: Sequence[OpGraph | Path],
    *,
    threads: int = 1,
    precision: str = "fp32",
    rounds: int = 8,
    n_runs: int = 6,
    profile: bool = False,
    yardstick_ms: float | None = None,
    max_drift: float = 0.1,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> tuple[list[NetworkTimes], Drift]:
    """Measure whole networks on this machine with MNN.

    Args:
        networks: graphs (measured with random weights) or ``.mnn`` files.
        threads: of the engine.
        precision: of the arithmetic: ``"fp32"``, ``"fp16"`` where the chip has it, or ``"int8"`` of ``.mnn`` files that
            were quantised.
        rounds: visits of each network, in shuffled order.
        n_runs: timed runs a visit.
        profile: time each op as well; networks must then be graphs, and MNN must run exactly the kernels that they
            fuse to.
        yardstick_ms: the yardstick's undisturbed time that latencies are expressed at: that of the table they will be
            compared with. By default this session's own.
        max_drift: how far the yardstick may move within a visit, or lie above its undisturbed time, before the visit is
            repeated.
        seed: of the order and the weights.
        on_progress: told of each visit.

    Returns:
        Times by network, and the drift of the session.

    Raises:
        MeasureError: if there are no networks, or one cannot be converted, ran in no time, or runs other kernels than
            expected.
    """
    if not networks:
        raise MeasureError("Expected at least one network to measure, but got none.")
    for option, value in (("rounds", rounds), ("n_runs", n_runs)):
        if value < 1:
            raise MeasureError(f"Expected `{option}` to be a positive integer, but got {value}.")
    with tempfile.TemporaryDirectory() as name:
        paths: list[Path] = []
        expected: list[list[ExecutedOp] | None] = []
        for number, network in enumerate(networks):
            if isinstance(network, OpGraph):
                paths.append(convert(network, Path(name, f"network_{number}.mnn"), seed=seed))
                expected.append(expected_ops(fuse_mnn(network)))
            else:
                paths.append(network)
                expected.append(None)
        bench = Bench(Path(name), threads, precision, n_runs, profile)
        calm = Calm(max_drift, yardstick_ms)
        visits = visit_all(bench, paths, expected, rounds, calm, seed, on_progress)
    return settle(visits, calm, rounds, n_runs, yardstick_ms)


def settle(
    visits: Sequence[Sequence[Visit]], calm: Calm, rounds: int, n_runs: int, yardstick_ms: float | None
) -> tuple[list[NetworkTimes], Drift]:
    """What the networks took, out of their visits, disturbed ones only where there are few others; and the drift.

    Args:
        visits: by network.
        calm: what has noted them all.
        rounds: visits of a network that were planned.
        n_runs: timed runs a visit.
        yardstick_ms: the yardstick's time that latencies are expressed at; None for the undisturbed one of the visits.
    """
    used = [calm.calmest(group, least=rounds // 2 + 1) for group in visits]
    n_visits = sum(map(len, visits))
    drift = Drift(
        yardstick_ms=calm.undisturbed_ms,
        slowest=max(visit.yardstick_ms for group in visits for visit in group) / calm.undisturbed_ms,
        n_visits=n_visits,
        n_repeated=n_visits - rounds * len(visits),
        n_unstable=sum(any(map(calm.disturbed, group)) for group in used),
    )
    logger.info("%d networks measured: %s", len(visits), drift)
    unit_ms = yardstick_ms or drift.yardstick_ms
    return [summarise(group, n_runs, unit_ms) for group in used], drift


def _callback_ms(times: Sequence[NetworkTimes]) -> float:
    """What calling back adds to each op: the sum of ops less the whole, an op."""
    return max(0.0, float(np.median([(item.ops_ms.sum() - item.latency_ms) / len(item.ops_ms) for item in times])))


def entries_of(networks: Sequence[Sequence[Kernel]], times: Sequence[NetworkTimes]) -> dict[Kernel, Entry]:
    """What each kernel costs, from the networks in which it was met.

    Args:
        networks: the kernels that each network runs, in order.
        times: of each network, with its ops.

    Returns:
        Kernel -> the median over the places where it was met, less what calling back costs an op; its standard
        deviation is over these places, or over the visits where there is one place only; None where there is one
        visit only.
    """
    overhead = _callback_ms(times)
    samples: dict[Kernel, list[tuple[float, float]]] = defaultdict(list)
    counts: dict[Kernel, int] = defaultdict(int)
    for network, item in zip(networks, times, strict=True):
        for kernel, op_ms, std_ms in zip(network, item.ops_ms, item.ops_std_ms, strict=True):
            samples[kernel].append((max(op_ms - overhead, _LEAST_SHARE * op_ms), std_ms))
            counts[kernel] += item.n_samples
    entries = {}
    for kernel, places in samples.items():
        times_ms, stds_ms = np.array(places).T
        std_ms = (spread(times_ms) if len(places) > 1 else stds_ms[0]).item()
        entries[kernel] = Entry(
            latency_ms=np.median(times_ms), std_ms=None if np.isnan(std_ms) else std_ms, n_samples=counts[kernel]
        )
    return entries


def measure_table(
    networks: Sequence[OpGraph],
    *,
    device: str = "",
    threads: int = 1,
    precision: str = "fp32",
    rounds: int = 6,
    n_runs: int = 6,
    max_drift: float = 0.1,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> LatencyTable:
    """Measure, on this machine with MNN, what each kernel of `networks` costs inside them.

    A kernel's latency is the median over the places where it was met, less what calling back costs an op; its standard
    deviation is over these places, or over the visits where there is one place only.

    Args:
        networks: graphs in which each kernel of interest stands several times (`covering_architectures` picks them).
        device: what the datasheet calls this machine.
        threads: as in `measure_networks`, and so all that follow.
        precision: of the arithmetic.
        rounds: visits of each network.
        n_runs: timed runs a visit.
        max_drift: bound of a visit's drift.
        seed: of the order and the weights.
        on_progress: told of each visit.

    Returns:
        The table, its datasheet filled in.

    Raises:
        MeasureError: as `measure_networks`, or if the networks differ in batch size.
    """
    batches = {network.values[network.inputs[0]].shape[0] for network in networks}
    if len(batches) > 1:
        raise MeasureError(f"Expected networks of one batch size in one table, but got {sorted(batches)}.")
    times, drift = measure_networks(
        networks, threads=threads, precision=precision, rounds=rounds, n_runs=n_runs, profile=True, max_drift=max_drift,
        seed=seed, on_progress=on_progress,
    )  # fmt: skip
    datasheet = Datasheet(
        device=device or f"this machine ({platform.system()} {platform.machine()})",
        soc=_processor(),
        engine="MNN",
        engine_version=engine_version(),
        method="measured",
        precision=precision,
        threads=threads,
        batch=batches.pop(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        statistic="median over the places of a kernel of the median over visits, at the yardstick's undisturbed speed",
        sources=(f"{len(networks)} networks profiled op by op, {rounds} visits of {n_runs} runs each",),
        yardstick_ms=drift.yardstick_ms,
        notes=str(drift),
    )
    return LatencyTable.of(
        entries_of([[call.kernel for call in fuse_mnn(network)] for network in networks], times), datasheet
    )


def _processor() -> str:
    """The processor's name as the kernel gives it, or the architecture."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
