"""The op-space grammar of this library: every parameter free, or tied to another by name.

    latency_nas: 1
    ops:
      - class: torch.nn.Conv2d
        parameters:
          in_channels: [16, 32]
          out_channels: {range: [16, 64, 16]}                  # 16, 32, 48, 64
          kernel_size: [3, 5]
          padding: {tied_to: kernel_size, values: [1, 2]}      # 1 with 3, 2 with 5
          groups: {same_as: in_channels}
        sizes: {size: [28, 14]}                                # free too, but no constructor argument
        input: [1, in_channels, size, size]
    kernels:
      - relu [1,16,28,28] -> [1,16,28,28] dtype=fp32

A value that is no list is a parameter with one value; a list as a value is written ``[[2, 1]]``. Without ``input``,
the shape is derived: ``[batch, channels, size, size]`` for a module with ``in_channels``, ``num_features`` or
``num_channels``, ``[batch, in_features]`` for one with ``in_features``; ``size`` and ``batch`` (default 1) are then
taken from ``sizes``. ``kernels`` lists kernels by the keys of a table's rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, TypeAdapter

from latency_nas.errors import KernelError, OpSpaceError
from latency_nas.kernel import Kernel
from latency_nas.measure.space.op import Op
from latency_nas.measure.space.validation import validated

__all__ = ["expand_own"]

_MAX_VALUES = 100_000
_CHANNELS = ("in_channels", "num_features", "num_channels")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class _Range(_Strict):
    range: Annotated[list[StrictInt], Field(min_length=2, max_length=3)]


class _Tied(_Strict):
    tied_to: str
    values: Annotated[list[Any], Field(min_length=1)]


class _Same(_Strict):
    same_as: str


class _OpEntry(_Strict):
    class_name: str = Field(alias="class", pattern=r"^\w+(\.\w+)+$")
    parameters: dict[str, Any] = {}
    sizes: dict[str, Any] = {}
    input: Annotated[list[StrictInt | str], Field(min_length=1, max_length=8)] | None = None


class _File(_Strict):
    latency_nas: Literal[1]
    ops: list[_OpEntry] = []
    kernels: list[str] = []


_FILE = TypeAdapter(_File)
_KINDS: dict[str, TypeAdapter[Any]] = {
    "range": TypeAdapter(_Range),
    "tied_to": TypeAdapter(_Tied),
    "same_as": TypeAdapter(_Same),
}


def _parameter(value: Any, path: Path, where: tuple[str, ...]) -> list[Any] | _Tied | _Same:
    if isinstance(value, dict):
        kind = next((kind for kind in _KINDS if kind in value), None)
        if kind is None:
            raise OpSpaceError(
                f"{path}: {'.'.join(where)}: Expected values, or a mapping with `range`, `tied_to` or `same_as`, "
                f"but got the keys {', '.join(map(str, value)) or 'none'}."
            )
        checked = validated(_KINDS[kind], value, path, where)
        return _numbers(checked, path, where) if isinstance(checked, _Range) else checked
    values = value if isinstance(value, list) else [value]
    if not values:
        raise OpSpaceError(f"{path}: {'.'.join(where)}: Expected at least one value, but got an empty list.")
    return values


def _numbers(item: _Range, path: Path, where: tuple[str, ...]) -> list[Any]:
    first, last, step = (*item.range, 1)[:3]
    if step < 1 or last < first or (last - first) // step >= _MAX_VALUES:
        raise OpSpaceError(
            f"{path}: {'.'.join(where)}: Expected `range` to be [first, last] or [first, last, step] that rises in "
            f"steps of at least 1 to at most {_MAX_VALUES:,} values, but got {item.range}."
        )
    return list(range(first, last + 1, step))


def _combinations(entry: _OpEntry, path: Path, where: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Every assignment of values to the parameters and sizes of an entry."""
    parsed = {
        name: _parameter(value, path, (*where, group, name))
        for group, items in (("parameters", entry.parameters), ("sizes", entry.sizes))
        for name, value in items.items()
    }
    free = {name: value for name, value in parsed.items() if isinstance(value, list)}
    for name, item in parsed.items():
        if isinstance(item, list):
            continue
        other = item.tied_to if isinstance(item, _Tied) else item.same_as
        if other not in free:
            raise OpSpaceError(
                f"{path}: {'.'.join((*where, name))}: Expected to be tied to a free parameter or size "
                f"({', '.join(free) or 'there is none'}), but got {other!r}."
            )
        if isinstance(item, _Tied) and len(item.values) != len(free[other]):
            raise OpSpaceError(
                f"{path}: {'.'.join((*where, name))}: Expected a value for each of the {len(free[other])} of "
                f"`{other}`, but got {len(item.values)}."
            )
    for picks in product(*(range(len(values)) for values in free.values())):
        index = dict(zip(free, picks, strict=True))
        chosen = {}
        for name, item in parsed.items():
            if isinstance(item, list):
                chosen[name] = item[index[name]]
            elif isinstance(item, _Tied):
                chosen[name] = item.values[index[item.tied_to]]
            else:
                chosen[name] = free[item.same_as][index[item.same_as]]
        yield chosen


def _derived_input(entry: _OpEntry, chosen: Mapping[str, Any], path: Path, where: tuple[str, ...]) -> list[Any]:
    if "in_features" in entry.parameters:
        return [chosen.get("batch", 1), "in_features"]
    channels = next((name for name in _CHANNELS if name in entry.parameters), None)
    if channels is None or "size" not in entry.sizes:
        raise OpSpaceError(
            f"{path}: {'.'.join(where)}: Expected `input`, a shape of numbers and names of parameters or sizes; it is "
            f"derived only from `in_features`, or from one of {', '.join(_CHANNELS)} and a `size` in `sizes`."
        )
    return [chosen.get("batch", 1), channels, "size", "size"]


def _shape(entry: _OpEntry, chosen: Mapping[str, Any], path: Path, where: tuple[str, ...]) -> tuple[int, ...]:
    sizes = []
    for item in entry.input or _derived_input(entry, chosen, path, where):
        size = chosen.get(item) if isinstance(item, str) else item
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise OpSpaceError(
                f"{path}: {'.'.join((*where, 'input'))}: Expected positive integers, or names of parameters or sizes "
                f"that are, but `{item}` is {size!r}."
            )
        sizes.append(size)
    return tuple(sizes)


def expand_own(path: Path, data: Mapping[str, Any]) -> Iterator[Op | Kernel]:
    """Every op and kernel of the file.

    Raises:
        OpSpaceError: if the file does not follow the grammar.
    """
    file = validated(_FILE, data, path)
    for number, entry in enumerate(file.ops):
        where = ("ops", str(number))
        module, _, name = entry.class_name.rpartition(".")
        for chosen in _combinations(entry, path, where):
            arguments = {key: value for key, value in chosen.items() if key in entry.parameters}
            yield Op(
                module=module, name=name, input_shape=_shape(entry, chosen, path, where), arguments=arguments,
                origin=f"{path}: ops.{number}",
            )  # fmt: skip
    for number, key in enumerate(file.kernels):
        try:
            yield Kernel.parse(key)
        except KernelError as error:
            raise OpSpaceError(f"{path}: kernels.{number}: {error}") from error
