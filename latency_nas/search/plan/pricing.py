"""Makes the `CostPlan` of all architectures of a supernet from what an engine runs for some of them.

Every kernel that an engine runs belongs to a layer, and what a layer runs depends on a few choices only: on none for
the stem, on one for a layer within a candidate, on two where an engine folds an operator into the one before, on three
for a depthwise convolution of elastic kernel, width and depth. These choices are found from architectures in which any
two candidates occur together, and confirmed on random ones. The cost of a layer is then a table over these choices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import fsum, prod
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.estimate import KernelEstimate, Source
from latency_nas.estimate.uncertainty import family_of
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.plan.cost import Cost, Term
from latency_nas.search.plan.covering import covering_rows
from latency_nas.search.plan.dependence import depends_on
from latency_nas.search.plan.plan import CostPlan
from latency_nas.search.plan.space import Space

__all__ = ["N_CHECKED", "cost_of", "make_plan"]

N_CHECKED = 8  # architectures on which a plan is confirmed
_MAX_ROUNDS = 24
_MAX_CELLS = 4096  # cells of a layer's table

PriceKeys = tuple[Hashable, ...]  # the price keys of calls (`LatencyEstimator.price_key`), which decide their prices
Slot = tuple[str, str]  # a layer, and the first operator of a kernel in it or the reader that a copy is made for


def make_plan(space: Space, estimator: LatencyEstimator, *, seed: int = 0, n_checked: int = N_CHECKED) -> CostPlan:
    """Price every candidate of every choice of a supernet, and the kernels that depend on several choices.

    Args:
        space: Architectures of the supernet.
        estimator: Estimator that prices the kernels. One error names all that it cannot price.
        seed: Seed of the architectures that are read.
        n_checked: Number of random architectures that confirm the plan: each is read and fused anew, and has to run the
            kernels that the plan prices.

    Raises:
        MissingKernelError: if a kernel has no price.
        SearchError: if what a layer runs depends on too many choices at once.
    """
    known = _KnownArchitectures(space, estimator.price_key)
    random = np.random.default_rng(seed)
    rows = covering_rows(known.sizes, random)
    for _ in range(_MAX_ROUNDS):
        known.read(rows)
        layers = known.layers()
        rows = _missing_rows(known, layers, random)
        if not len(rows):
            checked = random.integers(0, known.sizes, (n_checked, len(known.sizes)))
            rows = checked[[not known.confirms(layers, row) for row in checked]]
        if not len(rows) or len(known.rows) == prod(known.sizes):
            return replace(_cost_plan(space, known, layers, estimator), n_checked=n_checked)
    raise SearchError(
        f"Expected what a layer runs to depend on a few choices, but {len(known.rows)} architectures do not show on "
        f"which `{known.undecided}` depends: the supernet chooses there by more than the named choices."
    )


class _KnownArchitectures:
    """The architectures that were read so far, and the kernels of each of their slots."""

    def __init__(self, space: Space, price_key: Callable[[KernelCall], Hashable]) -> None:
        self.space, self.price_key = space, price_key
        self.sizes = [len(names) for names in space.candidates.values()]
        self.rows = np.zeros((0, len(self.sizes)), np.intp)
        self.kernels: dict[PriceKeys, int] = {(): 0}  # kernels that a slot may run -> their number; 0 runs nothing
        self.slots: list[dict[Slot, int]] = []  # of each architecture in `rows`: what each slot runs, as in `kernels`
        self.calls: dict[Hashable, KernelCall] = {}  # one call of each price key
        self.last_choices: dict[Slot, tuple[int, ...]] = {}  # the choices of each slot by the last call of `layers`
        self.undecided = ""  # the last layer whose choices were not found, for the error message

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

    def layers(self) -> dict[Slot, _Layer]:
        """The choices that each slot depends on, and what it runs for their candidates."""
        slots = dict.fromkeys(slot for found in self.slots for slot in found)
        patterns: dict[bytes, tuple[int, ...]] = {}
        layers: dict[Slot, _Layer] = {}
        for slot in slots:
            values = np.array([found.get(slot, 0) for found in self.slots])
            # slots that change in the same architectures depend on the same choices, which are then searched only once
            pattern = np.unique(values, return_index=True, return_inverse=True)
            key = pattern[1][pattern[2]].tobytes()
            if key not in patterns:
                patterns[key] = depends_on(pattern[2], self.rows, self.sizes, self.last_choices.get(slot))
            choices = patterns[key]
            cells = dict(zip(map(tuple, self.rows[:, choices].tolist()), values.tolist(), strict=True))
            layers[slot] = _Layer(choices=choices, cells=cells)
        self.last_choices = {slot: layer.choices for slot, layer in layers.items()}
        return layers

    def confirms(self, layers: Mapping[Slot, _Layer], row: NDArray[np.intp]) -> bool:
        """Whether an architecture, read anew, runs what the layers predict."""
        found = self._slots(row)
        for slot in {**layers, **found}:
            layer = layers.get(slot)
            predicted = layer.cells.get(tuple(row[list(layer.choices)].tolist())) if layer else None
            if predicted != found.get(slot, 0):
                self.undecided = slot[0]
                return False
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """What a slot runs: a number of `_KnownArchitectures.kernels` for each combination of candidates of `choices`."""

    choices: tuple[int, ...]
    cells: dict[tuple[int, ...], int]


def _missing_rows(
    known: _KnownArchitectures, layers: Mapping[Slot, _Layer], random: np.random.Generator
) -> NDArray[np.intp]:
    """Some architectures with combinations of candidates that are still missing in a layer, those of few choices first.

    Not for all missing combinations at once: a layer that seems to depend on many choices may turn out to depend on
    fewer.
    """
    missing: dict[tuple[tuple[int, ...], tuple[int, ...]], None] = {}
    for slot, layer in sorted(layers.items(), key=lambda item: len(item[1].choices)):
        n_cells = prod(known.sizes[choice] for choice in layer.choices)
        if n_cells > _MAX_CELLS:
            known.undecided = slot[0]
            raise SearchError(
                f"Expected what a layer runs to depend on a few choices, but `{slot[0]}` depends on "
                f"{', '.join(list(known.space.candidates)[choice] for choice in layer.choices)}: {n_cells} cases."
            )
        if len(layer.cells) < n_cells:
            cells = product(*(range(known.sizes[choice]) for choice in layer.choices))
            missing.update(dict.fromkeys((layer.choices, cell) for cell in cells if cell not in layer.cells))
    rows: list[NDArray[np.intp]] = []
    while missing and len(rows) < max(N_CHECKED, len(known.rows) // 4):
        row = random.integers(0, known.sizes)
        fixed: dict[int, int] = {}
        for choices, cell in tuple(missing):  # one architecture shows as many combinations as fit together
            wanted = dict(zip(choices, cell, strict=True))
            if all(fixed.get(choice, index) == index for choice, index in wanted.items()):
                fixed |= wanted
                del missing[choices, cell]
        row[list(fixed)] = list(fixed.values())
        rows.append(row)
    return np.array(rows, np.intp).reshape(-1, len(known.sizes))


def _cost_plan(
    space: Space, known: _KnownArchitectures, layers: Mapping[Slot, _Layer], estimator: LatencyEstimator
) -> CostPlan:
    """The plan: layers that depend on the same choices are added up."""
    priced = estimator.price(list(known.calls.values()))
    prices = dict(zip(known.calls, priced.kernels, strict=True))
    kernels = {number: [prices[key] for key in keys] for keys, number in known.kernels.items()}
    tables: dict[tuple[int, ...], dict[tuple[int, ...], list[KernelEstimate]]] = defaultdict(lambda: defaultdict(list))
    for (name, _), layer in layers.items():
        for cell, number in layer.cells.items():
            tables[layer.choices][cell] += [item.at(name) for item in kernels[number]]
    has_error = priced.expected_error is not None
    costs = [
        tuple(cost_of(tables[row,].get((index,), []), has_error) for index in range(size))
        for row, size in enumerate(known.sizes)
    ]
    offsets = np.cumsum([0, *known.sizes]).tolist()
    terms = [
        Term(
            candidates=tuple(offsets[row] + index for row, index in zip(rows, cell, strict=True)),
            cost=cost_of(run, has_error),
        )
        for rows, table in tables.items()
        if len(rows) > 1
        for cell, run in table.items()
        if run
    ]
    return CostPlan(
        choices=tuple(space.candidates),
        candidates=tuple(space.candidates.values()),
        costs=tuple(costs),
        fixed=cost_of(tables[()].get((), []), has_error),
        terms=tuple(terms),
        expected_error=priced.expected_error,
        quantity=priced.quantity,
    )


def cost_of(run: Sequence[KernelEstimate], has_error: bool) -> Cost:
    """The cost of some kernels, with the parts of its error (see `latency_nas.estimate.uncertainty`).

    Args:
        run: Prices of the kernels.
        has_error: Whether the error of the table's whole networks is known. It then takes the place of the kernels'.
    """
    without_own = ("regressed", "missing", "table") if has_error else ("regressed", "missing")
    own = [item for item in run if item.source not in without_own]
    known = all(item.std is not None for item in own)
    together: dict[str, float] = defaultdict(float)
    for item in run:
        if item.source == "regressed":
            together[family_of(item.kernel)] += item.std or 0.0
    sources = {item.source for item in run}
    return Cost(
        value=fsum(item.value for item in run),
        from_table=fsum(item.value for item in run if item.source == "table"),
        variance=fsum((item.std or 0.0) ** 2 for item in own) if known else None,
        together=tuple(together.items()),
        source=next((source for source in reversed(get_args(Source)) if source in sources), "none"),
        kernels=tuple(run),
    )
