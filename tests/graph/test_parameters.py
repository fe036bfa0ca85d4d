"""Elements of parameters that views show, against torch's own memory."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from latency_nas.engine import fuse
from latency_nas.graph import Node, OpGraph, Value
from latency_nas.graph.graph_json import format_graph, parse_graph
from latency_nas.graph.parameters import ParameterPart, count_elements
from latency_nas.graph.torch.reader import read_torch


@st.composite
def views(draw: st.DrawFn) -> list[Tensor]:
    """Some views of one tensor whose elements are their own places."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    whole = torch.arange(torch.Size(sizes).numel()).reshape(sizes)
    made = []
    for _ in range(draw(st.integers(1, 3))):
        view = whole
        for _ in range(draw(st.integers(0, 3))):
            axis = draw(st.integers(0, view.dim() - 1))
            match draw(st.sampled_from(("slice", "transpose", "expand", "step"))):
                case "slice":
                    start = draw(st.integers(0, view.shape[axis] - 1))
                    view = view.narrow(axis, start, draw(st.integers(1, view.shape[axis] - start)))
                case "transpose":
                    view = view.transpose(axis, 0)
                case "expand":
                    view = view.unsqueeze(0).expand(2, *view.shape)
                case "step":
                    view = view[::2]
        made.append(view)
    return made


@given(views())
@settings(deadline=None, max_examples=300)
def test_distinct_elements_are_counted(drawn: list[Tensor]) -> None:
    parts = [ParameterPart.view("w", view.shape, view.stride(), int(view.storage_offset())) for view in drawn]
    assert count_elements(parts) == len({element for view in drawn for element in view.reshape(-1).tolist()})


@given(st.permutations(range(4)))
@settings(deadline=None)
def test_all_elements_are_spelt_alike_in_any_order_of_axes(order: list[int]) -> None:
    whole = torch.empty(2, 3, 4, 5)
    view = whole.permute(order).unsqueeze(0).expand(7, *(whole.shape[axis] for axis in order))
    assert ParameterPart.view("w", view.shape, view.stride(), 0) == ParameterPart("w", (120,))


def test_windows_that_overlap_count_their_elements_once() -> None:
    windows = torch.arange(10).unfold(0, 4, 2)
    assert count_elements([ParameterPart.view("w", windows.shape, windows.stride(), 0)]) == 10


def test_nothing_has_no_elements() -> None:
    assert count_elements([]) == 0
    assert count_elements([ParameterPart.view("w", (0, 3), (3, 1), 0)]) == 0


def test_a_graph_that_does_not_know_its_parameters_says_so() -> None:
    """A call of it has no count, rather than none."""
    graph = read_torch(torch.nn.Linear(4, 3), input_shape=(1, 4))
    assert sum(call.n_params or 0 for call in fuse(graph, "MNN")) == 15
    bare = parse_graph(format_graph(graph))
    assert {call.n_params for call in fuse(bare, "MNN") if call.nodes} == {None}


def test_what_no_kernel_carries_out_counts_for_the_next_one() -> None:
    """A concatenation is a view in MNN: whoever reads it copies."""
    token = Value(shape=(1, 1, 4), constant=True, parts=(ParameterPart("token", (4,)),))
    values = (Value(shape=(1, 2, 4)), token, Value(shape=(1, 3, 4)), Value(shape=(1, 3, 4)))
    nodes = (
        Node(name="/concat", op="concat", inputs=(1, 0), outputs=(2,), attrs={"axis": 1}),
        Node(name="/softmax", op="softmax", inputs=(2,), outputs=(3,), attrs={"axis": 2}),
    )
    calls = fuse(OpGraph(values=values, nodes=nodes, inputs=(0,), outputs=(3,)), "MNN")
    assert "/concat" not in [name for call in calls for name in call.nodes]
    assert [call.n_params for call in calls] == [4, *[0] * (len(calls) - 1)]
