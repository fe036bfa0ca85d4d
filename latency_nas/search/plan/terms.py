"""Terms of a plan as arrays: for products of gates, and as tables of costs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.search.plan.bounds import Table, check_states
from latency_nas.search.plan.cost import Group, Term

__all__ = ["cells", "check_terms", "group_gates", "term_gates", "term_tables"]


def check_terms(terms: Sequence[Term], offsets: NDArray[np.intp]) -> None:
    """Check that terms name candidates, each of their groups those of one choice.

    Args:
        terms: Terms of a plan.
        offsets: Number of each choice's first candidate, and of all candidates.

    Raises:
        SearchError: if they do not.
    """
    for group in dict.fromkeys(group for term in terms for group in term.groups):
        if any(not 0 <= index < offsets[-1] for index in group):
            raise SearchError(f"Expected the terms of a plan to name candidates from 0 to {offsets[-1] - 1}.")
        if len(set(np.searchsorted(offsets, group, side="right").tolist())) != 1:
            raise SearchError(f"Expected a group of candidates of a plan's terms to be of one choice, but got {group}.")


def _groups(terms: Sequence[Term]) -> tuple[Group, ...]:
    return tuple(dict.fromkeys(group for term in terms for group in term.groups if len(group) != 1))


def group_gates(terms: Sequence[Term], n_gates: int) -> NDArray[np.bool_]:
    """Which gates are in each group of several candidates that a term has, of shape ``(groups, gates)``."""
    groups = _groups(terms)
    is_in = np.zeros((len(groups), n_gates), bool)
    for number, group in enumerate(groups):
        is_in[number, list(group)] = True
    return is_in


def term_gates(terms: Sequence[Term], n_gates: int) -> NDArray[np.intp]:
    """The factors of each term, of shape ``(terms, max_factors)``: gates, then groups, and at last 1 as padding."""
    columns = {group: n_gates + number for number, group in enumerate(_groups(terms))}
    rows = [[columns.get(group, *group[:1]) for group in term.groups] for term in terms]
    max_factors, one = max(map(len, rows), default=2), n_gates + len(columns)
    padded = [[*row, *[one] * (max_factors - len(row))] for row in rows]
    return np.array(padded, np.intp).reshape(len(terms), max_factors)


def cells(term: Term, offsets: NDArray[np.intp]) -> tuple[tuple[int, ...], tuple[NDArray[np.intp], ...]]:
    """The choices of a term, rising, and the cells of a table with an axis for each in which it adds its cost.

    Args:
        term: Term of a plan.
        offsets: Number of each choice's first candidate, and of all candidates.
    """
    groups = sorted(term.groups)
    rows = tuple([int(np.searchsorted(offsets, group[0], side="right")) - 1 for group in groups])
    return rows, np.ix_(*[np.array(group) - offsets[row] for row, group in zip(rows, groups, strict=True)])


def term_tables(terms: Sequence[Term], offsets: NDArray[np.intp], names: Sequence[str]) -> list[Table]:
    """The costs of terms: an array for each set of choices that share some, with an axis for each choice.

    Args:
        terms: Terms of a plan.
        offsets: Number of each choice's first candidate, and of all candidates.
        names: Names of the choices.

    Raises:
        SearchError: if too many choices share a term.
    """
    sizes = np.diff(offsets).tolist()
    tables: dict[tuple[int, ...], NDArray[np.float64]] = {}
    for term in terms:
        rows, cell = cells(term, offsets)
        if rows not in tables:
            check_states(rows, sizes, names)
            tables[rows] = np.zeros([sizes[row] for row in rows])
        tables[rows][cell] += term.cost.value
    return list(tables.items())
