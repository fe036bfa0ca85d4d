"""An engine of another package, from its entry point through every part of this library; nothing here names it there.

`test_without_mnn.py` runs this file again where this library has no folder of its own default engine.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from latency_nas import LatencyEstimator, LatencyLoss, load_table, measure_networks, measure_table, save_table
from latency_nas.cli.main import app
from latency_nas.engine import Engine, engine_names, fuse, get_engine
from latency_nas.errors import MeasureError
from latency_nas.estimate.accuracy import check_table
from latency_nas.graph import OpGraph
from latency_nas.graph.architectures import covering_architectures, random_architectures
from latency_nas.graph.torch.reader import read_torch
from latency_nas.measure.device.runner import LocalRunner
from latency_nas.measure.yardstick import yardstick_graph
from latency_nas.table import LatencyTable
from latency_nas.verdict.verdict import verify
from tests.bare_interpreter import bare_interpreter
from tests.cli.test_main import run_main, start_main
from tests.other_package import install, on_the_path
from tests.ssh_server import ssh_server
from tests.supernets import EXAMPLE, ChainNet, all_architectures, graph_of, set_target

YAML = """
latency_nas: 1
ops:
  - class: torch.nn.Conv2d
    parameters: {in_channels: [8], out_channels: [8, 16], kernel_size: 3, padding: 1}
    sizes: {size: 8}
  - class: torch.nn.Tanh
    sizes: {size: 8}
    input: [1, 8, size, size]
"""
SHAPE = "1,3,16,16"
HERE = "tests.engine.test_toy_engine"


class Small(nn.Module):
    """Every op of the toy engine, so that values lie in both layouts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.deep = nn.Sequential(nn.Conv2d(8, 8, 5, 1, 2, groups=8), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 2, 2, groups=2))
        self.norm, self.pools = nn.BatchNorm2d(8), nn.ModuleList([nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2)])
        self.scale = nn.Parameter(torch.ones(1, 16, 1, 1))
        self.head = nn.Sequential(nn.Linear(16, 10), nn.ReLU())

    def forward(self, x):  # type: ignore[no-untyped-def]
        x = self.stem(x)
        x = torch.sigmoid(self.norm(x + self.deep(x))) * 0.5
        x = torch.cat([pool(x) for pool in self.pools], 1) * self.scale
        return self.head(x.mean((2, 3)).reshape(1, 16))


def small() -> Small:
    """What the commands read as a model."""
    return Small().eval()


def small_graph() -> OpGraph:
    return read_torch(small(), input_shape=(1, 3, 16, 16))


@pytest.fixture(scope="module", autouse=True)
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("site")
    install(Path(__file__).parents[1] / "toy_engine", folder)
    with on_the_path(folder):
        yield folder


@pytest.fixture(scope="module")
def architectures() -> list[OpGraph]:
    graph = graph_of(ChainNet())
    return [graph.extract(architecture) for architecture in covering_architectures(graph.choices, times=2)]


@pytest.fixture(scope="module")
def table(architectures: list[OpGraph]) -> LatencyTable:
    """Of the toy engine, and of what `ChainNet` and `Small` run by it."""
    options = {"device": "Toy board", "rounds": 2, "n_runs": 2, "max_drift": 1e6}
    return measure_table([*architectures, small_graph()], engine="toy", **options)


