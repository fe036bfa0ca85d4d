"""`Sample`: catches the gates that a supernet draws in the current step.

A supernet that draws its gates (Gumbel-softmax, GDAS's straight-through argmax) weighs its candidates by one sample.
The step is priced by the same sample.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from latency_nas.errors import SearchError
from latency_nas.search.supernet.module_path import module_at

__all__ = ["Sample"]


class Sample:
    """Catches gates while the supernet runs.

    Args:
        module: Name of the module that draws the gates or gets them as an argument.
        argument: Name of the argument of `method` that is the gates; None for the result of
            `torch.nn.functional.gumbel_softmax` inside the module's forward.
        row: Row of a matrix of gates; None for all that is caught.
        method: Name of the module's method that gets them.

    Example:
        >>> Choice(module="a", candidates=("a.0", "a.1"), weights=..., sample=Sample("a"))   # doctest: +SKIP
    """

    tensor: type[Any] = Tensor  # class of the gates

    def __init__(
        self, module: str, *, argument: str | None = None, row: int | None = None, method: str = "forward"
    ) -> None:
        self.module, self.argument, self.row, self.method = module, argument, row, method
        self.gates: Any = None
        self._release: list[Callable[[], None]] = []
        self._mode: _GumbelCatcher | None = None

    @property
    def is_drawn(self) -> bool:
        """Whether the current step drew gates."""
        return self.gates is not None

    def watch(self, supernet: Any) -> None:
        """Catch gates from now on. Nothing but hooks (or a wrapped method) is added to the supernet.

        Raises:
            SearchError: if the module has no such method or argument.
        """
        self.release()
        module = module_at(supernet, self.module)
        if self.argument is None:
            self._release = self._watch_drawing(module)
            return
        method = getattr(module, self.method, None)
        shared = method if isinstance(method, _Wrapped) else None  # the sample of another row has wrapped it already
        method = shared.method if shared else method
        names = list(inspect.signature(method).parameters) if method is not None else []
        if self.argument not in names:
            raise SearchError(
                f"Expected `{self.module}` to have a method {self.method} with an argument `{self.argument}` that the "
                f"gates are given by, but it has {', '.join(names) or 'no such method'}."
            )
        index = names.index(self.argument)
        if self.method == "forward":
            hook = module.register_forward_pre_hook(_Catch(self, index), with_kwargs=True)
            self._release = [hook.remove]
        else:
            wrapped = vars(module)[self.method] = shared or _Wrapped(method)
            wrapped.samples.append((self, index))
            self._release = [lambda: wrapped.remove(self, module)]

    def release(self) -> None:
        """Stop catching gates."""
        for release in self._release:
            release()
        self._release, self.gates = [], None

    def catch(self, gates: Any) -> None:
        """Store gates, or their row."""
        if isinstance(gates, self.tensor):
            self.gates = gates if self.row is None else gates[self.row]

    def _watch_drawing(self, module: Any) -> list[Callable[[], None]]:
        """Catch what a module draws in its forward; functions that end this."""
        enter = module.register_forward_pre_hook(self._enter)
        leave = module.register_forward_hook(self._leave, always_call=True)
        return [enter.remove, leave.remove]

    def _enter(self, *_: Any) -> None:
        self.gates = None  # those of the step before
        self._mode = _GumbelCatcher(self)
        self._mode.__enter__()  # type: ignore[no-untyped-call]

    def _leave(self, *_: Any) -> None:
        if self._mode is not None:
            self._mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        self._mode = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "gates": None, "_release": [], "_mode": None}


class _Catch:
    """A forward pre-hook that passes one argument to a sample."""

    def __init__(self, sample: Sample, index: int) -> None:
        self.sample, self.index = sample, index

    def __call__(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = args[self.index] if self.index < len(args) else kwargs.get(str(self.sample.argument))
        self.sample.catch(given)


class _Wrapped:
    """A method other than forward, which has no hooks, wrapped so that its arguments are passed to samples."""

    def __init__(self, method: Any) -> None:
        self.method = method
        self.samples: list[tuple[Sample, int]] = []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        for sample, index in self.samples:
            sample.catch(args[index] if index < len(args) else kwargs.get(str(sample.argument)))
        return self.method(*args, **kwargs)

    def remove(self, sample: Sample, module: Any) -> None:
        """Remove a sample; with the last one the wrapping is removed as well."""
        self.samples = [item for item in self.samples if item[0] is not sample]
        if not self.samples:
            vars(module).pop(sample.method, None)


class _GumbelCatcher(TorchFunctionMode):
    """Passes what `gumbel_softmax` returns to a sample."""

    def __init__(self, sample: Sample) -> None:
        super().__init__()
        self.sample = sample

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is functional.gumbel_softmax:
            self.sample.catch(result)
        return result
