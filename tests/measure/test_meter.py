"""The meter: structure on real MNN, and times on the simulated device, whose costs are known."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from supernet import Supernet
from torch import nn
from torch.nn import functional

from latency_nas.engine import fuse
from latency_nas.errors import MeasureError
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.accuracy import Accuracy, check_table
from latency_nas.graph import OpGraph
from latency_nas.graph.architectures import covering_architectures, random_architectures
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import Kernel
from latency_nas.measure.meter import measure_networks, measure_table
from latency_nas.measure.repetition import DriftFilter, Repetition
from latency_nas.measure.times import Drift, NetworkTimes, _callback_ms, aggregate, entries_of, summarise
from latency_nas.search.supernet.supernet import find_choices
from latency_nas.table import LatencyTable
from tests.networks import Snippet
from tests.simulation import moment, simulated_device


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with simulated_device(tmp_path_factory.mktemp("site")):
        yield


@pytest.fixture(scope="module")
def supernet_graph() -> OpGraph:
    supernet = Supernet()
    choices = {choice.module: choice.candidates for choice in find_choices(supernet)}
    return read_torch(supernet, input_shape=(1, 1, 32, 32), choices=choices)


@pytest.fixture(scope="module")
def architectures(supernet_graph: OpGraph) -> list[dict[str, int]]:
    return covering_architectures(supernet_graph.choices, times=5)


@pytest.fixture(scope="module")
def metered(supernet_graph: OpGraph, architectures: list[dict[str, int]]) -> list[OpGraph]:
    return [supernet_graph.extract(architecture) for architecture in architectures]


@pytest.fixture(scope="module")
def others(supernet_graph: OpGraph, architectures: list[dict[str, int]]) -> list[OpGraph]:
    drawn = random_architectures(supernet_graph.choices, 20, seed=9, unlike=architectures)
    return [supernet_graph.extract(architecture) for architecture in drawn]


@pytest.fixture(scope="module")
def table(metered: list[OpGraph]) -> LatencyTable:
    return measure_table(metered, engine="simulated", device="Simulated board", rounds=6)


@pytest.fixture(scope="module")
def checked(table: LatencyTable, others: list[OpGraph]) -> tuple[LatencyTable, Accuracy]:
    with moment(1200):
        return check_table(table, others)


def repeat(yardstick_ms: float, whole_ms: float, moved: float = 0.0) -> Repetition:
    return Repetition(yardstick_ms, moved, whole_ms, np.array([whole_ms / 2, whole_ms / 2]))


def test_a_table_of_this_machine_has_every_kernel_of_the_networks_and_a_datasheet(metered: list[OpGraph]) -> None:
    table = measure_table(metered[:12], device="test machine", rounds=2)
    assert set(table) == {call.kernel for graph in metered[:12] for call in fuse(graph, "MNN")}
    assert all(0 < row.latency_ms < np.inf and row.n_samples >= 12 for row in table.entries.values())
    sheet = table.datasheet
    assert (sheet.device, sheet.engine, sheet.engine_version, sheet.method) == (
        "test machine",
        "MNN",
        "3.6.1",
        "measured",
    )
    assert (sheet.precision, sheet.threads, sheet.batch, sheet.emulated) == ("fp32", 1, 1, False)
    assert sheet.sources == ("12 networks profiled op by op, 2 repetitions of 6 runs each",)
    assert sheet.yardstick_ms is not None
    assert sheet.yardstick_ms > 0


def test_rows_are_what_kernels_truly_cost_in_their_places(metered: list[OpGraph], table: LatencyTable) -> None:
    from simulated_device.costs import in_network_ms
    from simulated_device.engine import op_of

    places: dict[Kernel, list[float]] = {}
    for graph in metered:
        kernels = [call.kernel for call in fuse(graph, "simulated")]
        for kernel, cost_ms in zip(kernels, in_network_ms([*map(op_of, kernels)]), strict=True):
            places.setdefault(kernel, []).append(cost_ms)
    assert set(table) == set(places)
    assert all(row.n_samples >= 36 for row in table.entries.values())
    errors = {kernel: table[kernel].latency_ms / np.median(costs_ms) - 1 for kernel, costs_ms in places.items()}
    shared = np.median(list(errors.values()))  # all are expressed at one speed of the machine
    assert abs(shared) < 0.05
    assert np.abs(np.array(list(errors.values())) - shared).mean() < 0.03
    assert max(abs(error - shared) for error in errors.values()) < 0.15  # the shortest: 2 us, beside 1 us of profiling


def test_networks_that_were_not_metered_are_predicted_within_three_percent(
    checked: tuple[LatencyTable, Accuracy], others: list[OpGraph]
) -> None:
    table, accuracy = checked
    assert accuracy.mean_error <= 0.03
    assert accuracy.repeat_error is not None
    assert accuracy.repeat_error <= 0.02
    assert table.datasheet.expected_error == accuracy.mean_error
    estimate = LatencyEstimator(table).predict(others[0])
    ratios = sorted(max(p / m, m / p) for p, m in zip(accuracy.predicted_ms, accuracy.measured_ms, strict=True))
    assert np.exp(1.6449 * estimate.std_ms / estimate.latency_ms) == pytest.approx(ratios[18], rel=1e-4)  # of 20: 90 %


def test_a_table_that_was_not_checked_knows_its_error_from_its_own_networks(
    table: LatencyTable, checked: tuple[LatencyTable, Accuracy]
) -> None:
    sheet = table.datasheet
    assert (sheet.error_90, sheet.expected_error_method) == (None, "35 metered networks, each left out")
    assert sheet.expected_error is not None
    assert 0.5 * checked[1].mean_error < sheet.expected_error <= 0.03


def test_sixteen_times_the_work_takes_longer() -> None:
    small, large = (nn.Sequential(nn.Conv2d(8, c, 3), nn.ReLU(), nn.Conv2d(c, c, 3)) for c in (32, 128))
    graphs = [read_torch(net, input_shape=(1, 8, 32, 32)) for net in (small, large)]
    times, drift = measure_networks(graphs, engine="simulated", rounds=3)
    assert times[1].latency_ms > 3 * times[0].latency_ms
    assert drift.n_repetitions == 6 + drift.n_repeated


def test_a_kernel_that_occurs_once_has_the_spread_of_its_repetitions() -> None:
    net = nn.Sequential(nn.Conv2d(8, 32, 3), nn.ReLU(), nn.Conv2d(32, 16, 3))
    table = measure_table([read_torch(net, input_shape=(1, 8, 32, 32))], engine="simulated", rounds=4)
    assert all(row.std_ms is not None and 0 < row.std_ms < 0.1 * row.latency_ms for row in table.entries.values())
    assert LatencyEstimator(table).predict(net, input_shape=(1, 8, 32, 32)).std_ms is not None


def test_progress_is_reported_to_the_end() -> None:
    seen: list[tuple[int, int]] = []
    networks = [read_torch(Snippet(lambda net, x: functional.relu(net.a(x))), input_shape=(1, 8, 8, 8))]
    measure_networks(networks, engine="simulated", rounds=3, on_progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == seen[-1][1] >= 3


def test_a_network_that_the_rules_do_not_cover_is_refused() -> None:
    uncovered = read_torch(nn.Conv3d(4, 4, 3), input_shape=(1, 4, 8, 8, 8))
    with pytest.raises(MeasureError) as caught:
        measure_table([uncovered], rounds=1)
    assert str(caught.value) == (
        "Expected MNN to run the kernels that the fusion rules give for networks[0], but op 0 is "
        "ExecutedOp(type='Raster', inputs=((1, 4, 8, 8, 8), (1, 4, 8, 8, 8), (1, 4, 8, 8, 8)), "
        "outputs=((1, 12, 6, 8, 8),)) and not "
        "ExecutedOp(type='Raster', inputs=((1, 4, 8, 8, 8),), outputs=((1, 4, 8, 8, 8),)). "
        "The fusion rules of MNN do not cover this network."
    )


def test_a_network_that_the_engine_cannot_run_is_an_error_of_that_network() -> None:
    """Of a matrix and four dimensions MNN reads what was never written: it cannot compute sizes, or it crashes."""
    refused = r"could not run network_2\.mnn: its error code is 3 \(the sizes of an op cannot be computed\), .*"
    crashed = r"The device side ended \(exit status -11\) before it answered"
    product = read_torch(Snippet(lambda net, x: net.a.weight[:, :, 0, 0] @ x), input_shape=(1, 8, 8, 8))
    good = read_torch(nn.Conv2d(8, 8, 3), input_shape=(1, 8, 8, 8))
    for measure in (measure_table, measure_networks):
        with pytest.raises(MeasureError) as caught:
            measure([good, product], rounds=1)
        assert re.fullmatch(rf"MNN (3\.6\.1 {refused}|crashed on network_2: {crashed})\.", str(caught.value))
        assert caught.value.__notes__ == ["This is an error of networks[1]."]
    assert measure_networks([good], rounds=1)[0][0].latency_ms > 0


@pytest.mark.parametrize(
    ("networks", "options", "message"),
    [
        ([], {}, "Expected at least one network to measure, but got none."),
        ([(1, 8, 8, 8)], {"rounds": 0}, "Expected `rounds` to be a positive integer, but got 0."),
        ([(1, 8, 8, 8)], {"n_runs": -1}, "Expected `n_runs` to be a positive integer, but got -1."),
        (
            [(1, 8, 8, 8), (2, 8, 8, 8)],
            {},
            "Expected networks of one batch size in one table, but got [1, 2].",
        ),
    ],
)
def test_what_cannot_be_measured_is_refused(
    networks: list[tuple[int, ...]], options: dict[str, int], message: str
) -> None:
    graphs = [read_torch(nn.Conv2d(8, 8, 3), input_shape=shape) for shape in networks]
    with pytest.raises(MeasureError) as caught:
        measure_table(graphs, **options)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_the_batch_size_is_in_the_datasheet() -> None:
    table = measure_table([read_torch(nn.Conv2d(8, 8, 3), input_shape=(4, 8, 8, 8))], rounds=1)
    assert table.datasheet.batch == 4


def test_what_slows_network_and_yardstick_alike_cancels() -> None:
    """Three repetitions at speeds 1, 2 and 3 of a network that takes four yardsticks."""
    times = summarise([repeat(0.5 * slow, 2.0 * slow) for slow in (1, 2, 3)], n_runs=6, unit_ms=0.5)
    assert (times.latency_ms, times.std_ms, times.raw_ms, times.n_samples) == (2.0, 0.0, 4.0, 18)
    assert times.ops_ms.tolist() == [1.0, 1.0]
    assert times.ops_std_ms.tolist() == [0.0, 0.0]


def test_a_unstable_session_says_so() -> None:
    drift = Drift(yardstick_ms=0.1, slowest=1.5, n_repetitions=9, n_repeated=3, n_unstable=2)
    text = str(drift)
    assert text.startswith("unstable: the yardstick moved 50%; 3 repetitions were made again")
    assert "2 of the networks were rarely stable" in text
    assert "rarely stable" not in str(replace(drift, n_unstable=0))


def test_the_standard_error_is_that_of_a_median() -> None:
    """Against its sampling distribution: 4,000 sessions of 25 normally distributed repetitions."""
    random = np.random.default_rng(0)
    sessions = [summarise([repeat(1.0, ms) for ms in random.normal(10, 1, 25)], 1, 1.0) for _ in range(4000)]
    spread = np.std([times.latency_ms for times in sessions])
    assert np.mean([times.std_ms or np.nan for times in sessions]) == pytest.approx(spread, rel=0.1)


@pytest.mark.parametrize(
    ("candidate", "unstable"),
    [
        (repeat(1.0, 1.0), False),
        (repeat(1.09, 1.0), False),
        (repeat(1.2, 1.0), True),
        (repeat(1.0, 1.0, moved=0.2), True),
    ],
)
def test_a_repetition_is_unstable_if_the_yardstick_moved_or_was_slow(candidate: Repetition, unstable: bool) -> None:
    drift_filter = DriftFilter(0.1, None)
    for yardstick_ms in (1.0, 1.0, 1.3):
        drift_filter.note(repeat(yardstick_ms, 1.0))
    assert drift_filter.unstable(candidate) is unstable
    assert DriftFilter.unstable(_drift_filter_of(0.5), candidate)  # a table that knows a faster machine


def _drift_filter_of(known_ms: float) -> DriftFilter:
    drift_filter = DriftFilter(0.1, known_ms)
    drift_filter.note(repeat(1.0, 1.0))
    return drift_filter


def test_calling_back_is_what_the_ops_sum_to_above_the_whole() -> None:
    def times(whole_ms: float, n_ops: int) -> NetworkTimes:
        ops_ms = np.full(n_ops, whole_ms / n_ops + 0.001)
        return NetworkTimes(
            latency_ms=whole_ms, std_ms=0.0, raw_ms=whole_ms, ops_ms=ops_ms, ops_std_ms=0 * ops_ms, n_samples=1
        )

    assert _callback_ms([times(1.0, 10), times(2.0, 30), times(0.5, 5)]) == pytest.approx(0.001)


def test_a_single_stable_repetition_is_not_used_alone() -> None:
    """The network was slowed by a third in the only repetition of which the yardstick was stable."""
    repetitions = [repeat(1.0, 5.3)] + [
        repeat(1.2 + 0.01 * number, 4.0 * (1.2 + 0.01 * number)) for number in range(15)
    ]
    drift_filter = DriftFilter(0.1, 1.0)
    for item in repetitions:
        drift_filter.note(item)
    (times,), drift = aggregate([repetitions], drift_filter, rounds=4, n_runs=6, yardstick_ms=1.0)
    assert times.n_samples == 3 * 6  # that repetition and the next most stable: most of the rounds
    assert times.latency_ms == pytest.approx(4.0)
    assert drift.n_unstable == 1


def test_enough_stable_repetitions_are_all_that_is_used() -> None:
    repetitions = [repeat(1.0, 4.0), repeat(1.5, 9.0), repeat(1.0, 4.2), repeat(1.0, 4.1)]
    drift_filter = DriftFilter(0.1, 1.0)
    for item in repetitions:
        drift_filter.note(item)
    (times,), drift = aggregate([repetitions], drift_filter, rounds=3, n_runs=6, yardstick_ms=1.0)
    assert (times.latency_ms, times.n_samples, drift.n_unstable) == (4.1, 18, 0)


def test_a_single_repetition_has_no_spread_to_tell() -> None:
    times = summarise([repeat(0.5, 2.0)], n_runs=6, unit_ms=0.5)
    assert (times.latency_ms, times.std_ms) == (2.0, None)
    net = nn.Sequential(nn.Conv2d(8, 8, 3), nn.MaxPool2d(2))
    kernels = [call.kernel for call in fuse(read_torch(net, input_shape=(1, 8, 8, 8)), "MNN")][:2]
    assert [row.std_ms for row in entries_of([kernels], [times]).values()] == [None, None]


def test_what_is_no_network_is_named(tmp_path: Path) -> None:
    (tmp_path / "ops.yaml").write_text("ops: []")
    for network, message in (
        ("nope.mnn", "Expected a graph, or a model's file to measure, but there is no file nope.mnn."),
        (
            str(tmp_path / "ops.yaml"),
            f"Expected a file that MNN takes (.mnn, .onnx), but got {(tmp_path / 'ops.yaml').resolve()}.",
        ),
        (
            nn.ReLU(),
            "Expected a graph (`read_model` gives that of a module) or a model's file to measure, but got ReLU().",
        ),
    ):
        with pytest.raises(MeasureError) as caught:
            measure_networks([network], rounds=1)  # type: ignore[list-item]
        assert message in str(caught.value)


def test_windows_beside_whole_images_do_not_change_the_batch_size() -> None:
    """A convolution of four windows has four times the first size; the batch is that of the network's input."""
    net = Snippet(lambda net, x: net.b(net.a(x).reshape(4, 8, 4, 4)).reshape(1, 8, 8, 8))
    table = measure_table([read_torch(net, input_shape=(1, 8, 8, 8))], rounds=1)
    assert {kernel.inputs[0][0] for kernel in table if kernel.op == "conv2d"} == {1, 4}
    assert table.datasheet.batch == 1
