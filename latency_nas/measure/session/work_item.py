"""`WorkItem`: what a session meters, which is an op of a space, a kernel, a whole network, or an engine's file."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from latency_nas.engine import Engine, Target
from latency_nas.errors import MeasureError, SessionError, short_repr
from latency_nas.graph import OpGraph
from latency_nas.graph.graph_json import format_graph, parse_graph
from latency_nas.kernel import Kernel
from latency_nas.measure.kernel_graph import kernel_graph
from latency_nas.measure.space import Op

__all__ = ["Kind", "WorkItem"]

Kind = Literal["op", "kernel", "network", "file"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkItem:
    """Something to meter, as text, so that a session's file holds all that is needed to continue.

    Args:
        kind: What it is.
        label: Name in messages.
        text: Op as JSON, key of the kernel, graph of the network, or path of the file.
    """

    kind: Kind
    label: str
    text: str

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise SessionError(f"Expected a work item to be {', '.join(get_args(Kind))}, but got {self.kind!r}.")

    @classmethod
    def of(cls, item: Op | Kernel | OpGraph | str | os.PathLike[str], label: str = "") -> WorkItem:
        """The work item of an op, a kernel, a network's graph or a file.

        Raises:
            MeasureError: if it is something else, or the file is not there.
        """
        if isinstance(item, str | os.PathLike):
            path = Path(item)
            if not path.is_file():
                raise MeasureError(f"Expected a graph, or a model's file to measure, but there is no file {path}.")
            return cls(kind="file", label=label or path.name, text=str(path.resolve()))
        if isinstance(item, Op):
            return cls(kind="op", label=label or str(item), text=json.dumps(asdict(item)))
        if isinstance(item, Kernel):
            return cls(kind="kernel", label=label or item.key, text=item.key)
        if not isinstance(item, OpGraph):
            raise MeasureError(
                f"Expected a graph (`read_model` gives that of a module) or a model's file to measure, "
                f"but got {short_repr(item)}."
            )
        return cls(kind="network", label=label or f"a network of {len(item.nodes)} layers", text=format_graph(item))

    def graph(self, engine: Engine, target: Target, *, allow: Sequence[str] = ()) -> OpGraph:
        """Its graph.

        Args:
            engine: Engine that is to run the kernel, if the work item is one.
            target: What the engine's rules depend on.
            allow: Packages that an op's class may be of beside `ALLOWED_PACKAGES`.

        Raises:
            UnsafeOpError: if an op's class is of a package that is not allowed.
            OpSpaceError: if an op's module cannot be imported, or its arguments make no op.
            GraphError: if a module cannot be read.
            MeasureError: if no network is known that runs the kernel, or the work item is a file.
        """
        if self.kind == "kernel":
            return kernel_graph(Kernel.parse(self.text), engine, target)
        if self.kind == "network":
            return parse_graph(self.text)
        if self.kind == "file":
            raise MeasureError(f"Expected a graph to time the ops of, but got the file {self.text}.")
        fields = json.loads(self.text)
        return Op(**{**fields, "input_shape": tuple(fields["input_shape"])}).read(allow=allow)
