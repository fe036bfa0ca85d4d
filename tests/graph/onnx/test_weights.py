"""An ONNX file without its large weights: against onnx's own parser, which reads all of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from latency_nas.errors import GraphError
from latency_nas.graph.onnx.reader import read_onnx
from latency_nas.graph.onnx.weights import read_without_weights, without_weights


@pytest.fixture
def model() -> onnx.ModelProto:
    """Three products and a bias of few numbers; an integer of as many numbers as the last product's weights."""
    large = np.linspace(0, 1, 65536, dtype=np.float32).reshape(256, 256)
    small = np.linspace(0, 1, 1024, dtype=np.float32).reshape(256, 4)
    kept = {"few": np.ones(4, np.float32), "integers": np.ones(1024, np.int64)}
    inputs = [helper.make_tensor_value_info("x", 1, [1, 256])]
    weights = [numpy_helper.from_array(large, "large"), numpy_helper.from_array(small, "small")]
    listed = onnx.TensorProto(name="listed", data_type=1, dims=[256, 256], float_data=large.reshape(-1).tolist())
    nodes = [helper.make_node("MatMul", pair, [out]) for pair, out in ((("x", "large"), "h"), (("h", "listed"), "i"))]
    nodes += [helper.make_node("MatMul", ("i", "small"), ["j"]), helper.make_node("Add", ("j", "few"), ["y"])]
    outputs = [helper.make_tensor_value_info("y", 1, [1, 4])]
    weights += [listed, *(numpy_helper.from_array(array, name) for name, array in kept.items())]
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs, weights, doc_string="d" * 200))


def test_only_large_values_are_left_out(model: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    smaller = onnx.ModelProto.FromString(without_weights(path.read_bytes()))
    assert read_without_weights(path) == without_weights(path.read_bytes())
    for position, field in enumerate(("raw_data", "raw_data", "float_data")):
        model.graph.initializer[position].ClearField(field)
    assert smaller == model
    assert [node.op for node in read_onnx(path).nodes] == ["linear"] * 3


@pytest.mark.parametrize("field", ["raw_data", "float_data"])
def test_one_of_many_equal_values_is_kept(field: str) -> None:
    value = np.full(512, 2.5, np.float32)
    given = value.tobytes() if field == "raw_data" else value.tolist()
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[512], **{field: given})
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    ends = [helper.make_tensor_value_info(name, 1, [1, 512]) for name in "xy"]
    model = helper.make_model(helper.make_graph(nodes, "g", ends[:1], ends[1:], [tensor]))
    (left,) = onnx.ModelProto.FromString(without_weights(model.SerializeToString())).graph.initializer
    assert left.dims == [512]
    assert getattr(left, field) == given[: 4 if field == "raw_data" else 1]


def test_what_is_cut_inside_its_weights_is_refused(model: onnx.ModelProto, tmp_path: Path) -> None:
    data, path = model.SerializeToString(), tmp_path / "net.onnx"
    place = data.index(bytes(np.linspace(0, 1, 65536, dtype=np.float32)))  # the values of the first weights
    for end in (place + 50_000, len(data) - 1):
        assert without_weights(data[:end]) == data[:end]
        path.write_bytes(data[:end])
        with pytest.raises(GraphError) as caught:
            read_onnx(path)
        assert str(caught.value) == f"Expected {path} to be an ONNX model, but it is truncated or of another format."


@pytest.mark.parametrize("data", [b"", b"\xff" * 20, b"\x3a\xff\xff\xff\xff\x0f", bytes(range(256))])
def test_what_is_no_model_is_left_as_it_is(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    assert without_weights(data) == read_without_weights(path) == data
