"""`OpSpace`: the ops and kernels of a file in MMT's grammar or in this library's."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from latency_nas.errors import MeasureError, OpSpaceError
from latency_nas.kernel import Kernel
from latency_nas.measure.space.mmt_grammar import expand_mmt
from latency_nas.measure.space.op import Op
from latency_nas.measure.space.own_grammar import expand_own
from latency_nas.measure.space.yaml_file import read_yaml

__all__ = ["OpSpace", "kernels_yaml", "read_space", "with_batch"]

_MAX_OPS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OpSpace:
    """The ops and kernels to be metered.

    Args:
        items: Each op and kernel once, in the file's order.
        source: Name of the file in a datasheet.
    """

    items: tuple[Op | Kernel, ...]
    source: str = ""

    def check_imports(self, *, allow: Sequence[str] = ()) -> None:
        """Import every class once.

        Args:
            allow: Packages that may be imported beside `ALLOWED_PACKAGES`. No file can widen the list.

        Raises:
            UnsafeOpError: if one is of a package that is not allowed.
            OpSpaceError: if one cannot be imported.
        """
        for item in {(item.module, item.name): item for item in self.items if isinstance(item, Op)}.values():
            item.find_class(allow=allow)

    def __len__(self) -> int:
        return len(self.items)


def read_space(path: str | os.PathLike[str]) -> OpSpace:
    """Read an op space without importing its classes.

    A file with the key ``latency_nas`` is in this library's grammar, any other in MMT's.

    Raises:
        FileNotFoundError: if there is no such file.
        OpSpaceError: if it is no YAML, is too large when its aliases are expanded, or does not follow the grammar; the
            message names the file, the path in it, what was expected and what was found.
    """
    source = Path(path)
    data = read_yaml(source)
    if not isinstance(data, dict) or not data:
        raise OpSpaceError(f"Expected {source} to be a mapping of Python modules to classes, but got {_kind(data)}.")
    expand = expand_own if "latency_nas" in data else expand_mmt
    return OpSpace(items=tuple(_distinct(source, expand(source, data))), source=source.name)


def _kind(data: object) -> str:
    return "an empty file" if not data else type(data).__name__


def _distinct(source: Path, items: Iterable[Op | Kernel]) -> Iterator[Op | Kernel]:
    seen: set[str] = set()
    for count, item in enumerate(items):
        if count == _MAX_OPS:
            raise OpSpaceError(f"Expected at most {_MAX_OPS:,} ops in {source}, but there are more.")
        if str(item) not in seen:
            seen.add(str(item))
            yield item


def kernels_yaml(kernels: Iterable[Kernel], comment: str) -> str:
    """The text of an op space of these kernels, in this library's grammar."""
    lines = [f"# {comment}", "latency_nas: 1", "kernels:", *(f"  - {kernel.key!r}" for kernel in kernels)]
    return "\n".join(lines) + "\n"


def with_batch(space: OpSpace, batch: int) -> OpSpace:
    """The same space with a larger batch: the first size of every shape is multiplied by `batch`."""
    if batch < 1:
        raise MeasureError(f"Expected `batch` to be a positive integer, but got {batch}.")

    def scaled(shape: tuple[int, ...]) -> tuple[int, ...]:
        return (batch * shape[0], *shape[1:]) if shape else shape

    items: list[Op | Kernel] = []
    for item in space.items:
        if isinstance(item, Op):
            items.append(replace(item, input_shape=scaled(item.input_shape)))
        else:
            shapes = [tuple(map(scaled, side)) for side in (item.inputs, item.outputs)]
            items.append(replace(item, inputs=shapes[0], outputs=shapes[1]))
    return replace(space, items=tuple(items))
