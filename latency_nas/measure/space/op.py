"""`Op`: a module with one set of arguments and one input shape; it can be constructed and read as a graph."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from latency_nas.errors import GraphError, IllegalOpError, InputMismatchError, OpSpaceError, UnsafeOpError, short_repr
from latency_nas.graph import OpGraph
from latency_nas.kernel import Shape
from latency_nas.measure.space.allow_list import allowed_packages, is_allowed, is_python_path

__all__ = ["Op"]

_MAX_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One op of a space.

    Args:
        module: Python module that holds the class.
        name: Name of the class.
        input_shape: Shape of its one input.
        arguments: Arguments of its constructor: plain data, so that a session's file can hold them.
        origin: File that the op is from, and the path in it.

    Raises:
        OpSpaceError: if module or name is no Python name, or an argument is no plain data.
    """

    module: str
    name: str
    input_shape: Shape
    arguments: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    def __post_init__(self) -> None:
        if not (is_python_path(self.module) and is_python_path(self.name)):
            raise OpSpaceError(
                f"{self.origin}: Expected the names of a Python module and of its class, "
                f"but got {short_repr(self.module)} and {short_repr(self.name)}."
            )
        if not isinstance(self.arguments, Mapping):
            raise OpSpaceError(
                f"{self.origin}: Expected `arguments` to be a mapping, but got {short_repr(self.arguments)}."
            )
        for name, value in self.arguments.items():
            if not _is_plain(value):
                raise OpSpaceError(
                    f"{self.origin}: Expected `{name}` to be plain data (numbers, texts, lists, mappings of texts), "
                    f"but got {short_repr(value)}."
                )

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.module}.{self.name}({arguments}) on {list(self.input_shape)}"

    def find_class(self, *, allow: Sequence[str] = ()) -> type[Any]:
        """Import the class.

        Args:
            allow: Packages that may be imported beside `ALLOWED_PACKAGES`.

        Raises:
            UnsafeOpError: if the class is named in, or defined in, a package that is not allowed.
            OpSpaceError: if the module cannot be imported, or has no such subclass of torch's `Module`.
        """
        packages = allowed_packages(allow)
        self._check_allowed(self.module, packages)
        try:
            module = importlib.import_module(self.module)
        except Exception as error:  # a user's module may raise anything
            reason = f"{type(error).__name__}: {error}"
            raise OpSpaceError(
                f"{self.origin}: Expected a Python module that imports, but `import {self.module}` fails ({reason}). "
                f"Is the folder that holds it on the PYTHONPATH?"
            ) from error
        found = getattr(module, self.name, None)
        if not callable(found):
            raise OpSpaceError(f"{self.origin}: Expected {self.module} to have a class {self.name}, but it has none.")
        from torch import nn

        if not (isinstance(found, type) and issubclass(found, nn.Module)):
            kind = "another class" if isinstance(found, type) else f"a {type(found).__name__}"
            raise OpSpaceError(
                f"{self.origin}: Expected {self.module}.{self.name} to be a subclass of torch.nn.Module, "
                f"but it is {kind}."
            )
        self._check_allowed(found.__module__, packages)  # an allowed module may hold classes of other packages
        return found

    def _check_allowed(self, module: str, packages: Sequence[str]) -> None:
        if not is_allowed(module, packages):
            raise UnsafeOpError(
                f"{self.origin}: Expected {self.module}.{self.name} to be a class of an allowed package "
                f"({', '.join(packages)}), but it is of {module}. Importing a module and making its classes runs their "
                f"code. If you trust it, say so: `--allow {module}` on the command line, allow=[{module!r}] in Python."
            )

    def read(self, *, allow: Sequence[str] = ()) -> OpGraph:
        """Construct the module and read its graph. Its weights are on the meta device, where they take no memory.

        Args:
            allow: Packages that may be imported beside `ALLOWED_PACKAGES`.

        Raises:
            UnsafeOpError: if the class is of a package that is not allowed.
            OpSpaceError: if the class cannot be found.
            IllegalOpError: if the constructor or the forward fails.
            GraphError: if the module cannot be read.
        """
        import torch

        from latency_nas.graph.torch.reader import read_torch

        make = self.find_class(allow=allow)
        try:
            module = _make(make, self.arguments)
        except Exception as error:  # a user's constructor may raise anything
            raise IllegalOpError(f"{self}: the constructor raises {type(error).__name__}: {_short(error)}") from error
        if not isinstance(module, torch.nn.Module):
            raise OpSpaceError(
                f"{self.origin}: Expected {self.module}.{self.name} to make a torch module, "
                f"but got {short_repr(module)}."
            )
        try:
            with _silent_torch():
                return read_torch(module, input_shape=self.input_shape)
        except InputMismatchError as error:
            raise IllegalOpError(f"{self}: {_short(error)}") from error
        except GraphError as error:
            raise GraphError(f"{self}: {error}") from error


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):  # JSON turns other keys into texts
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return value is None or isinstance(value, bool | int | float | str)


@contextmanager
def _silent_torch() -> Iterator[None]:
    """Silence the traceback that fake tensors log in addition to raising the error."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


def _make(make: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Construct a module on the meta device, or with real weights where the constructor reads their values."""
    import torch

    try:
        with torch.device("meta"):
            return make(**arguments)
    except (NotImplementedError, RuntimeError):
        return make(**arguments)


def _short(error: Exception) -> str:
    text = (str(error).strip().splitlines() or ["no message"])[0]
    return text if len(text) <= _MAX_CHARACTERS else text[:_MAX_CHARACTERS] + "…"
