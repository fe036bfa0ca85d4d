"""`CostPlan`: what each candidate of each choice adds to a network's latency. Plain numbers, of no framework."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from io import BytesIO
from itertools import accumulate
from math import pi, sqrt
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency_nas.errors import SearchError, shown
from latency_nas.search.plan.bounds import Table, largest_sum

__all__ = ["MAE_TO_STD", "Architecture", "Cost", "CostPlan", "Term"]

MAE_TO_STD = sqrt(pi / 2)  # of a normal distribution; as in `latency_nas.estimate`, which a plan does without


class Architecture(dict[str, int]):
    """Choice -> the index of its candidate; told apart from a configuration, choice -> option, which may be numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What something adds to a network's latency, and how sure that is.

    Args:
        latency_ms: in milliseconds.
        table_ms: the part of it that the table itself holds.
        variance_ms2: of the rest, or of all where the table's kernels have standard deviations; None: not known.
        source: the least sure of ``"table"``, ``"regressed"`` and ``"missing"``, or ``"none"`` where nothing runs.
    """

    latency_ms: float
    table_ms: float = 0.0
    variance_ms2: float | None = 0.0
    source: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """What several candidates of different choices add where they are chosen together.

    Args:
        candidates: their places among the candidates of all choices, one choice after the other.
        cost: what they add.
    """

    candidates: tuple[int, ...]
    cost: Cost


@dataclass(frozen=True, kw_only=True)
class CostPlan:
    """Latency as a sum: T = fixed + sum over choices of the chosen candidate's cost + terms of several choices.

    Under independent gates p the expected latency is E[T] = fixed + sum_ij p_ij t_ij (ProxylessNAS, arXiv 1812.00332,
    eq. 2), and p_i q_j t_ij more for every pair of candidates whose cost depends on both, such as an elastic kernel
    and an elastic width, or an activation that the engine folds into the convolution of the choice before.

    Args:
        choices: the name of each choice.
        candidates: the names of each choice's candidates.
        costs_ms: t_ij in milliseconds, as `candidates`.
        fixed_ms: what does not depend on any choice.
        terms: what depends on several choices.
        costs: `costs_ms` with how sure they are, or empty.
        fixed: `fixed_ms` with how sure it is.
        expected_error: of the table's whole networks; None where it is not known.

    Raises:
        SearchError: if the lengths differ, a number is not finite or a term names no candidate.
    """

    choices: tuple[str, ...]
    candidates: tuple[tuple[str, ...], ...]
    costs_ms: tuple[tuple[float, ...], ...]
    fixed_ms: float
    terms: tuple[Term, ...] = ()
    costs: tuple[tuple[Cost, ...], ...] = ()
    fixed: Cost | None = None
    expected_error: float | None = None

    def __post_init__(self) -> None:
        lengths = [len(self.choices), len(self.candidates), len(self.costs_ms)]
        if len(set(lengths)) > 1 or any(map(_unlike, self.candidates, self.costs_ms)):
            raise SearchError("Expected a cost for each candidate of each choice of a plan, but the lengths differ.")
        numbers = [self.fixed_ms, *sum(self.costs_ms, ()), *(term.cost.latency_ms for term in self.terms)]
        if not np.isfinite(numbers).all():
            raise SearchError(f"Expected the costs of a plan to be finite, but got {shown(numbers)}.")
        if any(not 0 <= index < self.n_gates for term in self.terms for index in term.candidates):
            raise SearchError(f"Expected the terms of a plan to name candidates from 0 to {self.n_gates - 1}.")

    # --- packed

    @cached_property
    def offsets(self) -> NDArray[np.intp]:
        """Where the candidates of each choice begin in a flat vector of gates, and at last its length."""
        return np.array([0, *accumulate(map(len, self.candidates))], np.intp)

    @property
    def n_gates(self) -> int:
        """The candidates of all choices."""
        return sum(map(len, self.candidates))

    @cached_property
    def flat_costs_ms(self) -> NDArray[np.float64]:
        """`costs_ms`, flat: shape ``(gates,)``."""
        return np.array([cost for costs in self.costs_ms for cost in costs], np.float64)

    @cached_property
    def term_gates(self) -> NDArray[np.intp]:
        """The gates of each term, of shape ``(terms, most gates of one)``; padded with ``gates``, whose gate is 1."""
        most = max((len(term.candidates) for term in self.terms), default=2)
        padded = [(*term.candidates, *[self.n_gates] * (most - len(term.candidates))) for term in self.terms]
        return np.array(padded, np.intp).reshape(len(self.terms), most)

    @cached_property
    def term_costs_ms(self) -> NDArray[np.float64]:
        """What each term costs: shape ``(terms,)``."""
        return np.array([term.cost.latency_ms for term in self.terms], np.float64)

    def padded_costs_ms(self) -> NDArray[np.float64]:
        """`costs_ms` as one array of shape ``(choices, most candidates)``, padded with zeros."""
        padded = np.zeros((len(self.choices), max(map(len, self.costs_ms))))
        for row, costs in zip(padded, self.costs_ms, strict=True):
            row[: len(costs)] = costs
        return padded

    # --- of gates

    def expected_ms(self, gates: ArrayLike) -> float:
        """E[T] in milliseconds.

        Args:
            gates: the weight of each candidate, flat, of shape ``(gates,)``.

        Raises:
            SearchError: if there are more or fewer, or they are not finite.
        """
        vector = self.check_gates(gates)
        total = self.fixed_ms + float(vector @ self.flat_costs_ms)
        return total + float(self._factors(vector).prod(1) @ self.term_costs_ms) if self.terms else total

    def gradient_ms(self, gates: ArrayLike) -> NDArray[np.float64]:
        """dE[T]/dgates, of shape ``(gates,)``."""
        vector = self.check_gates(gates)
        gradient = self.flat_costs_ms.copy()
        if self.terms:
            factors = self._factors(vector)
            parts = _leave_one_out(factors) * self.term_costs_ms[:, None]
            gradient += np.bincount(self.term_gates.ravel(), parts.ravel(), self.n_gates + 1)[:-1]
        return gradient

    def _factors(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        factors: NDArray[np.float64] = np.append(vector, 1.0)[self.term_gates]
        return factors

    def check_gates(self, gates: ArrayLike) -> NDArray[np.float64]:
        """`gates` as a vector of float64; its length and numbers are checked."""
        vector = np.asarray(gates, np.float64)
        if vector.shape != (self.n_gates,):
            raise SearchError(
                f"Expected a flat vector of {self.n_gates} gates, one for each candidate of the {len(self.choices)} "
                f"choices, but got the shape {vector.shape}."
            )
        if not np.isfinite(vector).all():
            rows = np.searchsorted(self.offsets, np.flatnonzero(~np.isfinite(vector)), side="right") - 1
            names = ", ".join(f"`{self.choices[row]}`" for row in dict.fromkeys(rows))
            raise SearchError(f"Expected finite gates, but those of {names} are NaN or infinite.")
        return vector

    # --- of architectures

    def one_hot(self, architecture: Mapping[str, int | str]) -> NDArray[np.float64]:
        """The gates of one architecture: choice -> the index of its candidate, or its name.

        Raises:
            SearchError: if the architecture does not give each choice one of its candidates.
        """
        if architecture.keys() != set(self.choices):
            odd = ", ".join(sorted(architecture.keys() ^ set(self.choices)))
            raise SearchError(
                f"Expected an architecture with a candidate for each choice and no more, but {odd} differ."
            )
        gates = np.zeros(self.n_gates)
        for name, candidates, offset in zip(self.choices, self.candidates, self.offsets, strict=False):
            picked = architecture[name]
            index = candidates.index(picked) if picked in candidates else picked
            if not isinstance(index, int | np.integer) or not 0 <= index < len(candidates):
                names = f" or one of {', '.join(candidates)}" if isinstance(picked, str) else ""
                raise SearchError(
                    f"Expected a candidate of `{name}` from 0 to {len(candidates) - 1}{names}, but got {picked}."
                )
            gates[offset + index] = 1.0
        return gates

    def latency_ms(self, architecture: Mapping[str, int | str]) -> float:
        """The latency of one architecture, choice -> index or name of its candidate.

        Raises:
            SearchError: if the architecture does not give each choice one of its candidates.
        """
        return self.expected_ms(self.one_hot(architecture))

    def std_ms(self, architecture: Mapping[str, int | str]) -> float | None:
        """One standard deviation of `latency_ms`; None where the table says neither its error nor its kernels'.

        As `Estimate.std_ms`, but that kernels which were regressed err each on their own.
        """
        costs = self.uncertain
        if costs is None:
            return None
        fixed, table, variance = costs
        gates = self.one_hot(architecture)
        every = np.append(gates, self._factors(gates).prod(1))
        error_ms = (self.expected_error or 0.0) * MAE_TO_STD * (fixed[0] + every @ table)
        return sqrt(error_ms**2 + fixed[1] + every @ variance)

    @cached_property
    def uncertain(self) -> tuple[tuple[float, float], NDArray[np.float64], NDArray[np.float64]] | None:
        """`table_ms` and `variance_ms2`: of what is fixed, and of the candidates and terms; None: not known."""
        every = [*sum(self.costs, ()), *(term.cost for term in self.terms)]
        if self.fixed is None or any(cost.variance_ms2 is None for cost in [self.fixed, *every]):
            return None
        variance = np.array([cost.variance_ms2 for cost in every], np.float64)
        return (
            (self.fixed.table_ms, self.fixed.variance_ms2 or 0.0),
            np.array([cost.table_ms for cost in every]),
            variance,
        )

    def bounds_ms(self) -> tuple[float, float]:
        """The latency of the cheapest and of the dearest architecture, exactly.

        Choices that share no term are bounded each on their own; of the others one after the other is eliminated
        (bucket elimination, Dechter 1999).

        Raises:
            SearchError: if too many choices depend on each other at once.
        """
        tables, sizes = self._tables(), [len(names) for names in self.candidates]
        least = -largest_sum([(rows, -table) for rows, table in tables], sizes, self.choices)
        return self.fixed_ms + least, self.fixed_ms + largest_sum(tables, sizes, self.choices)

    def _tables(self) -> list[Table]:
        """The costs as one array for each choice, and the terms as one for each set of choices that they are of."""
        terms: dict[tuple[int, ...], NDArray[np.float64]] = {}
        for term in self.terms:
            flat = np.sort(term.candidates)
            rows = tuple((np.searchsorted(self.offsets, flat, side="right") - 1).tolist())
            table = terms.setdefault(rows, np.zeros([len(self.candidates[row]) for row in rows]))
            table[tuple(flat - self.offsets[list(rows)])] += term.cost.latency_ms
        return [*(((row,), np.array(costs)) for row, costs in enumerate(self.costs_ms)), *terms.items()]

    # --- shown and saved

    def table(self) -> str:
        """The plan as text: choice, candidate, milliseconds, ± and source, a line a candidate."""
        lines = [("choice", "candidate", "ms", "±", "source")]
        lines.append(("", "(fixed)", *_cells(self.fixed_ms, self.fixed, self.expected_error)))
        for number, (choice, names) in enumerate(zip(self.choices, self.candidates, strict=True)):
            costs = self.costs[number] if self.costs else [None] * len(names)
            for name, cost_ms, cost in zip(names, self.costs_ms[number], costs, strict=True):
                lines.append((choice, name, *_cells(cost_ms, cost, self.expected_error)))
        flat = [
            f"{choice}={name}" for choice, names in zip(self.choices, self.candidates, strict=True) for name in names
        ]
        for term in self.terms:
            together = " & ".join(flat[index] for index in term.candidates)
            lines.append(("", together, *_cells(term.cost.latency_ms, term.cost, self.expected_error)))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        aligned = [
            [cell.rjust(width) if 2 <= column <= 3 else cell.ljust(width) for column, (cell, width) in enumerate(cells)]
            for cells in (zip(line, widths, strict=True) for line in lines)
        ]
        return "\n".join("  ".join(line).rstrip() for line in aligned)

    def save(self, path: str | Path) -> None:
        """Write the plan as NumPy's ``.npz``: its packed arrays, and all else as one text in JSON; no pickle."""
        text = json.dumps(asdict(self))
        with Path(path).open("wb") as file:
            np.savez_compressed(
                file, plan=np.frombuffer(text.encode(), np.uint8), offsets=self.offsets, costs_ms=self.flat_costs_ms,
                term_gates=self.term_gates, term_costs_ms=self.term_costs_ms,
            )  # fmt: skip

    @classmethod
    def load(cls, path: str | Path) -> CostPlan:
        """Read what `save` wrote.

        Raises:
            SearchError: if the file is no plan.
        """
        content = BytesIO(Path(path).read_bytes())
        try:
            with np.load(content, allow_pickle=False) as arrays:
                return _plan_of(json.loads(arrays["plan"].tobytes()))
        except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, BadZipFile, zlib.error) as error:
            raise SearchError(
                f"Expected {path} to be a plan that CostPlan.save wrote, but reading it fails: {error}"
            ) from error


