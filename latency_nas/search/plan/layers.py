"""`KnownArchitectures`: what the layers of a supernet run, as functions of the choices, from some architectures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.plan.dependence import depends_on
from latency_nas.search.plan.diagrams import Diagram, Diagrams, Path
from latency_nas.search.plan.space import Space

__all__ = ["KnownArchitectures", "Layer", "Slot"]

_MAX_CASES = 4096  # of a layer
_MAX_WANTED = 256  # unseen cases that are looked at in one round

PriceKeys = tuple[Hashable, ...]  # the price keys of calls (`LatencyEstimator.price_key`), which decide their prices
Slot = tuple[str, str]  # a layer, and the first operator of a kernel in it or the reader that a copy is made for


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """What a slot runs.

    Args:
        parts: Functions of the choices that it depends on.
        seen: Values of the parts -> what runs, a number of `KnownArchitectures.kernels`.
        unseen: Functions, and values of them that are still to be seen.
        kernels: What runs as a function of the choices; known where nothing is unseen.
    """

    parts: tuple[Diagram, ...]
    seen: dict[Hashable, int]
    unseen: tuple[tuple[Diagram, Hashable], ...]
    kernels: Diagram


class KnownArchitectures:
    """The architectures that were read so far, and what each of their layers depends on.

    Args:
        space: Architectures of the supernet.
        price_key: Function that gives a key for everything that a call's price depends on.
    """

    def __init__(self, space: Space, price_key: Callable[[KernelCall], Hashable]) -> None:
        self.space, self.price_key = space, price_key
        self.sizes = [len(names) for names in space.candidates.values()]
        self.diagrams = Diagrams(self.sizes)
        self.contexts = space.contexts(self.diagrams) if space.contexts else {}
        self.rows = np.zeros((0, len(self.sizes)), np.intp)
        self.kernels: dict[PriceKeys, int] = {(): 0}  # kernels that a slot may run -> their number; 0 runs nothing
        self.slots: list[dict[Slot, int]] = []  # of each architecture in `rows`: what each slot runs, as in `kernels`
        self.calls: dict[Hashable, KernelCall] = {}  # one call of each price key
        self.layers: dict[Slot, Layer] = {}
        self.undecided = ""  # the last layer whose choices were not found, for the error message
        self._cases: dict[tuple[Diagram, ...], Diagram] = {}

    def read(self, rows: Iterable[NDArray[np.intp]]) -> None:
        """Read more architectures; those that are known are not read again."""
        known = set(map(bytes, self.rows))
        new = {bytes(row): row for row in np.asarray(list(rows), np.intp) if bytes(row) not in known}
        self.slots += [self._slots(row) for row in new.values()]
        self.rows = np.array([*self.rows, *new.values()], np.intp).reshape(-1, len(self.sizes))

    def _slots(self, row: NDArray[np.intp]) -> dict[Slot, int]:
        slots: dict[Slot, list[Hashable]] = defaultdict(list)
        for call in self.space.calls(dict(zip(self.space.candidates, map(int, row), strict=True))):
            key = self.price_key(call)
            self.calls.setdefault(key, call)
            slots[call.layer, call.nodes[0] if call.nodes else f"copy for {call.reader}"].append(key)
        return {slot: self.kernels.setdefault(tuple(kernels), len(self.kernels)) for slot, kernels in slots.items()}

    def find_layers(self) -> None:
        """Find what each slot depends on, and what it runs in each case."""
        columns = _Columns(self.diagrams, self.rows)
        found: dict[Hashable, Layer] = {}
        previous, self.layers = self.layers, {}
        run = dict.fromkeys(slot for slots in self.slots for slot in slots)
        names = {name for _, name in run}
        fused = [("", name) for name in self.contexts if name not in names]  # these may run on their own elsewhere
        for slot in [*run, *fused]:
            kernels = np.array([slots.get(slot, 0) for slots in self.slots])
            context = self.contexts.get(slot[1].removeprefix("copy for "), ())
            key = kernels.tobytes(), context
            if key not in found:  # slots that run the same in the same contexts are one
                found[key] = self._layer(kernels, context, columns, previous.get(slot))
            self.layers[slot] = found[key]

    def _layer(
        self, kernels: NDArray[np.intp], context: tuple[Diagram, ...], columns: _Columns, previous: Layer | None
    ) -> Layer:
        functions = [*context, *map(self.diagrams.choice, range(len(self.sizes)))]
        parts = depends_on(
            np.unique(kernels, return_inverse=True)[1],
            {function: columns.of(function) for function in functions},
            {function: columns.n_values(function) for function in functions},
            context,
            previous.parts if previous else None,
        )
        cases = self._together(parts)
        seen = dict(zip(columns.values(cases), kernels.tolist(), strict=True))
        unseen = [(cases, case) for case in self.diagrams.values(cases) if case not in seen]
        for other in set(context) - set(parts):  # whatever surrounds the operator is to be seen in each case
            both = self._together((*parts, other))
            known = set(columns.values(both))
            unseen += [(both, case) for case in self.diagrams.values(both) if case not in known]
        runs = self.diagrams.apply(seen.get, cases)
        return Layer(parts=parts, seen=seen, unseen=tuple(dict.fromkeys(unseen)), kernels=runs)

    def _together(self, functions: tuple[Diagram, ...]) -> Diagram:
        """The function whose values are those of several functions."""
        if functions not in self._cases:
            self._cases[functions] = self.diagrams.apply(lambda *values: values, *functions)
        return self._cases[functions]

    def missing_rows(self, random: np.random.Generator, n_at_least: int) -> NDArray[np.intp]:
        """Some architectures in cases that are still unseen, those of layers with few cases first.

        Not in all of them at once: a layer that seems to depend on many choices may turn out to depend on fewer.

        Args:
            random: Generator of the architectures.
            n_at_least: Number of architectures, or a quarter of those that are known, if that is more.
        """
        wanted: dict[tuple[Diagram, Hashable], None] = {}
        for slot, layer in sorted(self.layers.items(), key=lambda item: len(item[1].seen) + len(item[1].unseen)):
            n_cases = len(layer.seen) + len(layer.unseen)
            if n_cases > _MAX_CASES:
                self.undecided = slot[0]
                raise SearchError(
                    f"Expected what a layer runs to depend on a few choices, but `{slot[0]}` depends on "
                    f"{len(layer.parts)} of them: {n_cases} cases."
                )
            wanted |= dict.fromkeys(layer.unseen)
        paths = [self.diagrams.path_to(cases, case, random) for cases, case in [*wanted][:_MAX_WANTED]]
        rows: list[NDArray[np.intp]] = []
        while paths and len(rows) < max(n_at_least, len(self.rows) // 4):
            allowed: Path = {}
            rest = []
            for path in paths:  # one architecture shows as many cases as fit together
                both = {
                    choice: tuple([index for index in some if index in allowed.get(choice, some)])
                    for choice, some in path.items()
                }
                if all(both.values()):
                    allowed |= both
                else:
                    rest.append(path)
            paths = rest
            row = random.integers(0, self.sizes)
            for choice, some in allowed.items():
                row[choice] = random.choice(some)
            rows.append(row)
        return np.array(rows, np.intp).reshape(-1, len(self.sizes))

    def confirms(self, row: NDArray[np.intp]) -> bool:
        """Whether an architecture, read anew, runs what the layers predict."""
        found = self._slots(row)
        for slot in {**self.layers, **found}:
            layer = self.layers.get(slot)
            if layer is None or self.diagrams.value(layer.kernels, row.tolist()) != found.get(slot, 0):
                self.undecided = slot[0]
                return False
        return True


class _Columns:
    """The values of functions for the known architectures."""

    def __init__(self, diagrams: Diagrams, rows: NDArray[np.intp]) -> None:
        self._diagrams, self._rows = diagrams, rows.tolist()
        self._values: dict[Diagram, list[Hashable]] = {}
        self._numbers: dict[Diagram, NDArray[np.intp]] = {}
        self._n_values: dict[Diagram, int] = {}

    def values(self, function: Diagram) -> list[Hashable]:
        """The value for each architecture."""
        if function not in self._values:
            self._values[function] = [self._diagrams.value(function, row) for row in self._rows]
        return self._values[function]

    def of(self, function: Diagram) -> NDArray[np.intp]:
        """The values as numbers from 0."""
        if function not in self._numbers:
            numbers: dict[Hashable, int] = {}
            found = [numbers.setdefault(value, len(numbers)) for value in self.values(function)]
            self._numbers[function] = np.array(found, np.intp)
        return self._numbers[function]

    def n_values(self, function: Diagram) -> int:
        """Number of values of a function, for whatever architecture."""
        if function not in self._n_values:
            self._n_values[function] = len(self._diagrams.values(function))
        return self._n_values[function]
