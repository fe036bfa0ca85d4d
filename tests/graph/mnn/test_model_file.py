"""Files of MNN's converter against the modules that they were made of; damaged and hostile files."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from torch import nn

from latency_nas.engine.mnn.converter import convert
from latency_nas.errors import GraphError, InputMismatchError
from latency_nas.graph.mnn.model_file import read_mnn_file
from latency_nas.graph.mnn.schema import OP_TYPES
from latency_nas.graph.mnn.windows import conv_attrs, pool_attrs
from latency_nas.graph.torch.reader import read_torch

SOURCE, TARGET = (17, 19), (9, 11)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layers = (
        nn.Conv2d(3, 6, (3, 5), (2, 1), (1, 2), bias=False),
        nn.ReLU6(),
        nn.MaxPool2d((2, 3), (1, 2), (1, 0)),
        nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=6),
        nn.Sigmoid(),
    )
    graph = read_torch(nn.Sequential(*layers), input_shape=(1, 3, 17, 19))
    return convert(graph, tmp_path_factory.mktemp("mnn") / "net.mnn")


def test_ops_and_attributes(path: Path) -> None:
    file = read_mnn_file(path)
    types = [op.type for op in file.ops if op.type not in {"ConvertTensor", "Const"}]
    assert types == ["Input", "Convolution", "Pooling", "ConvolutionDepthwise", "UnaryOp"]
    assert (dict(file.inputs), file.outputs) == ({"input_0": (1, 3, 17, 19)}, ("output_0",))
    wide, pooled, depthwise = (file.by_name[name] for name in ("0/conv2d", "2/pool2d", "3/conv2d"))
    assert conv_attrs(wide, SOURCE, TARGET) == {
        "kernel": (3, 5), "stride": (2, 1), "pad": (1, 2, 1, 2), "dilation": (1, 1), "group": 1, "bias": 0,
        "act": "relu6",
    }  # fmt: skip
    assert pool_attrs(pooled, SOURCE, TARGET) == {
        "type": "max", "kernel": (2, 3), "stride": (1, 2), "pad": (1, 0, 1, 0),
    }  # fmt: skip
    found = conv_attrs(depthwise, SOURCE, TARGET)
    assert found is not None
    assert (found["dilation"], found["group"], found["bias"]) == ((2, 2), 6, 1)
    assert conv_attrs(pooled, SOURCE, TARGET) is pool_attrs(wide, SOURCE, TARGET) is None


def test_numbers_of_op_types_are_those_of_the_schema() -> None:
    """A number after each gap in the enumeration, as ``schema/default/MNN.fbs`` states or counts it."""
    known = {0: "AbsVal", 6: "Copy", 12: "Convolution", 128: "Raster", 129: "ConvertTensor", 155: "DynamicQuant"}
    known |= {257: "Select", 299: "Attention", 513: "ConvInt8", 518: "EltwiseInt8", 600: "While", 604: "GridSample"}
    assert {number: OP_TYPES[number] for number in known} == known


def test_sizes_are_those_of_the_file_or_given(path: Path) -> None:
    file = read_mnn_file(path, "net")
    assert file.sizes() == file.sizes((1, 3, 17, 19)) == {"input_0": (1, 3, 17, 19)}
    assert file.sizes({"input_0": (2, 3, 8, 8)}) == {"input_0": (2, 3, 8, 8)}
    for given, message in (
        (
            (1, 3, 8),
            "Expected 4 positive sizes for `input_0` of net, whose shape is [1, 3, 17, 19], but got [1, 3, 8].",
        ),
        ({"x": (1,)}, "Expected `input_shape` to name inputs of net (input_0), but got x."),
    ):
        with pytest.raises(InputMismatchError) as caught:
            file.sizes(given)  # type: ignore[arg-type]
        assert str(caught.value) == message


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    none, short, text = (tmp_path / name for name in ("none.mnn", "short.mnn", "text.mnn"))
    short.write_bytes(b"MNN")
    text.write_bytes(b"a text that is no network, " * 9)
    for path, message in (
        (none, f"Expected {none} to be a .mnn file, but it cannot be read (No such file or directory)."),
        (short, f"Expected {short} to be a whole .mnn file, but it has 3 bytes."),
        (text, f"Expected {text} to be a whole .mnn file, but it refers to data outside of it."),
    ):
        with pytest.raises(GraphError) as caught:
            read_mnn_file(path)
        assert str(caught.value) == message


def read_all(path: Path) -> None:
    """Read every attribute. A damaged file may be refused, by one error; nothing else may happen."""
    try:
        file = read_mnn_file(path)
        assert len(file.inputs) <= len(file.ops)
        for op in file.ops:
            assert conv_attrs(op, SOURCE, TARGET) is None or pool_attrs(op, SOURCE, TARGET) is None
    except GraphError as error:
        assert str(error).startswith(f"Expected {path} to be a whole .mnn file, but ")  # noqa: PT017 - not every file is refused


def test_damaged_files_end_in_one_error(path: Path, tmp_path: Path) -> None:
    whole, draw, damaged = path.read_bytes(), random.Random(0), tmp_path / "damaged.mnn"
    for _ in range(300):
        content = bytearray(whole[: draw.choice((len(whole), draw.randrange(8, len(whole))))])
        for _ in range(draw.randrange(1, 6)):
            place = draw.randrange(len(content) - 4)
            content[place : place + 4] = draw.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", draw.randbytes(4), b"\4\0\0\0"))
        damaged.write_bytes(content)
        read_all(damaged)


def test_parts_that_overlap_do_not_multiply(tmp_path: Path) -> None:
    """A vector of 20,000 tensors' names that are all one text of 60,000 characters: 1.2 GB of a file of 140 kB."""
    n, length = 20_000, 60_000
    vtable = struct.pack("<10H", 20, 8, *[0] * 7, 4)  # only field 7, the names, 4 bytes into the table
    table = struct.pack("<i", len(vtable)) + struct.pack("<I", 4)
    names_at = 4 + len(vtable) + len(table)
    text_at = names_at + 4 + 4 * n
    names = struct.pack("<I", n) + b"".join(struct.pack("<I", text_at - names_at - 4 - 4 * i) for i in range(n))
    path = tmp_path / "bomb.mnn"
    root = struct.pack("<I", 4 + len(vtable))
    path.write_bytes(root + vtable + table + names + struct.pack("<I", length) + b"x" * length)
    with pytest.raises(GraphError) as caught:
        read_mnn_file(path)
    assert str(caught.value) == f"Expected {path} to be a whole .mnn file, but parts of it overlap."
