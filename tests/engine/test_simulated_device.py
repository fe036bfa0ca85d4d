"""The simulated device: known costs, context, a slow first run, profiling, and noise that was recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, median

import numpy as np
import pytest
from supernet import Supernet

from latency_nas import measure_networks, read_supernet
from latency_nas.engine import fuse, get_engine
from latency_nas.graph import OpGraph
from latency_nas.graph.architectures import random_architectures
from latency_nas.kernel import Kernel
from latency_nas.measure.device.runner import LocalRunner, RepetitionOptions
from latency_nas.measure.yardstick import write_yardstick, yardstick_graph
from tests.simulation import moment, simulated_device

RECORDING = Path(__file__).parents[3] / "shared" / "data" / "regimes" / "x86_two_cores.parquet"


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with simulated_device(tmp_path_factory.mktemp("site")):
        yield


@pytest.fixture(scope="module")
def graphs() -> list[OpGraph]:
    import torch

    graph, _ = read_supernet(Supernet(), torch.zeros(1, 1, 32, 32))
    return [graph.extract(architecture) for architecture in random_architectures(graph.choices, 6, seed=0)]


def conv(channels: int, size: int = 14, kernel: int = 3) -> Kernel:
    shape = (1, channels, size, size)
    attrs = {"kernel": (kernel, kernel), "stride": (1, 1), "pad": (kernel // 2,) * 4, "dilation": (1, 1), "group": 1}
    return Kernel.of("conv2d", [shape], [shape], **attrs)


def noiseless_ms(graph: OpGraph, slowness: float = 0.0) -> list[float]:
    """What the ops of a network cost by the formulas, while the machine is slower by this logarithm."""
    from simulated_device.costs import in_network_ms, slowing
    from simulated_device.engine import op_of

    ops = [op_of(call.kernel) for call in fuse(graph, "simulated")]
    return [
        cost * math.exp(slowness * by) for cost, by in zip(in_network_ms(ops), slowing(ops), strict=True)
    ]  # fmt: skip


def test_it_runs_the_kernels_that_its_rules_give(graphs: list[OpGraph], tmp_path: Path) -> None:
    engine = get_engine("simulated")
    with LocalRunner(engine) as runner:
        for number, graph in enumerate(graphs):
            ops = runner.describe(engine.write(graph, tmp_path / f"{number}.simulated"))["ops"]
            engine.check_ops(ops, fuse(graph, engine), f"network {number}")
            assert [op[1] for op in ops] == [call.kernel.op for call in fuse(graph, "mnn")]
        assert runner.hello()["processor"] == "Simulated processor"


def test_measuring_twice_gives_the_same_and_another_moment_gives_another(graphs: list[OpGraph]) -> None:
    def at(row: int) -> list[float]:
        with moment(row):
            return [item.latency_ms for item in measure_networks(graphs, engine="simulated", rounds=2)[0]]

    first = at(0)
    assert at(0) == first
    other = at(500)
    assert other != first
    assert other == pytest.approx(first, rel=0.1)


def test_a_kernel_costs_what_its_work_takes_and_a_deviation_of_its_own() -> None:
    from simulated_device.engine import true_kernel_ms

    assert true_kernel_ms(conv(256)) > 6 * true_kernel_ms(conv(64))  # 16 times the work, and each its own deviation
    per_channel = [math.log(true_kernel_ms(conv(4 * n, kernel=5)) / n**2) for n in range(20, 60)]
    assert 0.08 < np.std(np.diff(per_channel)) / 2**0.5 < 0.16
    assert true_kernel_ms(conv(61)) > 0.8 * true_kernel_ms(conv(64))  # vectors of four channels


def test_context_changes_a_kernel_by_a_few_percent(graphs: list[OpGraph]) -> None:
    from simulated_device.engine import true_kernel_ms

    ratios: dict[Kernel, list[float]] = {}
    for graph in graphs:
        for call, cost in zip(fuse(graph, "simulated"), noiseless_ms(graph), strict=True):
            ratios.setdefault(call.kernel, []).append(cost / true_kernel_ms(call.kernel))
    spreads = [float(np.std(values)) for values in ratios.values() if len(values) > 3]
    assert 0.005 < median(spreads) < 0.03
    assert 1.0 < fmean(fmean(values) for values in ratios.values()) < 1.08


@pytest.fixture
def raw(graphs: list[OpGraph], tmp_path: Path) -> list[dict[str, np.ndarray]]:
    """Repetitions of one network without a warm-up."""
    engine = get_engine("simulated")
    file = engine.write(graphs[0], tmp_path / "net.simulated")
    options = RepetitionOptions(n_warmup=0, n_runs=6, n_whole=6)
    with moment(0, "fast"), LocalRunner(engine) as runner:
        answers = [runner.repeat(file, write_yardstick(engine, tmp_path), options, describe=False) for _ in range(20)]
    return [{name: np.array(value) for name, value in answer.items() if value is not None} for answer in answers]


def test_the_first_run_is_slow_and_timing_ops_takes_time(
    graphs: list[OpGraph], raw: list[dict[str, np.ndarray]]
) -> None:
    from simulated_device.costs import overhead_ms
    from simulated_device.engine import op_of
    from simulated_device.noise import trace

    first = median(item["whole_ms"][0] / np.median(item["whole_ms"][1:]) for item in raw)
    assert first == pytest.approx(3.0, rel=0.03)
    extra_ms = median(np.median(item["ops_ms"].sum(axis=1)) - np.median(item["whole_ms"]) for item in raw)
    expected_ms = sum(overhead_ms(op_of(call.kernel)) for call in fuse(graphs[0], "simulated"))
    assert extra_ms == pytest.approx(expected_ms, rel=0.2)
    whole_ms = median(np.median(item["whole_ms"]) for item in raw)
    assert whole_ms == pytest.approx(sum(noiseless_ms(graphs[0], median(trace("fast")))), rel=0.02)


def test_a_regime_changes_a_network_more_than_the_yardstick_and_all_of_a_space_alike(graphs: list[OpGraph]) -> None:
    """As in the recording: by 2.6 to 5.3 % relative to the yardstick, by at most half a percent to each other."""
    from simulated_device.noise import trace

    slow, fast = (median(trace(regime)) for regime in ("slow", "fast"))

    def ratio(graph: OpGraph) -> float:
        return sum(noiseless_ms(graph, slow)) / sum(noiseless_ms(graph, fast))

    yardstick = ratio(yardstick_graph())
    assert 1.4 < yardstick < 1.7
    shifts = [ratio(graph) / yardstick - 1 for graph in graphs]
    assert 0.026 <= min(shifts) <= max(shifts) <= 0.053
    assert max(shifts) - min(shifts) < 0.01


@pytest.mark.skipif(not RECORDING.exists(), reason="needs the recording of a shared machine")
def test_the_trace_is_derived_from_the_recording(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.simulated_device.make_trace import HERE, derived

    assert (HERE / "simulated_device" / "trace.int16").read_bytes() == derived(RECORDING).tobytes()
