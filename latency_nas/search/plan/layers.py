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
from latency_nas.search.plan.columns import Columns, numbered
from latency_nas.search.plan.covering import new_rows, rows_along
from latency_nas.search.plan.diagrams import Diagram, Diagrams
from latency_nas.search.plan.space import Context, Space

__all__ = ["KnownArchitectures", "Layer", "Slot"]

_MAX_CASES = 4096  # of a layer
_N_SEEN = 12  # architectures that show the sizes of kernels
_MAX_WANTED = 256  # unseen cases that are looked at in one round

PriceKeys = tuple[Hashable, ...]  # the price keys of calls (`LatencyEstimator.price_key`), which decide their prices
Slot = tuple[str, str]  # a layer, and the first operator of a kernel in it or the reader that a copy is made for
_Split = tuple[tuple[Structure, ...], tuple[int, ...]]  # kernels as structures and sizes
_NO_CONTEXT: Context = (), ()
_Cases = dict[tuple[Diagram, Hashable], int]
_NOTHING: _Split = (), ()
_COPY = "copy for "


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layer:
    """What a slot runs.

    Args:
        parts: Functions of the choices that decide the structure of its kernels.
        structure: The number of the structure for each architecture.
        sizes: Sizes of each structure that change together, by their places, and a function that gives them.
        template: Each structure, with its sizes in some architecture.
        unseen: Functions, and values of them that too few architectures showed, with the number that is missing.
    """

    parts: tuple[Diagram, ...]
    structure: Diagram
    sizes: tuple[tuple[tuple[tuple[int, ...], Diagram], ...], ...]
    template: tuple[_Split, ...]
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
        self.slots: dict[Slot, list[int]] = {}  # what each slot runs in each of `rows`, as the number of its kernels
        self._numbers: dict[_Split, int] = {_NOTHING: 0}
        self._splits = [_NOTHING]
        self.calls: dict[Hashable, KernelCall] = {}  # one call of each price key
        self.layers: dict[Slot, Layer] = {}
        self.undecided = ""  # the last layer whose choices were not found, for the error message
        self._columns = Columns(self.diagrams)
        self._n_found = 0  # of the architectures, when layers were last found
        self._kernels: dict[Layer, Diagram] = {}
        self._together: dict[tuple[Diagram, ...], Diagram] = {}

    def read(self, rows: Iterable[NDArray[np.intp]]) -> None:
        """Read more architectures; those that are known are not read again."""
        new = new_rows(list(rows), self.rows)
        for number, row in enumerate(new, len(self.rows)):
            for slot, calls in self._slots(row).items():
                runs = self.slots.setdefault(slot, [])
                runs += [*[0] * (number - len(runs)), self._number(split(calls))]
        self.rows = np.array([*self.rows, *new], np.intp).reshape(-1, len(self.sizes))

    def _runs(self, slot: Slot) -> tuple[int, ...]:
        runs = self.slots.get(slot, ())
        return *runs, *[0] * (len(self.rows) - len(runs))

    def _slots(self, row: NDArray[np.intp]) -> dict[Slot, list[KernelCall]]:
        slots: dict[Slot, list[KernelCall]] = defaultdict(list)
        for call in self.space.calls(dict(zip(self.space.candidates, map(int, row), strict=True))):
            slots[call.layer, call.nodes[0] if call.nodes else _COPY + call.reader].append(call)
        return slots

    def _number(self, kernels: _Split) -> int:
        if kernels not in self._numbers:
            self._numbers[kernels] = len(self._splits)
            self._splits.append(kernels)
        return self._numbers[kernels]

    def find_layers(self) -> None:
        """Find what each slot depends on, and what it runs in each case."""
        self._columns.take(self.rows)
        found: dict[Hashable, Layer] = {}
        previous, self.layers = self.layers, {}
        n_known, self._n_found = self._n_found, len(self.rows)
        names = {name for _, name in self.slots}
        fused = [("", name) for name in self.contexts if name not in names]  # these may run on their own elsewhere
        for slot in [*self.slots, *fused]:
            kernels = self._runs(slot)
            context = self.contexts.get(slot[1].removeprefix(_COPY), _NO_CONTEXT)
            if (kernels, context) not in found:  # slots that run the same in the same contexts are one
                before = previous.get(slot)
                if before is None or before.unseen or not self._explains(before, kernels, n_known):
                    before = self._alike(kernels, context, before, found)
                found[kernels, context] = before
            self.layers[slot] = found[kernels, context]

    def _explains(self, layer: Layer, kernels: Sequence[int], n_known: int) -> bool:
        """Whether a layer that shows all cases runs what was read after the first architectures."""
        new = zip(self.rows[n_known:].tolist(), kernels[n_known:], strict=True)
        return all(self._split_of(layer, row) == self._splits[found] for row, found in new)

    def _split_of(self, layer: Layer, row: Sequence[int]) -> _Split | None:
        kind = self.diagrams.value(layer.structure, row)
        if kind is None:
            return None
        structure, template = layer.template[kind]
        sizes = _with_sizes(template, [(places, self.diagrams.value(of, row)) for places, of in layer.sizes[kind]])
        return None if sizes is None else (structure, sizes)

    def _alike(
        self, kernels: Sequence[int], context: Context, previous: Layer | None, found: dict[Hashable, Layer]
    ) -> Layer:
        """A layer; where each structure has one size, as another one that changes in the same architectures."""
        splits = [self._splits[number] for number in dict.fromkeys(kernels)]
        if len({structure for structure, _ in splits}) < len(splits):
            return self._layer(kernels, context, previous)
        pattern = numbered(kernels).tobytes(), tuple([bool(structure) for structure, _ in splits]), context
        if pattern not in found:
            found[pattern] = self._layer(kernels, context, previous)
        return replace(found[pattern], template=tuple(splits))

    def _layer(self, numbers: Sequence[int], context: Context, previous: Layer | None) -> Layer:
        every = range(len(numbers))
        kernels = [self._splits[number] for number in numbers]
        template = {structure: (structure, sizes) for structure, sizes in reversed(kernels)}
        kinds = {structure: number for number, structure in enumerate(dict.fromkeys(kind for kind, _ in kernels))}
        structures = [kinds[structure] for structure, _ in kernels]
        parts = self._columns.parts(structures, every, context, previous.parts if previous else None)
        structure, unseen = self._function(parts, structures, every)
        for other in context[0]:  # whatever surrounds the operator is to be seen in each case
            if other not in parts:
                unseen |= self._unseen(self._cases((*parts, other)), every)
        sizes = []
        for kind, found in kinds.items():
            rows = [row for row in every if structures[row] == found]
            if not self.contexts and kind and len(rows) < (n := self.diagrams.n_rows(structure, found, _N_SEEN)):
                unseen[structure, found] = n - len(rows)
            sizes.append(tuple(self._sizes(found, kernels, rows, context, structure, unseen)))
        ordered = tuple([template[kind] for kind in kinds])
        return Layer(parts=parts, structure=structure, sizes=tuple(sizes), template=ordered, unseen=unseen)

    def _sizes(
        self,
        found: int,
        kernels: Sequence[_Split],
        rows: Sequence[int],
        context: Context,
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
            parts = self._columns.parts(values, rows, context, None)
            function, _ = self._function(parts, values, rows)
            cases = self.diagrams.apply(lambda kind, *of_parts: of_parts if kind == found else None, structure, *parts)
            unseen |= self._unseen(cases, rows)
            yield tuple(together), function

    def _function(
        self, parts: tuple[Diagram, ...], values: Sequence[Hashable], rows: Sequence[int]
    ) -> tuple[Diagram, _Cases]:
        """The function of some parts that has these values in some rows, and the unseen cases, in which it is None."""
        cases = self._cases(parts)
        of_cases = self._columns.values(cases)
        seen = dict(zip([of_cases[row] for row in rows], values, strict=True))
        return self.diagrams.apply(seen.get, cases), self._unseen(cases, rows)

    def _unseen(self, cases: Diagram, rows: Sequence[int]) -> _Cases:
        of_cases = self._columns.values(cases)
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
            groups = [(kind, places, values) for kind, of in enumerate(layer.sizes) for places, values in of]

            def keys(kind: int | None, *values: Any) -> PriceKeys | None:
                if kind is None:
                    return None
                parts = [(places, of) for (other, places, _), of in zip(groups, values, strict=True) if other == kind]
                structure, template = layer.template[kind]
                sizes = _with_sizes(template, parts)
                return None if sizes is None else self._keys(structure, sizes, slot[0])

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
                    f"{len(layer.parts)} of them: {n_cases} cases. Layers that a configured network numbers anew are "
                    f"known by the supernet's weights, if it keeps these."
                )
            wanted |= layer.unseen
        paths = [
            (self.diagrams.path_to(cases, case, random), n) for (cases, case), n in [*wanted.items()][:_MAX_WANTED]
        ]
        return rows_along(paths, self.sizes, random, max(n_at_least, len(self.rows) // 4))

    def confirms(self, rows: NDArray[np.intp]) -> bool:
        """Whether architectures, which are read now, run what the layers predict."""
        n_known = len(self.rows)
        self.read(rows)
        for slot in {**self.layers, **self.slots}:
            kernels = self._runs(slot)[n_known:]
            for row, found in zip(self.rows[n_known:].tolist(), kernels, strict=True):
                run = self._keys(*self._splits[found], slot[0])
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
