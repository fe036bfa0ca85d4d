"""The kernels of a file in MNN's own word: from other exporters, in a process of its own, and what it refuses.

For the networks of this library's writer, `test_fusion.py` holds them against the rules.
"""

from __future__ import annotations

import ctypes
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from latency_nas.engine import Target, fuse
from latency_nas.engine.mnn import session
from latency_nas.engine.mnn.converter import convert
from latency_nas.engine.mnn.device_side import Network
from latency_nas.engine.mnn.lowering import kernels_of, lower_mnn
from latency_nas.engine.mnn.mnn_engine import MNN
from latency_nas.engine.mnn.session_layouts import packed_outputs
from latency_nas.errors import GraphError, InputMismatchError
from latency_nas.graph.mnn.model_file import MnnFile, read_mnn_file
from latency_nas.graph.onnx.writer import save_onnx
from latency_nas.graph.torch.onnx_export import export_onnx
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import OPS, Kernel
from latency_nas.kernel.cost import is_memory_bound
from tests.mnn_network import lowered
from tests.networks import MobileNet
from tests.zoo import ZOO


def onnx_file(
    path: Path, nodes: list[Any], shape: list[int | str], weights: dict[str, np.ndarray] | None = None
) -> Path:
    """A network from `x` to `y`."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in (("x", shape), ("y", None))]
    held = [onnx.numpy_helper.from_array(value, name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), path)
    return path


def kernels(path: Path, shape: tuple[int, ...] | None = None) -> list[str]:
    return [str(call.kernel) for call in lower_mnn(path, Target(), shape)]


def test_a_file_is_lowered_in_a_process_of_its_own(tmp_path: Path) -> None:
    """From ONNX and from MNN's own file, at sizes that the file leaves open, as the rules have it."""
    graph = read_torch(MobileNet(), input_shape=(1, 3, 32, 32))
    model = onnx.load(save_onnx(graph, tmp_path / "net.onnx"), load_external_data=False)
    for axis in (2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"size{axis}"
    del model.graph.value_info[:]
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(InputMismatchError) as caught:
        lower_mnn(tmp_path / "net.onnx", Target())
    assert str(caught.value) == (
        f"Expected `input_shape` for the input `input_0` (1, 3, size2, size3) of {tmp_path / 'net.onnx'}, whose sizes "
        f"are open."
    )
    other = read_torch(MobileNet(), input_shape=(1, 3, 48, 64))
    found = MNN().lower(tmp_path / "net.onnx", Target(precision="fp16"), input_shape=(1, 3, 48, 64))
    assert [call.kernel for call in found] == [call.kernel for call in fuse(other, "MNN")]
    own = convert(tmp_path / "net.onnx", tmp_path / "net.mnn")
    with pytest.raises(InputMismatchError) as caught:
        lower_mnn(own, Target())
    assert str(caught.value) == (
        f"Expected an `input_shape` for {own}, since it leaves sizes open (input_0 [1, 3, -1, -1]), but got none."
    )
    assert lower_mnn(own, Target(), {"input_0": (1, 3, 48, 64)}) == found


def test_an_open_batch_is_not_taken_as_one(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "net.onnx", [helper.make_node("Sigmoid", ["x"], ["y"])], ["batch", 8])
    with pytest.raises(InputMismatchError) as caught:
        lower_mnn(path, Target())
    assert str(caught.value) == f"Expected `input_shape` for the input `x` (batch, 8) of {path}, whose sizes are open."
    assert kernels(path, (5, 8)) == ["sigmoid [5,8] -> [5,8] dtype=fp32"]


class Operands(nn.Module):
    """Numbers, constants of one operand's shape or another, and two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.matrix = nn.Parameter(torch.rand(6, 1, 1)), nn.Parameter(torch.rand(2, 5, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = (x * 2 + self.shift) / x
        return (x.flatten(0, 1).reshape(2, 3, 5) @ self.matrix).square().sum(1)


def test_operands_constants_and_reductions(tmp_path: Path) -> None:
    path = export_onnx(Operands(), torch.zeros(1, 6, 1, 5), tmp_path / "net.onnx")
    computed = [text for text in kernels(path) if not text.startswith("raster")]
    assert computed == [
        "mul [1,6,1,5] -> [1,6,1,5] scalar=1 dtype=fp32",
        "add [1,6,1,5] -> [1,6,1,5] dtype=fp32",
        "div [1,6,1,5] [1,6,1,5] -> [1,6,1,5] dtype=fp32",
        "matmul [2,3,5] -> [2,3,4] constant=right dtype=fp32",
        "square [2,3,4] -> [2,3,4] dtype=fp32",
        "reduce_sum [2,3,4] -> [2,4] axes=[1] keepdim=0 dtype=fp32",
    ]


@pytest.mark.parametrize(
    ("ran", "name"), [("Where", "mnn.where"), ("BinaryOp", "binaryop"), ("While", "while"), ("LSTM", "mnn.lstm")]
)
def test_what_the_file_does_not_tell_has_no_name_of_the_vocabulary(ran: str, name: str) -> None:
    """MNN's Where finds what is not zero; in the vocabulary the word is a choice between two operands."""
    tensor = session.RanTensor(shape=(1, 3, 8), floats=True, maker=-1)
    op = session.RanOp(name="part_raster_0", type=ran, reads=(tensor,), writes=(replace(tensor, maker=0),))
    (call,) = kernels_of(MnnFile(name="net", ops=(), tensors=(), outputs=()), [op])
    assert call.kernel.key == f"{name} [1,3,8] -> [1,3,8] dtype=fp32"
    assert call.kernel.op not in OPS
    assert not is_memory_bound(call.kernel)


def test_control_flow_is_named(tmp_path: Path) -> None:
    body = [
        helper.make_graph(
            [helper.make_node(op, ["x"], [f"{op}_y"])], op, [],
            [helper.make_tensor_value_info(f"{op}_y", TensorProto.FLOAT, [1, 8])],
        ) for op in ("Relu", "Sigmoid")
    ]  # fmt: skip
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Cast", ["sum"], ["which"], to=TensorProto.BOOL),
        helper.make_node("If", ["which"], ["y"], then_branch=body[0], else_branch=body[1]),
    ]
    path = onnx_file(tmp_path / "net.onnx", nodes, [1, 8])
    with pytest.raises(GraphError) as caught:
        lower_mnn(path, Target())
    assert str(caught.value) == (
        f"Expected {path} to be a network without control flow, since MNN runs none in a session, but `y` is If."
    )


