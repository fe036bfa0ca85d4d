"""Paddle-Lite as a measured engine: its x86 build, in a process of the Python that has it.

Whole networks and kernels alone are timed in shuffled rounds beside a yardstick, as with MNN. Paddle-Lite's Python
offers no time of each op, so that a kernel is a program of its own, whose weights are warm in the cache: one of many
weights costs more in a network than alone (measured: ResNet18 at 64x64 takes 2.2 times the sum of its kernels, and
MobileNetV2 1.1 to 1.2 times). Calibrate an estimator on whole networks where that matters.

Limitations:
1. One thread, fp32, x86-64 Linux: the build has no others.
2. Networks that are read from a graph, and all kernels, are measured with random weights.
"""

from __future__ import annotations

import datetime
import platform
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from latency_nas.engine.fusion import fuse
from latency_nas.engine.mnn.mnn_engine import ExecutedOp
from latency_nas.engine.paddle_lite import device_side as lite_worker
from latency_nas.engine.paddle_lite.environment import find_lite_python
from latency_nas.engine.paddle_lite.program import rewrite_for_lite
from latency_nas.errors import GraphError, MeasureError, RunnerLostError
from latency_nas.graph import Node, OpGraph, Value
from latency_nas.graph.paddle.reader import read_paddle
from latency_nas.graph.paddle.writer import write_paddle
from latency_nas.kernel import Kernel, n_macs
from latency_nas.measure.bench import N_WARMUP, N_YARDSTICK, Calm, Progress, Visit, visit_all, visit_of
from latency_nas.measure.device.runner import ServedProcess
from latency_nas.measure.meter import Drift, NetworkTimes, settle
from latency_nas.measure.yardstick import yardstick_graph
from latency_nas.table import Datasheet, Entry, LatencyTable

__all__ = ["LiteBench", "kernel_program", "measure_lite_networks", "measure_lite_table"]

_ENGINE = "Paddle-Lite"
_MOST_MACS_A_MS = 1e9  # of one core: several times what the widest vector units reach, even by Winograd's products


class LiteBench(ServedProcess):
    """A process with Paddle-Lite, the yardstick in it, and visits to programs beside it.

    The process is started when it is first needed, and again after a crash, which is an error of one program.

    Args:
        folder: for the programs.
        n_runs: timed runs of a program in a visit.

    Raises:
        MissingExtraError: if no Python has Paddle-Lite; the message says how to make one.
    """

    def __init__(self, folder: Path, n_runs: int = 6) -> None:
        super().__init__([str(find_lite_python()), lite_worker.__file__])
        self._folder, self._n_runs = folder, n_runs
        self._shapes: dict[Path, list[list[int]]] = {}
        self._least_ms: dict[Path, float] = {}
        self._yardstick = self.add(yardstick_graph(), "yardstick")

    def add(self, network: OpGraph | Path, name: str, *, seed: int = 0) -> Path:
        """Put a network where the process finds it, as Paddle-Lite takes it.

        Args:
            network: a graph, written with random weights; a ``.pdmodel`` with its ``.pdiparams`` beside it, whose
                weights are kept; or a PIR ``.json``, which Paddle-Lite cannot read: its graph is written anew.
            name: of the file.
            seed: of random weights.

        Raises:
            GraphError: if a file cannot be read.
            MeasureError: if a graph cannot be written as a program, or an input is not of floats.
        """
        target = self._folder / f"{name}.pdmodel"
        graph = read_paddle(network) if isinstance(network, Path) else network
        odd = sorted({graph.values[index].dtype for index in graph.inputs} - {"fp32"})
        if odd:
            raise MeasureError(f"Expected inputs of {name} in fp32, but got {', '.join(odd)}.")
        if isinstance(network, Path) and network.suffix == ".pdmodel":
            weights = network.with_suffix(".pdiparams")
            if not weights.is_file():
                raise GraphError(f"Expected the weights of {network} at {weights}, but they are not there.")
            target.write_bytes(rewrite_for_lite(network.read_bytes()))
            target.with_suffix(".pdiparams").symlink_to(weights.resolve())
        else:
            program, data = write_paddle(graph, seed=seed)
            target.write_bytes(program)
            target.with_suffix(".pdiparams").write_bytes(data)
        self._shapes[target] = [list(graph.values[index].shape) for index in graph.inputs]
        self._least_ms[target] = sum(n_macs(graph.kernel(node)) for node in graph.nodes) / _MOST_MACS_A_MS
        return target

    def hello(self) -> Mapping[str, Any]:
        """The engine's version and the processor."""
        return self._ask({"do": "hello"})

    def visit(self, path: Path, expected: list[ExecutedOp] | None = None) -> Visit:
        """Open the program afresh and time it. `expected` is MNN's alone: Paddle-Lite does not tell what it runs.

        Raises:
            MeasureError: if it cannot be opened or run, crashes Paddle-Lite, or runs in no time.
        """
        request = {
            "do": "visit", "file": str(path), "input_shapes": self._shapes[path], "yardstick": str(self._yardstick),
            "yardstick_shapes": self._shapes[self._yardstick], "n_warmup": N_WARMUP, "n_runs": self._n_runs,
            "n_yardstick": N_YARDSTICK, "least_ms": self._least_ms[path],
        }  # fmt: skip
        try:
            return visit_of(self._ask(request))
        except RunnerLostError as error:  # 134 and 139 are its way to refuse a program
            raise MeasureError(f"Paddle-Lite crashed on {path.stem}: {error}") from error


