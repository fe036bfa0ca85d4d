"""The yardstick: a small fixed network whose time shows how fast the machine is at the moment.

It runs before and after everything that is measured. The ratio of a time to the yardstick's does not depend on what
slowed both. Never change the yardstick: tables store its time.
"""

from __future__ import annotations

from pathlib import Path

from latency_nas.engine import Engine
from latency_nas.graph import Node, OpGraph, Value
from latency_nas.kernel import AttrValue

__all__ = ["write_yardstick", "yardstick_graph"]

# (channels out, kernel, stride, group): dense, depthwise and pointwise convolutions, as in mobile networks
_LAYERS = (
    (32, 3, 2, 1),
    (32, 3, 1, 32),
    (64, 1, 1, 1),
    (64, 5, 2, 64),
    (96, 1, 1, 1),
    (48, 3, 1, 1),
    (48, 3, 1, 48),
    (160, 1, 2, 1),
)
_INPUT = (1, 3, 64, 64)


def yardstick_graph() -> OpGraph:
    """The yardstick as a graph: eight convolutions, 16 million multiply-accumulates."""
    values, nodes, shape = [Value(shape=_INPUT)], [], _INPUT
    for number, (channels, kernel, stride, group) in enumerate(_LAYERS):
        shape_in, shape = shape, (1, channels, -(-shape[2] // stride), -(-shape[3] // stride))
        weight = Value(shape=(channels, shape_in[1] // group, kernel, kernel), constant=True)
        attrs: dict[str, AttrValue] = {
            "kernel": (kernel, kernel),
            "stride": (stride, stride),
            "pad": (kernel // 2,) * 4,
            "dilation": (1, 1),
            "group": group,
            "bias": 1,
        }
        source = len(values) - 1
        values += [weight, Value(shape=shape)]
        inputs, outputs = (source, len(values) - 2), (len(values) - 1,)
        nodes.append(Node(name=f"yardstick_{number}", op="conv2d", inputs=inputs, outputs=outputs, attrs=attrs))
    return OpGraph(values=tuple(values), nodes=tuple(nodes), inputs=(0,), outputs=(len(values) - 1,))


def write_yardstick(engine: Engine, folder: Path) -> Path:
    """Write the yardstick as a file that an engine takes; its path."""
    return engine.write(yardstick_graph(), folder / f"yardstick{engine.suffixes[0]}")