def test_what_mnn_says_of_an_op_that_it_cannot_run_or_convert_is_told(tmp_path: Path) -> None:
    weights = {"w": np.zeros((8, 3, 3, 3), np.float32)}
    nodes = [helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Conv", ["r", "w"], ["convolved"])]
    path = onnx_file(
        tmp_path / "wide.onnx", [*nodes, helper.make_node("Relu", ["convolved"], ["y"])], [1, 4, 8, 8], weights
    )
    with pytest.raises(GraphError) as caught:
        lower_mnn(path, Target())
    text = str(caught.value)
    assert text.startswith(
        "MNN 3.6.1 could not run wide.mnn: its error code is 3 (the sizes of an op cannot be computed)"
    )
    assert text.endswith("Compute Shape Error for convolved.")
    path = onnx_file(tmp_path / "unknown.onnx", [helper.make_node("IsInf", ["x"], ["y"])], [1, 8])
    with pytest.raises(GraphError) as caught:
        lower_mnn(path, Target())
    assert str(caught.value) == f"MNN 3.6.1 could not convert {path}, and prints: These Op Not Support: ONNX::IsInf."
    with pytest.raises(GraphError) as caught:
        lower_mnn(tmp_path, Target())
    assert str(caught.value) == f"Expected {tmp_path} to be a file, but it is a folder."


def test_a_crash_ends_its_own_process_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.mnn"
    path.write_bytes(bytes(100))
    with pytest.raises(GraphError) as caught:
        lower_mnn(path, Target())
    assert str(caught.value).startswith(f"Expected {path} to be a whole .mnn file, but ")
    monkeypatch.setattr(session, "_PROGRAM", "import os; os.abort()  # {path} {limit}")
    with pytest.raises(GraphError) as caught:
        lower_mnn(path, Target())
    assert str(caught.value) == f"Expected MNN to run {path}, but its process ended by signal 6."


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GhostNet", "ShuffleNetV2-1.0", "ViT-Ti/16"])
def test_layouts_are_those_in_memory(name: str, tmp_path: Path) -> None:
    """A tensor is packed where its memory is not what MNN gives as plain numbers."""
    graph = read_torch(ZOO[name][0](), input_shape=ZOO[name][1])
    path = convert(graph, tmp_path / "net.mnn")
    network = Network(str(path))
    packed = packed_outputs(read_mnn_file(path), session.traced(network.tensors(), network.input_addresses))
    in_memory = packed_in_memory(network)
    told = [(found, known) for found, known in zip(packed, in_memory, strict=True) if known is not None]
    assert len(told) > 50
    assert [found for found, _ in told] == [known for _, known in told]


def packed_in_memory(network: Network) -> list[bool | None]:
    """Whether the output of each op is packed; None where a single column makes both layouts the same."""
    import MNN

    found: list[bool | None] = []

    def after(tensors: Any, _: Any) -> bool:
        shape = tuple(tensors[0].getShape())
        plain = MNN.Tensor(shape, MNN.Halide_Type_Float, np.zeros(shape, np.float32), MNN.Tensor_DimensionType_Caffe)
        tensors[0].copyToHostTensor(plain)
        numbers = np.array(plain.getNumpyData()).reshape(-1)
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        raw = (ctypes.c_float * prod(shape)).from_address(pointer(tensors[0].getHost(), None))
        same = bool(np.array_equal(np.ctypeslib.as_array(raw), numbers, equal_nan=True))
        tells = len(shape) > 1 and shape[1] > 1 and shape[0] * prod(shape[2:]) > 1 and numbers.std() > 0
        found.append(not same if tells else None)
        return True

    network._fill()
    network._interpreter.runSessionWithCallBackInfo(network._session, lambda *_: True, after)
    return found


def test_one_run_gives_what_the_process_gives(tmp_path: Path) -> None:
    graph = read_torch(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), input_shape=(1, 3, 8, 8))
    path = convert(graph, tmp_path / "net.mnn")
    assert lowered(path) == [call.kernel for call in lower_mnn(path, Target())]
    assert lowered(path)[1] == Kernel.of(
        "conv2d", [(1, 3, 8, 8)], [(1, 8, 6, 6)], kernel=(3, 3), stride=(1, 1), pad=(0,) * 4, dilation=(1, 1), group=1,
        bias=1, act="relu",
    )  # fmt: skip
