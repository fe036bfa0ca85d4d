"""`Op`: one module with one set of arguments and one input shape, and how its graph comes about."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from latency_nas.errors import GraphError, IllegalOpError, InputMismatchError, OpSpaceError, shown
from latency_nas.graph import OpGraph
from latency_nas.kernel import Shape

__all__ = ["Op"]

_N_SHOWN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One op of a space.

    Args:
        module: the Python module that holds the class.
        name: of the class.
        input_shape: of its one input.
        arguments: of its constructor; None to construct it without any.
        origin: the file, and the path in it.
    """

    module: str
    name: str
    input_shape: Shape
    arguments: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    def __str__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"{self.module}.{self.name}({arguments}) on {list(self.input_shape)}"

    def find_class(self) -> type[Any]:
        """Import the class.

        Raises:
            OpSpaceError: if the module does not import or has no such class.
        """
        try:
            module = importlib.import_module(self.module)
        except Exception as error:  # whatever a user's module does when it is imported
            reason = f"{type(error).__name__}: {error}"
            raise OpSpaceError(
                f"{self.origin}: Expected a Python module that imports, but `import {self.module}` fails ({reason}). "
                f"Is the folder that holds it on the PYTHONPATH?"
            ) from error
        found = getattr(module, self.name, None)
        if not callable(found):
            raise OpSpaceError(f"{self.origin}: Expected {self.module} to have a class {self.name}, but it has none.")
        return found  # type: ignore[no-any-return]

    def read(self) -> OpGraph:
        """Construct the module and read its graph; its weights are made on the meta device and cost nothing.

        Raises:
            OpSpaceError: if the class cannot be found.
            IllegalOpError: if the constructor or the forward refuses.
            GraphError: if the module cannot be read.
        """
        import torch

        from latency_nas.graph.torch_reader import read_torch

        make = self.find_class()
        try:
            module = _make(make, self.arguments)
        except Exception as error:  # whatever a user's constructor raises
            raise IllegalOpError(f"{self}: the constructor raises {type(error).__name__}: {_short(error)}") from error
        if not isinstance(module, torch.nn.Module):
            raise OpSpaceError(
                f"{self.origin}: Expected {self.module}.{self.name} to make a torch module, but got {shown(module)}."
            )
        try:
            with _silent_torch():
                return read_torch(module, input_shape=self.input_shape)
        except InputMismatchError as error:
            raise IllegalOpError(f"{self}: {_short(error)}") from error
        except GraphError as error:
            raise GraphError(f"{self}: {error}") from error


@contextmanager
def _silent_torch() -> Iterator[None]:
    """Fake tensors log a traceback of what does not fit, beside raising it."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


def _make(make: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Without memory for weights, or with it where the constructor asks for a value."""
    import torch

    try:
        with torch.device("meta"):
            return make(**arguments)
    except (NotImplementedError, RuntimeError):
        return make(**arguments)


def _short(error: Exception) -> str:
    text = (str(error).strip().splitlines() or ["no message"])[0]
    return text if len(text) <= 3 * _N_SHOWN else text[: 3 * _N_SHOWN] + "…"