@pytest.fixture(scope="module")
def table_file(table: LatencyTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_table(table, tmp_path_factory.mktemp("table") / "toy.parquet")


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


# ---- the engine by itself ----


def test_it_is_found_by_its_name_and_by_its_title() -> None:
    toy = get_engine("toy")
    assert isinstance(toy, Engine)
    assert toy is get_engine("Toy Engine") is get_engine("TOY")
    assert engine_names()[-1] == "toy"


def with_the_weights_of(file: Path, model: nn.Module, graph: OpGraph) -> nn.Module:
    """The model with the weights that the graph's file was written with."""
    with file.open("rb") as opened:
        nodes, data = json.loads(opened.readline())["nodes"], np.frombuffer(opened.read(), "<f4").copy()
    shapes = [shape for node in nodes for shape in node[5]]
    given = iter(torch.from_numpy(data).split([int(np.prod(shape)) for shape in shapes]))
    state = {name: torch.full_like(value, 1 - 1e-5) for name, value in model.state_dict().items() if "_var" in name}
    for node, (*_, shapes) in zip(graph.nodes, nodes, strict=True):
        names = [graph.values[index].parameter for index in node.inputs if graph.values[index].constant]
        for name, shape in zip(names, shapes, strict=False):  # the file has two of a batch norm's four
            order = {"conv2d": (3, 2, 0, 1), "linear": (1, 0)}.get(node.op, ()) if len(shape) > 1 else ()
            weight = next(given).reshape(shape)
            state[name] = weight.permute(order) if order else weight
    model.load_state_dict(state, strict=False)
    return model


def test_it_computes_what_torch_computes(tmp_path: Path) -> None:
    from toy_engine.device_side import Network

    graph = small_graph()
    file = get_engine("toy").write(graph, tmp_path / "small.toy", seed=3)
    model, x = with_the_weights_of(file, small(), graph), torch.randn(1, 3, 16, 16)
    (output,), _ = Network(str(file)).compute({graph.inputs[0]: x.numpy()})
    with torch.no_grad():
        assert output == pytest.approx(model(x).numpy(), rel=1e-4, abs=1e-5)


def test_it_runs_the_kernels_that_its_rules_give(architectures: list[OpGraph], tmp_path: Path) -> None:
    toy = get_engine("toy")
    with LocalRunner("toy") as runner:
        for number, graph in enumerate([*architectures, small_graph(), yardstick_graph()]):
            ops = runner.describe(toy.write(graph, tmp_path / f"{number}.toy"))["ops"]
            toy.check_ops(ops, fuse(graph, "toy"), f"network {number}")
    kernels = [call.kernel for call in fuse(small_graph(), "toy")]
    assert [kernel.op for kernel in kernels].count("raster") == 3  # one goes in, two parts are concatenated
    assert len(kernels) == 16
    assert len(fuse(small_graph(), "paddle-lite")) != 16


def test_its_table_is_measured(table: LatencyTable, architectures: list[OpGraph]) -> None:
    assert set(table) == {call.kernel for graph in [*architectures, small_graph()] for call in fuse(graph, "toy")}
    assert all(row.latency_ms > 0 for row in table.entries.values())
    sheet = table.datasheet
    assert (sheet.device, sheet.engine, sheet.engine_version) == ("Toy board", "Toy Engine", "1.0")
    assert str(sheet) == "Toy board: Toy Engine 1.0 on CPU, fp32, 1 thread, batch 1, measured"


def test_files_of_its_own_are_measured(tmp_path: Path) -> None:
    file = get_engine("toy").write(small_graph(), tmp_path / "small.toy")
    times, drift = measure_networks([file, small_graph()], engine="toy", rounds=2, n_runs=2, max_drift=1e6)
    assert all(item.latency_ms > 0 for item in times)
    assert drift.n_repetitions == 4


def test_what_it_cannot_do_is_an_error_of_that_network(tmp_path: Path) -> None:
    tanh = read_torch(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Tanh()), input_shape=(1, 3, 16, 16))
    with pytest.raises(MeasureError) as caught:
        measure_table([tanh], engine="toy", rounds=1)
    assert str(caught.value) == (
        "Expected ops out of add, batch_norm, concat, conv2d, linear, mul, pool2d, reduce_mean, relu, relu6, reshape, "
        "sigmoid, but the model has tanh (at 1/tanh)."
    )
    assert caught.value.__notes__ == ["This is an error of networks[0]."]
    (tmp_path / "broken.toy").write_bytes(b"no network")
    with pytest.raises(MeasureError) as caught:
        measure_networks([tmp_path / "broken.toy"], engine="toy", rounds=1)
    assert str(caught.value) == (
        f"Toy Engine could not open {tmp_path / 'broken.toy'}: it is missing, or no file of its own."
    )
    assert caught.value.__notes__ == ["This is an error of broken.toy."]
    with pytest.raises(MeasureError) as caught:
        measure_table([small_graph()], engine="toy", threads=2)
    assert str(caught.value) == "Expected 1 thread, fp32 and normal, but got 2, fp32 and normal."
    with pytest.raises(MeasureError) as caught:
        measure_table([small_graph()], engine="toy", precision="fp16")
    assert str(caught.value) == "Expected `precision` to be one of fp32 for Toy Engine, but got 'fp16'."


