"""The grammar of MMT's ``ops.yaml``, as mnn-meter 2.2.0 reads it, with its surprises.

1. A class's keys are constructor arguments, each with a list of values; every combination of values is an op.
2. ``input_shape`` is a list of shapes; the i-th is used with the i-th value of the *first* key only.
3. ``input_shape`` ends the list of keys: a key after it is passed to the constructor as None.
4. ``no_params: true`` constructs the class without arguments, once for each shape.
5. A module whose value is the text ``None`` is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, StrictInt, TypeAdapter

from latency_nas.errors import OpSpaceError
from latency_nas.measure.space.op import Op
from latency_nas.measure.space.validation import validated

__all__ = ["expand_mmt"]

_Size = Annotated[StrictInt, Field(ge=1)]
_Shape = Annotated[list[_Size], Field(min_length=1, max_length=8)]
_Values = Annotated[list[Any], Field(min_length=1)]
_SHAPES = TypeAdapter(Annotated[list[_Shape], Field(min_length=1)])
_ARGUMENTS = TypeAdapter(dict[str, _Values])
_FILE = TypeAdapter(dict[str, dict[str, dict[str, Any]] | None])


def _classes(path: Path, data: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    named = {module: classes for module, classes in data.items() if classes != "None"}
    for module, classes in validated(_FILE, named, path).items():
        for name, keys in (classes or {}).items():
            yield module, name, keys


def expand_mmt(path: Path, data: Mapping[str, Any]) -> Iterator[Op]:
    """Every op of the file, in MMT's order.

    Raises:
        OpSpaceError: if the file does not follow the grammar.
    """
    for module, name, keys in _classes(path, data):
        where = (module, name)
        if "input_shape" not in keys:
            raise OpSpaceError(f"{path}: {'.'.join(where)}: Expected a key `input_shape` with a list of shapes.")
        shapes = [tuple(shape) for shape in validated(_SHAPES, keys["input_shape"], path, (*where, "input_shape"))]
        origin = f"{path}: {'.'.join(where)}"
        if keys.get("no_params", False):
            for shape in shapes:
                yield Op(module=module, name=name, input_shape=shape, origin=origin)
            continue
        names = list(keys)[: list(keys).index("input_shape")]
        after = dict.fromkeys(list(keys)[len(names) + 1 :])
        if not names:
            raise OpSpaceError(
                f"{origin}: Expected `input_shape` to follow the parameters that it goes with, but it is first. "
                f"For a class without parameters write `no_params: true`."
            )
        values = validated(_ARGUMENTS, {key: keys[key] for key in names}, path, where)
        if len(shapes) < len(values[names[0]]):
            raise OpSpaceError(
                f"{origin}.input_shape: Expected a shape for each of the {len(values[names[0]])} values of "
                f"`{names[0]}`, the first key, but got {len(shapes)}."
            )
        for picked in product(*(enumerate(values[key]) for key in names)):
            arguments = dict(zip(names, (value for _, value in picked), strict=True)) | after
            shape = shapes[picked[0][0]]
            yield Op(module=module, name=name, input_shape=shape, arguments=arguments, origin=origin)