def kernel_program(kernel: Kernel) -> OpGraph:
    """A graph of which Paddle-Lite makes `kernel` alone.

    Raises:
        MeasureError: if there is none.
    """
    attrs = {name: value for name, value in kernel.attrs if name != "act"}
    act = kernel.attributes.get("act")
    values = [Value(shape=shape, dtype=kernel.dtype) for shape in (*kernel.inputs, *kernel.outputs)]
    inputs = tuple(range(len(kernel.inputs)))
    outputs = tuple(range(len(inputs), len(values)))
    nodes = [Node(name=kernel.op, op=kernel.op, inputs=inputs, outputs=outputs, attrs=attrs)]
    if act is not None:
        values.append(Value(shape=kernel.outputs[0], dtype=kernel.dtype))
        last = (len(values) - 1,)
        nodes.append(Node(name=str(act), op=str(act), inputs=outputs, outputs=last, attrs={}))
        outputs = last
    if not inputs or not outputs:
        raise MeasureError(f"Expected a kernel with an input and an output to be measured alone, but got {kernel}.")
    graph = OpGraph(values=tuple(values), nodes=tuple(nodes), inputs=inputs, outputs=outputs)
    made = [call.kernel for call in fuse(graph, _ENGINE)]
    if made != [kernel]:
        raise MeasureError(
            f"No program is known of which Paddle-Lite makes {kernel} alone, but {'; '.join(map(str, made))}."
        )
    return graph


def _measure(
    networks: Sequence[tuple[str, OpGraph | Path]], rounds: int, n_runs: int, max_drift: float,
    yardstick_ms: float | None, seed: int, on_progress: Progress | None,
) -> tuple[list[NetworkTimes], Drift, Mapping[str, Any]]:  # fmt: skip
    if not networks:
        raise MeasureError("Expected at least one network to measure, but got none.")
    for option, value in (("rounds", rounds), ("n_runs", n_runs)):
        if value < 1:
            raise MeasureError(f"Expected `{option}` to be a positive integer, but got {value}.")
    with tempfile.TemporaryDirectory() as folder, LiteBench(Path(folder), n_runs) as bench:
        paths = [bench.add(network, name, seed=seed) for name, network in networks]
        calm = Calm(max_drift, yardstick_ms)
        visits = visit_all(bench, paths, [None] * len(paths), rounds, calm, seed, on_progress)
        about = bench.hello()
    times, drift = settle(visits, calm, rounds, n_runs, yardstick_ms)
    return times, drift, about


def measure_lite_networks(
    networks: Sequence[OpGraph | Path],
    *,
    rounds: int = 8,
    n_runs: int = 6,
    max_drift: float = 0.1,
    yardstick_ms: float | None = None,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> tuple[list[NetworkTimes], Drift]:
    """Measure whole networks on this machine with Paddle-Lite.

    Args:
        networks: graphs, or files as `LiteBench.add` takes them.
        rounds: visits of each, in shuffled order.
        n_runs: timed runs a visit.
        max_drift: how far the yardstick may move before a visit is repeated.
        yardstick_ms: the yardstick's undisturbed time that latencies are expressed at: that of the table they will be
            compared with. By default this session's own.
        seed: of the order and of random weights.
        on_progress: told of each visit.

    Returns:
        Times by network, and the drift of the session.

    Raises:
        MissingExtraError: if no Python has Paddle-Lite.
        GraphError: if a file cannot be read.
        MeasureError: if there are no networks, or Paddle-Lite refuses one.
    """
    named = [(f"network_{number}", network) for number, network in enumerate(networks)]
    times, drift, _ = _measure(named, rounds, n_runs, max_drift, yardstick_ms, seed, on_progress)
    return times, drift


def measure_lite_table(
    kernels: Iterable[Kernel],
    *,
    device: str = "",
    rounds: int = 6,
    n_runs: int = 6,
    max_drift: float = 0.1,
    seed: int = 0,
    on_progress: Progress | None = None,
) -> LatencyTable:
    """Measure kernels on this machine with Paddle-Lite, each alone.

    Args:
        kernels: of Paddle-Lite, as `fuse(graph, "Paddle-Lite")` gives them; one that comes again is measured once.
        device: what the datasheet calls this machine.
        rounds: visits of each, in shuffled order.
        n_runs: timed runs a visit.
        max_drift: how far the yardstick may move before a visit is repeated.
        seed: of the order and of random weights.
        on_progress: told of each visit.

    Returns:
        The table, its datasheet filled in.

    Raises:
        MissingExtraError: if no Python has Paddle-Lite.
        MeasureError: if a kernel cannot be measured alone, or they differ in batch size.
    """
    distinct = list(dict.fromkeys(kernels))
    batches = {shape[0] for kernel in distinct for shape in kernel.outputs[:1] if shape}
    if len(batches) > 1:
        raise MeasureError(f"Expected kernels of one batch size in one table, but got {sorted(batches)}.")
    programs = [(f"kernel_{number}", kernel_program(kernel)) for number, kernel in enumerate(distinct)]
    times, drift, about = _measure(programs, rounds, n_runs, max_drift, None, seed, on_progress)
    entries = {
        kernel: Entry(latency_ms=item.latency_ms, std_ms=item.std_ms, n_samples=item.n_samples)
        for kernel, item in zip(distinct, times, strict=True)
    }
    datasheet = Datasheet(
        device=device or f"this machine ({platform.system()} {platform.machine()})",
        soc=about["processor"],
        engine=_ENGINE,
        engine_version=about["engine_version"],
        method="measured",
        threads=1,
        batch=batches.pop(),
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        statistic="median over visits, each kernel a program of its own, at the yardstick's undisturbed speed",
        sources=(f"{len(distinct)} kernels measured alone, {rounds} visits of {n_runs} runs each",),
        yardstick_ms=drift.yardstick_ms,
        notes=str(drift),
    )
    return LatencyTable.of(entries, datasheet)
