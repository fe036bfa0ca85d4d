"""`KnownArchitectures`: what the layers of a supernet run, as functions of the choices, from some architectures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import KernelError, SearchError
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.plan.call_sizes import Structure, joined, split
from latency_nas.search.plan.columns import Columns
from latency_nas.search.plan.diagrams import Diagram, Diagrams, Path
from latency_nas.search.plan.space import Space

__all__ = ["KnownArchitectures", "Layer", "Slot"]

_MAX_CASES = 4096  # of a layer
_N_SEEN = 12  # architectures that show the sizes of kernels
_MAX_WANTED = 256  # unseen cases that are looked at in one round

PriceKeys = tuple[Hashable, ...]  # the price keys of calls (`LatencyEstimator.price_key`), which decide their prices
Slot = tuple[str, str]  # a layer, and the first operator of a kernel in it or the reader that a copy is made for
_Split = tuple[tuple[Structure, ...], tuple[int, ...]]  # kernels as structures and sizes
_Cases = dict[tuple[Diagram, Hashable], int]
_NOTHING: _Split = (), ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """What a slot runs.

    Args:
        parts: Functions of the choices that decide the structure of its kernels.
        structure: The structure for each architecture.
        sizes: Sizes of each structure that change together, by their places, and a function that gives them.
        template: Sizes of each structure in some architecture.
        unseen: Functions, and values of them that too few architectures showed, with the number that is missing.
    """

    parts: tuple[Diagram, ...]
    structure: Diagram
    sizes: dict[tuple[Structure, ...], tuple[tuple[tuple[int, ...], Diagram], ...]]
    template: dict[tuple[Structure, ...], tuple[int, ...]]
    unseen: _Cases


class KnownArchitectures:
    """The architectures that were read so far, and what each of their layers depends on.

    A layer's kernels have a structure, such as a convolution with bias and ReLU, and sizes, such as its channels. Each
    size depends on fewer choices than all of them together, so that few architectures show it.

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
        self.slots: list[dict[Slot, _Split]] = []  # of each architecture in `rows`: what each slot runs
        self.calls: dict[Hashable, KernelCall] = {}  # one call of each price key
        self.layers: dict[Slot, Layer] = {}
        self.undecided = ""  # the last layer whose choices were not found, for the error message
        self._columns = Columns(self.diagrams)
        self._n_found = 0  # of the architectures, when layers were last found
        self._kernels: dict[Layer, Diagram] = {}
        self._together: dict[tuple[Diagram, ...], Diagram] = {}

    def read(self, rows: Iterable[NDArray[np.intp]]) -> None:
        """Read more architectures; those that are known are not read again."""
        known = set(map(bytes, self.rows))
        new = {bytes(row): row for row in np.asarray(list(rows), np.intp) if bytes(row) not in known}
        self.slots += [self._slots(row) for row in new.values()]
        self.rows = np.array([*self.rows, *new.values()], np.intp).reshape(-1, len(self.sizes))

    def _slots(self, row: NDArray[np.intp]) -> dict[Slot, _Split]:
        slots: dict[Slot, list[KernelCall]] = defaultdict(list)
        for call in self.space.calls(dict(zip(self.space.candidates, map(int, row), strict=True))):
            slots[call.layer, call.nodes[0] if call.nodes else f"copy for {call.reader}"].append(call)
        return {slot: split(calls) for slot, calls in slots.items()}

    def find_layers(self) -> None:
        """Find what each slot depends on, and what it runs in each case."""
        columns = self._columns
        columns.take(self.rows)
        found: dict[Hashable, Layer] = {}
        previous, self.layers = self.layers, {}
        n_known, self._n_found = self._n_found, len(self.rows)
        run = dict.fromkeys(slot for slots in self.slots for slot in slots)
        names = {name for _, name in run}
        fused = [("", name) for name in self.contexts if name not in names]  # these may run on their own elsewhere
        for slot in [*run, *fused]:
            kernels = tuple([slots.get(slot, _NOTHING) for slots in self.slots])
            context = self.contexts.get(slot[1].removeprefix("copy for "), ())
            if (kernels, context) not in found:  # slots that run the same in the same contexts are one
                before = previous.get(slot)
                if before is None or before.unseen or not self._explains(before, kernels, n_known):
                    before = self._layer(kernels, context, columns, before)
                found[kernels, context] = before
            self.layers[slot] = found[kernels, context]

    def _explains(self, layer: Layer, kernels: Sequence[_Split], n_known: int) -> bool:
        """Whether a layer that shows all cases runs what was read after the first architectures."""
        new = zip(self.rows[n_known:].tolist(), kernels[n_known:], strict=True)
        return all(self._split_of(layer, row) == found for row, found in new)

    def _split_of(self, layer: Layer, row: Sequence[int]) -> _Split | None:
        structure = self.diagrams.value(layer.structure, row)
        if structure not in layer.template:
            return None
        parts = [(places, self.diagrams.value(function, row)) for places, function in layer.sizes[structure]]
        sizes = _with_sizes(layer.template[structure], parts)
        return None if sizes is None else (structure, sizes)

    def _layer(
        self, kernels: Sequence[_Split], context: tuple[Diagram, ...], columns: Columns, previous: Layer | None
    ) -> Layer:
        every = range(len(kernels))
        structures = [structure for structure, _ in kernels]
        parts = columns.parts(structures, every, context, previous.parts if previous else None)
        structure, unseen = self._function(parts, structures, every, columns)
        for other in context:  # whatever surrounds the operator is to be seen in each case
            if other not in parts:
                unseen |= self._unseen(self._cases((*parts, other)), every, columns)
        sizes, template = {}, {}
        for found in dict.fromkeys(structures):
            rows = [row for row in every if structures[row] == found]
            if not self.contexts and found and len(rows) < (n := self.diagrams.n_rows(structure, found, _N_SEEN)):
                unseen[structure, found] = n - len(rows)
            template[found] = kernels[rows[0]][1]
            sizes[found] = tuple(self._sizes(found, kernels, rows, context, columns, structure, unseen))
        return Layer(parts=parts, structure=structure, sizes=sizes, template=template, unseen=unseen)

    def _sizes(
        self,
        found: tuple[Structure, ...],
        kernels: Sequence[_Split],
        rows: Sequence[int],
        context: tuple[Diagram, ...],
        columns: Columns,
        structure: Diagram,
        unseen: _Cases,
    ) -> Iterable[tuple[tuple[int, ...], Diagram]]:
        """The sizes of a structure that change together, as functions; what they lack is added to `unseen`."""
        places: dict[bytes, list[int]] = defaultdict(list)
        table = np.array([kernels[row][1] for row in rows])
        for place in np.flatnonzero((table != table[0]).any(0)).tolist():
            places[np.unique(table[:, place], return_inverse=True)[1].tobytes()].append(place)
        for together in places.values():
            values = [tuple(row) for row in table[:, together].tolist()]
            parts = columns.parts(values, rows, context, None)
            function, _ = self._function(parts, values, rows, columns)
            cases = self.diagrams.apply(lambda kind, *of_parts: of_parts if kind == found else None, structure, *parts)
            unseen |= self._unseen(cases, rows, columns)
            yield tuple(together), function

    def _function(
        self, parts: tuple[Diagram, ...], values: Sequence[Hashable], rows: Sequence[int], columns: Columns
    ) -> tuple[Diagram, _Cases]:
        """The function of some parts that has these values in some rows, and the unseen cases, in which it is None."""
        cases = self._cases(parts)
        of_cases = columns.values(cases)
        seen = dict(zip([of_cases[row] for row in rows], values, strict=True))
        return self.diagrams.apply(seen.get, cases), self._unseen(cases, rows, columns)

    def _unseen(self, cases: Diagram, rows: Sequence[int], columns: Columns) -> _Cases:
        of_cases = columns.values(cases)
        seen = {None, *[of_cases[row] for row in rows]}
        return {(cases, case): 1 for case in self.diagrams.values(cases) if case not in seen}

    def _cases(self, functions: tuple[Diagram, ...]) -> Diagram:
        """The function whose values are those of several functions."""
        if functions not in self._together:
            self._together[functions] = self.diagrams.apply(lambda *values: values, *functions)
        return self._together[functions]

    def kernels(self, slot: Slot) -> Diagram:
        """The price keys of what a slot runs, as a function of the choices; None where sizes do not fit each other."""
        layer = self.layers[slot]
        if layer not in self._kernels:
            groups = [(kind, places, values) for kind, of in layer.sizes.items() for places, values in of]

            def keys(kind: tuple[Structure, ...] | None, *values: Any) -> PriceKeys | None:
                if kind is None:
                    return None
                parts = [(places, of) for (other, places, _), of in zip(groups, values, strict=True) if other == kind]
                sizes = _with_sizes(layer.template[kind], parts)
                return None if sizes is None else self._keys(kind, sizes, slot[0])

            self._kernels[layer] = self.diagrams.apply(keys, layer.structure, *[values for *_, values in groups])
        return self._kernels[layer]

    def _keys(self, structure: tuple[Structure, ...], sizes: Sequence[int], layer: str) -> PriceKeys | None:
        try:
            calls = [replace(call, layer=layer) for call in joined(structure, sizes)]
        except KernelError:
            return None
        keys = tuple(map(self.price_key, calls))
        for key, call in zip(keys, calls, strict=True):
            self.calls.setdefault(key, call)
        return keys

    def missing_rows(self, random: np.random.Generator, n_at_least: int) -> NDArray[np.intp]:
        """Some architectures in cases that are still unseen, those of layers with few cases first.

        Not in all of them at once: a layer that seems to depend on many choices may turn out to depend on fewer.

        Args:
            random: Generator of the architectures.
            n_at_least: Number of architectures, or a quarter of those that are known, if that is more.
        """
        wanted: _Cases = {}
        for slot, layer in sorted(self.layers.items(), key=lambda item: len(item[1].unseen)):
            n_cases = len(layer.unseen)
            if n_cases > _MAX_CASES:
                self.undecided = slot[0]
                raise SearchError(
                    f"Expected what a layer runs to depend on a few choices, but `{slot[0]}` depends on "
                    f"{len(layer.parts)} of them: {n_cases} cases."
                )
            wanted |= layer.unseen
        paths = [
            (self.diagrams.path_to(cases, case, random), n) for (cases, case), n in [*wanted.items()][:_MAX_WANTED]
        ]
        rows: list[NDArray[np.intp]] = []
        while paths and len(rows) < max(n_at_least, len(self.rows) // 4):
            allowed: Path = {}
            rest = []
            random.shuffle(paths)
            for path, n in paths:  # one architecture shows as many cases as fit together
                both = {
                    choice: tuple([index for index in some if index in allowed.get(choice, some)])
                    for choice, some in path.items()
                }
                fits = all(both.values())
                if fits:
                    allowed |= both
                if n > fits:
                    rest.append((path, n - fits))
            paths = rest
            row = random.integers(0, self.sizes)
            for choice, some in allowed.items():
                row[choice] = random.choice(some)
            rows.append(row)
        return np.array(rows, np.intp).reshape(-1, len(self.sizes))

    def confirms(self, rows: NDArray[np.intp]) -> bool:
        """Whether architectures, which are read now, run what the layers predict."""
        n_known = len(self.rows)
        self.read(rows)
        for row, found in zip(self.rows[n_known:].tolist(), self.slots[n_known:], strict=True):
            for slot in {**self.layers, **found}:
                run = self._keys(*found.get(slot, _NOTHING), slot[0])
                if slot not in self.layers or self.diagrams.value(self.kernels(slot), row) != run:
                    self.undecided = slot[0]
                    return False
        return True


def _with_sizes(
    template: tuple[int, ...], parts: Iterable[tuple[tuple[int, ...], tuple[int, ...] | None]]
) -> tuple[int, ...] | None:
    """The sizes of a template with others at some places; None if some are not known."""
    sizes = list(template)
    for places, found in parts:
        if found is None:
            return None
        for place, size in zip(places, found, strict=True):
            sizes[place] = size
    return tuple(sizes)
