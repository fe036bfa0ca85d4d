"""MMT's pickles of both generations, and its three calls, on real networks with real MNN."""

from __future__ import annotations

import logging
import pickle
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

from latency_nas.compat.mmt import _options, generate_ops_list, meter_ops, predict_latency
from latency_nas.engine import fuse
from latency_nas.errors import MissingKernelError, SessionError, TableFileError, UnsafePickleError
from latency_nas.graph.torch.reader import read_torch
from latency_nas.table import load_table
from latency_nas.table.formats.mmt import MMTOp, import_mmt, read_class_name

YAML = """
torch.nn:
    Conv2d:
        in_channels: [3, 8]
        out_channels: [8]
        kernel_size: [3]
        padding: [1]
        input_shape: [[1, 3, 16, 16], [1, 8, 16, 16]]
    Linear:
        in_features: [8]
        out_features: [10, 100, 1000]
        input_shape: [[1, 8]]
    AdaptiveAvgPool2d:
        output_size: [[1, 1]]
        input_shape: [[1, 8, 16, 16]]
    ReLU:
        no_params: true
        input_shape: [[1, 8, 16, 16]]
unused: "None"
"""


class Net(nn.Module):
    """Functional relu and reshape beside what the op space lists."""

    def __init__(self, features: int = 10) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.pool, self.head = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(8, features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.second(torch.relu(self.first(x)))).flatten(1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mmt")
    (folder / "ops.yaml").write_text(YAML)
    generate_ops_list(folder / "ops.yaml", folder / "ops")
    meter_ops(folder / "ops", times=12)
    return folder / "ops"


def test_three_calls_meter_and_predict(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    table = load_table(str(folder / "latency.parquet"))
    assert {kernel.outputs[0] for kernel in table if kernel.op == "conv2d"} >= {(1, n, 1, 1) for n in (10, 100, 1000)}
    assert all(row.n_samples >= 12 for kernel, row in table.items() if kernel.op == "conv2d")
    net = Net().train()
    with caplog.at_level(logging.WARNING):
        latency_ms = predict_latency(net, str(folder / "meta_latency.pkl"), [1, 3, 16, 16])
    calls = fuse(read_torch(net, input_shape=(1, 3, 16, 16)), "MNN")
    priced = {kernel.without(("act",)): row.latency_ms for kernel, row in table.items()}
    assert latency_ms == pytest.approx(sum(priced[call.kernel.without(("act",))] for call in calls))
    missing = {call.kernel for call in calls if call.kernel not in table}
    assert [kernel.attributes.get("act") for kernel in missing] == ["relu"]
    for kernel in missing:
        assert str(kernel) in caplog.text
    assert net.training
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert predict_latency(net, folder, [1, 3, 16, 16]) == latency_ms


def test_a_folder_over_other_ops_is_refused_and_the_same_ops_go_on(folder: Path, tmp_path: Path) -> None:
    generate_ops_list(folder.parent / "ops.yaml", folder)
    other = tmp_path / "other.yaml"
    other.write_text("torch.nn:\n  ReLU:\n    no_params: true\n    input_shape: [[1, 4]]\n")
    with pytest.raises(SessionError) as caught:
        generate_ops_list(other, folder)
    assert str(caught.value) == (
        f"Expected {folder / 'session.sqlite'} to be over the ops of {other}, but it is over others: name another "
        f"folder, or delete this one."
    )


@pytest.mark.parametrize("times", [1, 3, 10, 30, 100])
def test_an_op_is_timed_about_as_often_as_requested(times: int) -> None:
    options = _options(times, 1, "fp32", "")
    n_runs = options.contexts * options.rounds * options.repetition.n_runs
    assert times <= n_runs <= max(times + 5, 1.25 * times)


@pytest.fixture
def mmt_module(monkeypatch: pytest.MonkeyPatch) -> type:
    """A module of the name of MMT's with its class, to pickle instances of it as MMT does."""
    for name in ("mmt", "mmt.utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    meta = type("ops_meta", (), {"__module__": "mmt.utils"})
    sys.modules["mmt.utils"].ops_meta = meta  # type: ignore[attr-defined]
    return meta


def write_mmt(meta: type, folder: Path, modules: list[tuple[nn.Module, list[int], float]], *, old: bool) -> Path:
    """As mnn-meter 2.2.0 writes it, or (`old`) as 1.0.1 does."""
    rows = []
    for number, (module, shape, latency_ms) in enumerate(modules):
        row = meta()
        row.__dict__ = {
            "input_shape": shape, "init_param": None, "mnn_fname": f"{number}.mnn", "avg": latency_ms,
            "max": 2 * latency_ms, "min": latency_ms / 2, "repr": repr(module),
        }  # fmt: skip
        if old:
            row.__dict__["classname"] = type(module)
        else:
            row.__dict__["set_path"] = "ops"
            (folder / f"{number}.mnn.pj").write_bytes(pickle.dumps(type(module)))
        rows.append(row)
    path = folder / "meta_latency.pkl"
    path.write_bytes(pickle.dumps(rows, protocol=4))
    return path


@pytest.mark.parametrize("old", [False, True])
def test_tables_of_mmt_itself_price_a_network_as_mmt_does(old: bool, mmt_module: type, tmp_path: Path) -> None:
    net = Net()
    modules = [(net.first, [1, 3, 16, 16], 1.0), (net.second, [1, 8, 16, 16], 2.0), (net.head, [1, 8], 4.0)]
    path = write_mmt(mmt_module, tmp_path, modules, old=old)
    del sys.modules["mmt.utils"]  # nothing of MMT's is there to import
    ops = import_mmt(path)
    assert ops[0] == MMTOp(
        class_name="torch.nn.modules.conv.Conv2d", repr=repr(net.first), input_shape=(1, 3, 16, 16), latency_ms=1.0,
        min_ms=0.5, max_ms=2.0, file="0.mnn",
    )  # fmt: skip
    assert predict_latency(net, path, [1, 3, 16, 16]) == 7.0
    with pytest.raises(MissingKernelError) as caught:
        predict_latency(Net(features=12), path, [1, 3, 16, 16])
    assert str(caught.value) == (
        f"{path} has no row for 1 of the modules that run: head: {Net(features=12).head!r} on [1, 8]. A row is found "
        f"by class, input shape (batch included) and repr. Meter them with generate_ops_list and meter_ops."
    )


def test_rows_that_share_a_file_are_warned_of(
    mmt_module: type, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_mmt(mmt_module, tmp_path, [(nn.ReLU(), [1, 2], 1.0), (nn.Tanh(), [1, 2], 1.0)], old=True)
    path.write_bytes(path.read_bytes().replace(b"1.mnn", b"0.mnn"))
    import_mmt(path)
    assert (
        "ReLU() and Tanh() share the file 0.mnn, so that MMT timed one of them for both: at least one row is wrong."
        in caplog.text
    )


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return print, ("run",)


def test_nothing_of_a_foreign_pickle_is_run(
    mmt_module: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "meta_latency.pkl"
    path.write_bytes(pickle.dumps([Evil()]))
    with pytest.raises(UnsafePickleError) as caught:
        import_mmt(path)
    assert str(caught.value).startswith(f"Refused {path}: at byte ")
    assert str(caught.value).endswith(
        "the pickle holds REDUCE None, and only ops of MMT's are read. Nothing of the file was run."
    )
    (tmp_path / "x.pj").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(TableFileError) as refused:
        read_class_name(tmp_path / "x.pj")
    assert "to be a pickle of one class, but it holds " in str(refused.value)
    nested: object = ()
    for _ in range(60):
        nested = (nested, nested)  # its hash would take 2**60 steps
    row = mmt_module()
    row.__dict__ = {"avg": {"key": 1}}
    data = pickle.dumps([row], protocol=4).replace(
        pickle.dumps("key", protocol=4)[11:-2], pickle.dumps(nested, protocol=4)[11:-2]
    )
    path.write_bytes(data)
    with pytest.raises(TableFileError, match=r"^(Expected|Row) "):
        import_mmt(path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\x80\x04]."])
def test_damaged_files_are_refused(damage: object, mmt_module: type, tmp_path: Path) -> None:
    path = write_mmt(mmt_module, tmp_path, [(nn.ReLU(), [1, 2], 1.0)], old=True)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(TableFileError, match=rf"^Expected {path} to be a "):
        import_mmt(path)


def test_a_table_that_was_not_timed_is_refused(mmt_module: type, tmp_path: Path) -> None:
    path = write_mmt(mmt_module, tmp_path, [(nn.ReLU(), [1, 2], 0.0)], old=True)
    with pytest.raises(TableFileError) as caught:
        import_mmt(path)
    assert str(caught.value) == (
        f"Row 0 of {path} is not valid: Expected `avg` to be a positive finite number, but got 0.0."
    )
