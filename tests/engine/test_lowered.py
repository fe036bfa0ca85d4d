"""Where the kernels of a model come from: the engine where it can be asked, otherwise the rules; their differences."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from torch import nn

from latency_nas import Kernel, LatencyEstimator, LatencyTable, save_table
from latency_nas.engine import Engine, Target
from latency_nas.engine.lowered import Lowered, lower_kernels
from latency_nas.engine.mnn.mnn_engine import MNN
from latency_nas.errors import GraphError
from latency_nas.graph.onnx.writer import save_onnx
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.table import Datasheet, Entry
from tests.cli.test_predict import run

INSTALLED = version("MNN")


def call(op: str) -> KernelCall:
    return KernelCall(kernel=Kernel.of(op, [(1, 8)], [(1, 8)]), layer="", nodes=())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    graph = read_torch(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Hardsigmoid()), input_shape=(1, 3, 8, 8))
    return save_onnx(graph, tmp_path_factory.mktemp("net") / "net.onnx")


@pytest.fixture(scope="module")
def table(path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of this engine's version, in which every kernel costs half a millisecond."""
    kernels = lower_kernels(path, "mnn", target=Target(), kernels="rules").calls
    sheet = Datasheet(device="Example board", engine="MNN", method="measured", engine_version=INSTALLED)
    rows = {item.kernel: Entry(latency_ms=0.5) for item in kernels}
    return save_table(LatencyTable.of(rows, sheet), tmp_path_factory.mktemp("table") / "board.parquet")


def test_the_first_difference_is_that_of_kernels_in_order() -> None:
    relu, tanh = call("relu"), call("tanh")

    def lowered(rules: tuple[KernelCall, ...]) -> Lowered:
        return Lowered(networks=(({}, (relu, tanh)),), source="engine", engine="MNN 3.6.1", rules=rules)

    assert lowered((relu, tanh)).first_difference is None
    assert lowered((relu, relu)).first_difference == 1
    assert lowered((relu,)).first_difference == 1
    assert lowered((relu, tanh, relu)).first_difference == 2
    assert str(lowered((relu, tanh))) == "kernels as MNN 3.6.1 runs them: 2; the rules give the same"
    assert str(lowered((relu,))) == (
        "kernels as MNN 3.6.1 runs them: 2; rules: 1, first difference at 2: tanh [1,8] -> [1,8] dtype=fp32 in the "
        "engine, none by rule"
    )
    assert lowered((relu,)).to_dict()["rules"] == {
        "n_kernels": 1,
        "first_difference": {"index": 1, "engine": "tanh [1,8] -> [1,8] dtype=fp32", "rules": None},
    }


@pytest.mark.parametrize(
    ("engine", "source", "engine_version", "reason"),
    [
        ("mnn", "torch.nn:ReLU", INSTALLED, "it takes files only (.mnn, .onnx)"),
        ("mnn", "net.onnx", "3.5.0", f"the table is of version 3.5.0, and {INSTALLED} is installed"),
        ("mnn", "net.onnx", "", "the table does not state the engine's version"),
        ("paddle-lite", "net.onnx", "2.13", "it takes files only (.zip, .pdmodel, .json)"),
    ],
)
def test_the_rules_are_used_where_the_engine_cannot_be_asked(
    engine: str, source: str, engine_version: str, reason: str, path: Path
) -> None:
    model, shape = (path, None) if source == "net.onnx" else (source, (1, 8))
    found = lower_kernels(model, engine, target=Target(), engine_version=engine_version, input_shape=shape)
    assert (found.source, found.reason, found.rules) == ("rules", reason, None)
    assert found.to_dict()["reason"] == reason
    if engine_version:
        with pytest.raises(GraphError) as caught:
            lower_kernels(model, engine, target=Target(), engine_version=engine_version, kernels="engine")
        title = {"mnn": "MNN", "paddle-lite": "Paddle-Lite"}[engine]
        assert str(caught.value) == f"Expected {title} to be asked for the kernels of {model}, but {reason}."


def test_an_engine_that_reports_nothing_is_not_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNN, "lower", Engine.lower)
    found = lower_kernels(path, "mnn", target=Target(), engine_version=INSTALLED)
    assert (found.source, found.reason) == ("rules", "it does not report the kernels that it runs")


def test_an_engine_that_is_not_installed_is_not_asked(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MNN, "installed_version", lambda self: "")
    found = lower_kernels(path, "mnn", target=Target(), engine_version=INSTALLED)
    assert (found.source, found.reason) == ("rules", "it is not at hand (pip install MNN)")


def test_a_file_that_the_engine_refuses_is_read_by_rule(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise GraphError("It refused.")

    monkeypatch.setattr(MNN, "lower", refuse)
    assert lower_kernels(path, "mnn", target=Target(), engine_version=INSTALLED).reason == "It refused."
    with pytest.raises(GraphError, match=r"^It refused\.$"):
        lower_kernels(path, "mnn", target=Target(), engine_version=INSTALLED, kernels="engine")


def test_an_unknown_source_of_kernels_is_refused(path: Path) -> None:
    with pytest.raises(GraphError) as caught:
        lower_kernels(path, "mnn", target=Target(), kernels="guess")  # type: ignore[arg-type]
    assert str(caught.value) == "Expected `kernels` to be engine or rules, but got 'guess'."


def test_the_command_asks_the_engine_and_says_so(path: Path, table: Path) -> None:
    lines = run(str(path), "--table", str(table)).splitlines()
    n_kernels = 1 + 1 + 3 + 1  # a copy, the convolution, the three steps of hard sigmoid, a copy
    assert lines[-2] == f"{n_kernels * 0.5:.3f} ms ± unknown, coverage 100.0% of {n_kernels} kernels"
    assert lines[-1] == f"kernels as MNN {INSTALLED} runs them: {n_kernels}; the rules give the same"
    plain = json.loads(run(str(path), "--table", str(table), "--json"))
    assert plain["lowered"] == {
        "source": "engine", "engine": f"MNN {INSTALLED}", "n_kernels": n_kernels,
        "rules": {"n_kernels": n_kernels, "first_difference": None},
    }  # fmt: skip
    by_rule = json.loads(run(str(path), "--table", str(table), "--json", "--kernels", "rules"))
    assert by_rule["lowered"] == {"source": "rules", "engine": "MNN", "n_kernels": n_kernels, "reason": ""}
    assert [item["kernel"] for item in plain["kernels"]] == [item["kernel"] for item in by_rule["kernels"]]


def test_the_estimator_uses_the_rules_unless_it_is_told_otherwise(
    path: Path, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = LatencyEstimator(table)
    asked: list[Path] = []
    lower = MNN.lower
    monkeypatch.setattr(
        MNN, "lower", lambda self, file, *rest, **given: asked.append(file) or lower(self, file, *rest, **given)
    )
    assert estimator.predict(path).latency_ms == 3.0
    assert estimator.predict(nn.Conv2d(3, 8, 3), torch.zeros(1, 3, 8, 8), kernels=None).latency_ms == 1.5
    assert asked == []
    assert estimator.predict(path, kernels="engine").latency_ms == 3.0
    assert asked == [path]