def test_rules_that_are_wrong_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    from toy_engine import rules

    monkeypatch.delitem(rules._FOLDS, ("linear", "relu"))
    with pytest.raises(MeasureError) as caught:
        measure_table([small_graph()], engine="toy", rounds=1)
    assert str(caught.value) == (
        "Expected Toy Engine to run the kernels that the fusion rules give for networks[0], but op 16 is None and not "
        "ExecutedOp(type='relu', inputs=((1, 10),), outputs=((1, 10),)). "
        "The fusion rules of Toy Engine do not cover this network."
    )


def test_an_engine_that_tells_nothing_must_time_as_many_ops_as_its_rules_give(monkeypatch: pytest.MonkeyPatch) -> None:
    from toy_engine import rules

    monkeypatch.delitem(rules._FOLDS, ("linear", "relu"))
    monkeypatch.setattr(type(get_engine("toy")), "executed_ops", lambda engine, calls: None)
    with pytest.raises(MeasureError) as caught:
        measure_table([small_graph()], engine="toy", rounds=1)
    assert str(caught.value) == (
        "Expected Toy Engine to time the 17 kernels that the fusion rules give for networks[0], but it timed 16 ops. "
        "The fusion rules of Toy Engine do not cover this network."
    )


# ---- its table ----


def test_its_table_is_checked(table: LatencyTable) -> None:
    graph = graph_of(ChainNet())
    others = [graph.extract(architecture) for architecture in random_architectures(graph.choices, 3, seed=1)]
    checked, accuracy = check_table(table, others, rounds=2)
    assert len(accuracy.measured_ms) == 3
    assert accuracy.repeat_error is not None
    assert checked.datasheet.expected_error == accuracy.mean_error


def test_a_network_is_verified_by_it(table: LatencyTable, tmp_path: Path) -> None:
    verdict = verify(
        small(), torch.zeros(1, 3, 16, 16), table, target_ms=1.0, file=tmp_path / "small.toy", rounds=2
    )  # fmt: skip
    assert verdict.deviations == ()
    assert verdict.estimate.coverage == 1.0
    assert verdict.measured.latency_ms > 0
    assert ", with random weights" in str(verdict)


def test_a_search_is_steered_by_it(table: LatencyTable) -> None:
    supernet, latency = ChainNet(), LatencyLoss(table)
    latency.attach(supernet, EXAMPLE)
    for architecture in all_architectures(
        dict(zip(latency.plan.choices, map(len, latency.plan.candidates), strict=True))
    ):
        alone = LatencyEstimator(table).predict(supernet.subnet(architecture), EXAMPLE)
        assert latency.plan.latency_ms(architecture) == pytest.approx(alone.latency_ms, rel=1e-9)
    target_ms = set_target(latency)
    latency().backward()
    assert all(alpha.grad is not None for alpha in supernet.alphas())
    found = latency.discretize()
    assert latency.argmax_ms() == pytest.approx(latency.price(found).latency_ms)
    assert latency.argmax_ms() <= target_ms


def test_the_commands_price_and_calibrate_by_it(table_file: Path, table: LatencyTable, tmp_path: Path) -> None:
    output = run("predict", f"{HERE}:small", "--table", table_file, "--input-shape", SHAPE)
    assert (
        f"{HERE}:small by {table_file} (Toy board: Toy Engine 1.0 on CPU, fp32, 1 thread, batch 1, measured)" in output
    )
    assert "coverage 100.0% of 16 kernels" in output
    took_ms = 2 * LatencyEstimator(table).predict(small(), input_shape=(1, 3, 16, 16)).latency_ms
    (tmp_path / "runs.csv").write_text(f'model,input_shape,latency_ms\n{HERE}:small,"{SHAPE}",{took_ms}\n')
    options = ("--device", "Toy board", "--engine", "toy", "--engine-version", "1.0")
    run("calibrate", table_file, tmp_path / "runs.csv", "-o", tmp_path / "slow.parquet", *options)
    calibrated = load_table(str(tmp_path / "slow.parquet"))
    assert (calibrated.datasheet.device, calibrated.datasheet.engine) == ("Toy board", "Toy Engine")
    slow = LatencyEstimator(calibrated, on_missing="error").predict(small(), input_shape=(1, 3, 16, 16))
    assert slow.latency_ms == pytest.approx(took_ms, rel=0.01)


