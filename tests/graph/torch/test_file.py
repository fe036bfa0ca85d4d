"""Files of torch are read as the modules that they were made from, and nothing in them is executed."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from latency_nas import ResourceCounter, read_model
from latency_nas.errors import GraphError, InputMismatchError
from latency_nas.graph import OpGraph
from latency_nas.graph.torch.reader import read_torch

SHAPE = (2, 3, 8, 8)


class Net(nn.Module):
    """Weights, a shared layer, buffers, constants, and sizes that are computed."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 8)
        self.register_buffer("kept", torch.rand(8))
        self.register_buffer("made", torch.rand(8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x)
        b, c, h, w = y.shape
        y = y.reshape(b, c, h * w).mean(-1) * self.kept + self.made
        return self.head(self.head(y).chunk(2, 1)[0].repeat(1, 2)) + torch.tensor([1.0] * 8)


class Ids(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.recurrent = nn.Embedding(10, 8), nn.LSTM(8, 4, batch_first=True)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        y: Tensor = self.recurrent(self.table(ids))[0]
        return y.masked_fill(mask.unsqueeze(-1), 0.0)


def kernels(graph: OpGraph) -> list[tuple[str, str]]:
    return [(node.name, graph.kernel(node).key) for node in graph.nodes]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    dynamic = {"x": {0: torch.export.Dim("batch", min=1, max=64)}}
    paths = {name: folder / f"{name}.pt2" for name in ("open", "fixed", "ids")}
    with warnings.catch_warnings(action="ignore"):
        x = torch.zeros(SHAPE)
        torch.export.save(torch.export.export(Net().eval(), (x,), dynamic_shapes=dynamic), paths["open"])
        torch.export.save(torch.export.export(Net().eval(), (x,)), paths["fixed"])
        example = torch.zeros(1, 6, dtype=torch.int64), torch.zeros(1, 6, dtype=torch.bool)
        torch.export.save(torch.export.export(Ids().eval(), example), paths["ids"])
        paths["script"] = folder / "script.pt"
        torch.jit.save(torch.jit.script(Net().eval()), paths["script"])
        paths["pickle"] = folder / "pickle.pth"
        torch.save(Net(), paths["pickle"])
    return paths


def test_an_exported_file_is_read_as_its_module(files: dict[str, Path]) -> None:
    expected = read_torch(Net(), input_shape=SHAPE)
    assert kernels(read_model(files["open"], input_shape=SHAPE)) == kernels(expected)
    assert kernels(read_model(files["fixed"])) == kernels(expected)
    wider = read_torch(Net(), input_shape=(5, *SHAPE[1:]))
    assert kernels(read_model(files["open"], input_shape=(5, *SHAPE[1:]))) == kernels(wider)
    n_params = sum(p.numel() for p in Net().parameters())
    assert ResourceCounter("params").predict(str(files["fixed"])).value == n_params


def test_integer_inputs_of_a_file_have_their_types(files: dict[str, Path]) -> None:
    ids, mask = torch.zeros(1, 6, dtype=torch.int64), torch.zeros(1, 6, dtype=torch.bool)
    graph, expected = read_model(files["ids"]), read_torch(Ids(), (ids, mask))
    assert [graph.values[index].dtype for index in graph.inputs] == ["int64", "bool"]
    counter = ResourceCounter("macs")
    assert counter.predict(graph).value == counter.predict(expected).value == 6 * 4 * 4 * (8 + 4)


def test_a_program_in_memory_is_read_as_its_file(files: dict[str, Path]) -> None:
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(Net().eval(), (torch.zeros(SHAPE),))
        assert kernels(read_model(program, torch.zeros(SHAPE))) == kernels(read_model(files["fixed"]))


def test_a_file_of_torchscript_is_read_as_its_module(files: dict[str, Path]) -> None:
    expected = [key for _, key in kernels(read_torch(Net(), input_shape=SHAPE))]
    assert [key for _, key in kernels(read_model(files["script"], input_shape=SHAPE))] == expected


def test_shapes_that_a_program_cannot_take_are_refused(files: dict[str, Path]) -> None:
    with pytest.raises(InputMismatchError) as caught:
        read_model(files["open"])
    assert str(caught.value) == (
        f"Expected `input_shape` for the one input of {files['open']} whose sizes are open, but got None for x: "
        f"export it with fixed sizes of all others."
    )
    for name, sizes in (("open", "any, 3, 8, 8"), ("fixed", "2, 3, 8, 8")):
        with pytest.raises(InputMismatchError) as caught:
            read_model(files[name], input_shape=(2, 3, 9, 9))
        assert str(caught.value) == (
            f"Expected `input_shape` of `x` to be ({sizes}), as {files[name]} was exported, but got (2, 3, 9, 9)."
        )


def test_a_pickle_is_refused(files: dict[str, Path]) -> None:
    with pytest.raises(GraphError) as caught:
        read_model(files["pickle"], input_shape=SHAPE)
    assert str(caught.value) == (
        f"Expected {files['pickle']} to be an exported program (torch.export.save) or TorchScript (torch.jit.save), "
        f"but it is a pickle of torch.save, which is never executed: give the model itself, as "
        f"package.module:callable."
    )


class Touch:
    """A pickle that leaves a file behind when it is executed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def _changed(source: Path, target: Path, change: Callable[[str, bytes], bytes]) -> Path:
    with zipfile.ZipFile(source) as archive, zipfile.ZipFile(target, "w") as made:
        for item in archive.infolist():
            made.writestr(item.filename, change(item.filename, archive.read(item)))
    return target


@pytest.mark.parametrize("name", ["fixed", "script"])
def test_pickles_in_archives_are_not_executed(files: dict[str, Path], tmp_path: Path, name: str) -> None:
    left = tmp_path / "left"
    attack = pickle.dumps(Touch(left))
    suffixes = (".pkl", ".pt", "weight_0", "tensor_0")
    path = _changed(
        files[name],
        tmp_path / files[name].name,
        lambda entry, content: attack if entry.endswith(suffixes) else content,
    )
    if name == "script":
        with pytest.raises(GraphError) as caught:
            read_model(path, input_shape=SHAPE)
        assert str(caught.value) == f"Expected {path} to be TorchScript, but torch cannot read it."
    else:
        assert kernels(read_model(path)) == kernels(read_model(files[name]))
    assert not left.exists()


@pytest.mark.parametrize("target", [
    "torch.ops.aten.from_file.default", "os.system", "torch.ops.higher_order.cond", "torch.ops.other", "torch.ops.a.b/",
])  # fmt: skip
def test_only_ops_of_torch_are_called(files: dict[str, Path], tmp_path: Path, target: str) -> None:
    def change(entry: str, content: bytes) -> bytes:
        if not entry.endswith("models/model.json"):
            return content
        program = json.loads(content)
        program["graph_module"]["graph"]["nodes"][0]["target"] = target
        return json.dumps(program).encode()

    path = _changed(files["fixed"], tmp_path / "forged.pt2", change)
    with pytest.raises(GraphError) as caught:
        read_model(path)
    assert str(caught.value) == (
        f"Expected ops of libraries of torch in {path}, but it calls {target!r}: give the model itself, as "
        f"package.module:callable."
    )


def test_torchscript_that_writes_files_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    path = _changed(
        files["script"],
        tmp_path / "writes.pt",
        lambda entry, content: content + b"# torch.save(x, 'y')" if entry.endswith(".py") else content,
    )
    with pytest.raises(GraphError) as caught:
        read_model(path, input_shape=SHAPE)
    assert str(caught.value) == f"Expected TorchScript that writes no files in {path}, but it calls save(...)."


@pytest.mark.parametrize("damage", ["truncated", "empty", "no nodes", "huge"])
def test_damaged_files_are_refused(files: dict[str, Path], tmp_path: Path, damage: str) -> None:
    path = tmp_path / "damaged.pt2"

    def change(entry: str, content: bytes) -> bytes:
        if not entry.endswith("models/model.json"):
            return content
        program = json.loads(content)
        if damage == "no nodes":
            del program["graph_module"]["graph"]["nodes"]
        else:
            program["graph_module"]["graph"]["tensor_values"]["p_head_weight"]["sizes"] = [{"as_int": 2**40}] * 2
        return json.dumps(program).encode()

    if damage in ("truncated", "empty"):
        shutil.copy(files["fixed"], path)
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else 1000])
    else:
        _changed(files["fixed"], path, change)
    with pytest.raises(GraphError, match=r"^Expected .*damaged\.pt2"):
        read_model(path)


class Typed(nn.Module):
    """Conversions of types, which torch exports with assertions, and activations that are spelled out."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.half().float().to(torch.float64).to(x).to("cpu")
        y = y * torch.sigmoid(y)
        return y * functional.relu6(y + 3) / 6


class Named(nn.Module):
    def forward(self, x: Tensor, *, others: dict[str, Tensor], twice: bool) -> Tensor:
        return x * 2 + others["y"] if twice else x


def _exported(module: nn.Module, args: tuple[Any, ...], path: Path, **more: Any) -> torch.export.ExportedProgram:
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.export(module.eval(), args, **more)
        torch.export.save(program, path)
    return program


def test_a_program_has_the_normal_form_of_its_module(tmp_path: Path) -> None:
    x, path = torch.zeros(SHAPE), tmp_path / "typed.pt2"
    program = _exported(Typed(), (x,), path)
    assert [node.op for node in read_torch(Typed(), x).nodes] == ["cast", "cast", "swish", "hard_swish"]
    expected = [key for _, key in kernels(read_torch(Typed(), x))]
    assert [key for _, key in kernels(read_model(path))] == expected
    assert [key for _, key in kernels(read_model(program))] == expected


def test_a_program_in_memory_needs_no_shapes_unless_it_leaves_some_open(tmp_path: Path) -> None:
    x, path = torch.zeros(2, 8), tmp_path / "program.pt2"
    program = _exported(Named(), (x,), path, kwargs={"others": {"y": x}, "twice": True})
    for source in (program, path):
        graph = read_model(source)
        assert [node.op for node in graph.nodes] == ["mul", "add"]
        assert [graph.values[index].shape for index in graph.inputs] == [(2, 8)] * 2
    batch = torch.export.Dim("batch", min=1, max=64)
    program = _exported(nn.Linear(8, 4), (x,), path, dynamic_shapes=({0: batch},))
    graphs = [read_model(source, torch.zeros(3, 8)) for source in (program, path)]
    graphs += [read_model(source, input_shape=(3, 8)) for source in (program, path)]
    assert [graph.kernel(graph.nodes[0]).inputs for graph in graphs] == [((3, 8),)] * 4
    with pytest.raises(InputMismatchError) as caught:
        read_model(program)
    assert str(caught.value) == (
        "Expected `example_input` or `input_shape` for a program whose sizes are open, but got neither for input."
    )
    with pytest.raises(InputMismatchError) as caught:
        read_model(path, (x, x))
    assert str(caught.value) == (f"Expected 1 tensors in `example_input` (input), as {path} was exported, but got 2.")


def test_torchscript_takes_an_example(files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "ids.pt"
    with warnings.catch_warnings(action="ignore"):
        torch.jit.save(torch.jit.script(nn.Embedding(10, 8)), path)
    graph = read_model(path, torch.zeros(1, 6, dtype=torch.int64))
    assert [graph.kernel(node).key for node in graph.nodes] == ["embedding [1,6] -> [1,6,8] dtype=fp32"]


@pytest.mark.parametrize("suffix", ["pt2", "pt"])
def test_a_folder_is_no_file_of_torch(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model.{suffix}"
    path.mkdir()
    with pytest.raises(GraphError) as caught:
        read_model(path)
    assert str(caught.value) == (
        f"Expected {path} to be an exported program (torch.export.save) or TorchScript (torch.jit.save), but it cannot "
        f"be read (Is a directory)."
    )
