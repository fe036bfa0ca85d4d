"""The tree of errors: what each class derives from, and its drawing in the module's docstring."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_nas import errors
from latency_nas.errors import short_repr

CLASSES: dict[str, type[BaseException]] = dict(inspect.getmembers(errors, inspect.isclass))
LEAVES = sorted(CLASSES.keys() - {"LatencyNASError"})


def _drawn_tree() -> dict[str, tuple[str, ...]]:
    """Each class of the drawing and its bases: its parent in the tree, then the class in brackets."""
    tree: dict[str, tuple[str, ...]] = {}
    path: list[str] = []
    for indent, name, builtin in re.findall(r"^ {4}([ │├└─]*)(\w+Error)(?:\((\w+)\))?", errors.__doc__ or "", re.M):
        path = path[: len(indent) // 4]
        tree[name] = tuple(base for base in (path[-1] if path else "Exception", builtin) if base)
        path.append(name)
    return tree


def test_all_names_every_class_and_one_function() -> None:
    assert errors.__all__ == [*sorted(CLASSES), "short_repr"]
    assert len(CLASSES) == 20


@pytest.mark.parametrize("name", LEAVES)
def test_error_is_one_of_ours_and_a_builtin_too(name: str) -> None:
    ancestors = CLASSES[name].__mro__
    builtins = [cls for cls in ancestors if cls.__module__ == "builtins"]
    assert errors.LatencyNASError in ancestors
    assert builtins[0] not in {Exception, BaseException, object}, "caught by `except Exception` alone"
    assert issubclass(builtins[0], Exception)
    assert CLASSES[name].__doc__


def test_drawing_is_the_real_tree() -> None:
    real = {name: tuple(base.__name__ for base in cls.__bases__) for name, cls in CLASSES.items()}
    assert _drawn_tree() == real


class _Unwritable:
    def __repr__(self) -> str:
        raise RuntimeError("no text for this")


def _nested(width: int, depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value] * width
    return value


NEVER_WRITTEN = 10**5000  # Python writes no integer of more than 4,300 digits as text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("SD855", "'SD855'"),
        (b"0.5", "b'0.5'"),
        (True, "True"),
        (-1.5, "-1.5"),
        (None, "None"),
        ((), "()"),
        ((1, -1), "(1, -1)"),
        ([1.0], "[1.0]"),
        ({"a": 1}, "{'a': 1}"),
        (10**40 - 1, "9" * 40),
        (1 - 10**39, "-" + "9" * 39),
        (10**40, "1" + "0" * 17 + "..." + "0" * 19),
        (-(10**40), "-1" + "0" * 16 + "..." + "0" * 19),
        (NEVER_WRITTEN, "a value with more digits than can be written"),
        (-NEVER_WRITTEN, "a value with more digits than can be written"),
        ("a" * 200, "'" + "a" * 97 + "..." + "a" * 98 + "'"),
        (tuple(range(8)), "(0, 1, 2, 3, 4, 5, 6, 7)"),
        (tuple(range(9)), "(0, 1, 2, 3, 4, 5, 6, 7, ...)"),
        ([[1]], "[[1]]"),
        ([[[1]]], "[[[...]]]"),
    ],
    ids=lambda value: str(value)[:12] if isinstance(value, str) else "",
)
def test_short_repr_is_short_and_the_usual_text_where_that_is_short(value: object, text: str) -> None:
    assert short_repr(value) == text


@pytest.mark.parametrize(
    "value",
    [
        "a" * 10**6,
        b"a" * 10**6,
        bytearray(10**6),
        ["a" * 10**6] * 100,
        ("a" * 10**6,) * 100,
        {"a" * 300 + str(number): "b" * 10**4 for number in range(100)},
        set(range(10**5)),
        range(NEVER_WRITTEN),
        np.ones(10**6),
        _nested(1, 10**5),
        _nested(2, 16),
        _nested(7, 16),
        _Unwritable(),
        [_Unwritable()],
    ],
    ids=[
        "text", "bytes", "bytearray", "texts", "tuple", "dict", "set", "range", "numpy", "deep", "wide 2", "wide 7",
        "unwritable", "unwritable in a list",
    ],
)  # fmt: skip
def test_short_repr_is_short_for_anything(value: object) -> None:
    assert 0 < len(short_repr(value)) < 2000


anything = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**100), 10**100),
        st.floats(),
        st.complex_numbers(),
        st.text(max_size=400),
        st.binary(max_size=400),
    ),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(max_size=300), inner),
    max_leaves=12,
)


@given(anything)
def test_short_repr_of_any_data_is_short(value: object) -> None:
    assert 0 < len(short_repr(value)) < 2000


@pytest.mark.parametrize(
    "value",
    [
        [NEVER_WRITTEN],
        (1, -NEVER_WRITTEN),
        {NEVER_WRITTEN: 1},
        {1: NEVER_WRITTEN},
        {NEVER_WRITTEN},
        [[NEVER_WRITTEN]],
    ],
    ids=["list", "tuple", "key", "value", "set", "list in a list"],
)
def test_short_repr_never_fails_on_a_number_within(value: object) -> None:
    assert short_repr(value) == "a value with more digits than can be written"
