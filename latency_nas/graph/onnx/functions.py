"""Replaces calls of an ONNX model's own functions by the nodes of the functions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import inliner

from latency_nas.errors import GraphError

__all__ = ["write_out"]

_MAX_NODES = 50_000  # functions that call functions grow exponentially
_MAX_DEPTH = 100

_Key = tuple[str, str, str]  # domain, name and overload of a function


def write_out(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model without calls of its own functions. Those of another opset are converted, where onnx can do that.

    Args:
        proto: Model.
        name: Name of its file, for messages.

    Raises:
        GraphError: if functions call themselves, or would be more than 50,000 nodes, or onnx cannot write them out.
    """
    _check_size(proto, name)
    try:
        result: onnx.ModelProto = inliner.inline_local_functions(proto)
    except Exception as error:  # errors of onnx and of its checker
        raise GraphError(
            f"Expected functions of {name} that can be written out, but onnx {onnx.__version__} finds: "
            f"{next(iter(str(error).strip().splitlines()), type(error).__name__)}"
        ) from error
    if not result.functions:
        return result
    try:
        return inliner.inline_local_functions(proto, convert_version=True)
    except Exception:  # the calls that are left become ops that are not known, under their own names
        return result


def _check_size(proto: onnx.ModelProto, name: str) -> None:
    functions = {(item.domain, item.name, item.overload): item.node for item in proto.functions}
    sizes: dict[_Key, int] = {}
    open_calls: set[_Key] = set()

    def size(nodes: Iterable[onnx.NodeProto]) -> int:
        total = 0
        for node in _all_nodes(nodes):
            key = (node.domain, node.op_type, node.overload)
            total += called(key) if key in functions else 1
        return total

    def called(key: _Key) -> int:
        if len(open_calls) == _MAX_DEPTH:
            raise GraphError(
                f"Expected functions of {name} that are at most {_MAX_DEPTH} deep, but `{key[1]}` is deeper."
            )
        if key in open_calls:
            raise GraphError(f"Expected functions of {name} that do not call themselves, but `{key[1]}` does.")
        if key not in sizes:
            open_calls.add(key)
            sizes[key] = min(size(functions[key]), _MAX_NODES + 1)
            open_calls.discard(key)
        return sizes[key]

    if size(proto.graph.node) > _MAX_NODES:
        raise GraphError(f"Expected the functions of {name} to write out at most {_MAX_NODES} nodes, but they do more.")


def _all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _all_nodes(graph.node)