# ---- sessions ----


def built(session: Path) -> LatencyTable:
    """The table of a session that metered `YAML`."""
    table = session.with_suffix(".parquet")
    run("table", "build", session, "-o", table)
    found = load_table(str(table))
    assert [kernel.outputs[0] for kernel in sorted(found, key=str) if kernel.op == "conv2d"] == [
        (1, 16, 8, 8),
        (1, 8, 8, 8),
    ]
    assert {kernel.op for kernel in found} == {"conv2d", "raster"}
    return found


@pytest.fixture
def start(tmp_path: Path) -> tuple[object, ...]:
    """A command that begins a session."""
    (tmp_path / "ops.yaml").write_text(YAML)
    session = tmp_path / "s.sqlite"
    return (
        "measure",
        tmp_path / "ops.yaml",
        "-s",
        session,
        "--engine",
        "toy",
        "--rounds",
        1,
        "--runs",
        2,
        "--max-drift",
        9,
    )


def test_a_session_from_an_op_space_to_a_table(start: tuple[object, ...], tmp_path: Path) -> None:
    output = run("space", "show", tmp_path / "ops.yaml", "--engine", "toy")
    assert "3 combinations: 3 ops, 0 illegal, 0 that fail\n3 distinct kernels, all of them in 3 of the ops\n" in output
    put_aside = "put aside: torch.nn.Tanh() on [1, 8, 8, 8]: MeasureError: Expected ops out of add, batch_norm, "
    output = run(*start, "--device", "Toy board")
    assert put_aside in output
    assert re.search(r"the largest network used 0\.\d MB at its peak\n", output)
    assert "going on with " in run("measure", tmp_path / "ops.yaml", "-s", tmp_path / "s.sqlite")
    assert built(tmp_path / "s.sqlite").datasheet.device == "Toy board"


def test_a_session_over_ssh(start: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sshd", "bin"):
        (tmp_path / name).mkdir()
    with ssh_server(tmp_path / "sshd") as server:
        monkeypatch.setenv("PATH", server.clients(tmp_path / "bin"))
        run(*start, "--on", server.ssh.name, "--python", sys.executable)
    sheet = built(tmp_path / "s.sqlite").datasheet
    assert (sheet.device, sheet.engine, sheet.engine_version) == (server.ssh.name, "Toy Engine", "1.0")


def test_a_bundle_for_a_device_without_this_library(start: tuple[object, ...], tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    bare = bare_interpreter(tmp_path / "bare", "numpy", "numpy.libs")
    bundle, samples = tmp_path / "bundle.pyz", tmp_path / "samples.jsonl"
    assert f"next: python3 {bundle.name} on the device" in run(*start, "--bundle", bundle)
    done = subprocess.run([*bare, bundle, "-o", samples], capture_output=True, text=True, check=False)  # noqa: S603
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert re.search(r": [1-9]\d* repetitions\n", run(*start, "--samples", samples))
    assert built(tmp_path / "s.sqlite").datasheet.engine == "Toy Engine"


def test_the_command_line_in_a_process_of_its_own(start: tuple[object, ...], tmp_path: Path) -> None:
    done = start_main(*map(str, start))
    assert done.returncode == 0, done.stderr
    other = run_main("space", "show", str(tmp_path / "ops.yaml"), "--engine", "tou")
    titles = ", ".join(get_engine(name).title for name in engine_names())
    assert other.stderr.endswith(
        f"error: GraphError: Expected an engine whose fusion rules are known ({titles}), but got 'tou': its tables can "
        f"be read, but no model can be priced by them yet.\n"
    )
