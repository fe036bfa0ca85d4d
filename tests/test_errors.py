"""The tree of errors: what each class derives from, and its drawing in the module's docstring."""

from __future__ import annotations

import inspect
import re

import pytest

from latency_nas import errors

CLASSES: dict[str, type[BaseException]] = dict(inspect.getmembers(errors, inspect.isclass))
LEAVES = sorted(CLASSES.keys() - {"LatencyNASError"})


def _drawn_tree() -> dict[str, tuple[str, ...]]:
    """Each class of the drawing and its bases: the class that it hangs from, then what stands in its brackets."""
    tree: dict[str, tuple[str, ...]] = {}
    path: list[str] = []
    for indent, name, builtin in re.findall(r"^ {4}([ │├└─]*)(\w+Error)(?:\((\w+)\))?", errors.__doc__ or "", re.M):
        path = path[: len(indent) // 4]
        tree[name] = tuple(base for base in (path[-1] if path else "Exception", builtin) if base)
        path.append(name)
    return tree


def test_all_names_every_class_and_nothing_else() -> None:
    assert errors.__all__ == sorted(CLASSES)
    assert len(CLASSES) == 12


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