def _leave_one_out(factors: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each factor of each row, the product of the row's others."""
    before, after = np.ones_like(factors), np.ones_like(factors)
    np.cumprod(factors[:, :-1], axis=1, out=before[:, 1:])
    after[:, :-1] = np.cumprod(factors[:, :0:-1], axis=1)[:, ::-1]
    product: NDArray[np.float64] = before * after
    return product


def _unlike(one: Sequence[object], other: Sequence[object]) -> bool:
    return len(one) != len(other)


def _cells(latency_ms: float, cost: Cost | None, expected_error: float | None) -> tuple[str, str, str]:
    if cost is None or cost.variance_ms2 is None:
        return f"{latency_ms:.4f}", "unknown", cost.source if cost else ""
    error_ms = (expected_error or 0.0) * MAE_TO_STD * cost.table_ms
    return f"{latency_ms:.4f}", f"{sqrt(error_ms**2 + cost.variance_ms2):.4f}", cost.source


def _plan_of(read: dict[str, Any]) -> CostPlan:
    """From JSON's lists to the plan's tuples."""
    terms = [Term(candidates=tuple(term["candidates"]), cost=Cost(**term["cost"])) for term in read["terms"]]
    return CostPlan(
        choices=tuple(read["choices"]),
        candidates=tuple(map(tuple, read["candidates"])),
        costs_ms=tuple(map(tuple, read["costs_ms"])),
        fixed_ms=read["fixed_ms"],
        terms=tuple(terms),
        costs=tuple(tuple(Cost(**cost) for cost in row) for row in read["costs"]),
        fixed=None if read["fixed"] is None else Cost(**read["fixed"]),
        expected_error=read["expected_error"],
    )
