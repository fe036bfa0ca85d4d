"""Decision diagrams against the functions that they stand for, architecture by architecture."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from latency_nas.search.plan.diagrams import Diagrams

SIZES = (2, 3, 2, 4)
ROWS = list(product(*map(range, SIZES)))


def of_table(diagrams: Diagrams, values: list[int]) -> int:
    """The function with these values for all architectures in order."""
    table = dict(zip(ROWS, values, strict=True))
    return diagrams.apply(lambda *row: table[row], *map(diagrams.choice, range(len(SIZES))))


tables = st.lists(st.integers(0, 2), min_size=len(ROWS), max_size=len(ROWS))


@given(tables)
def test_values_paths_and_cases_are_those_of_the_function(values: list[int]) -> None:
    diagrams = Diagrams(SIZES)
    function = of_table(diagrams, values)
    assert [diagrams.value(function, row) for row in ROWS] == values
    assert sorted(diagrams.values(function)) == sorted(set(values))
    covered = []
    for path, value in diagrams.paths(function):
        rows = list(product(*[path.get(choice, range(size)) for choice, size in enumerate(SIZES)]))
        assert {diagrams.value(function, row) for row in rows} == {value}
        covered += rows
    assert sorted(covered) == ROWS  # every architecture is in one case and no more


@given(tables, tables)
def test_equal_functions_are_one(one: list[int], other: list[int]) -> None:
    diagrams = Diagrams(SIZES)
    first, second = of_table(diagrams, one), of_table(diagrams, other)
    assert (first == second) == (one == other)
    total = diagrams.apply(lambda a, b: a + b, first, second)
    assert total == of_table(diagrams, [a + b for a, b in zip(one, other, strict=True)])


@given(tables, st.lists(tables, min_size=2, max_size=2))
def test_a_switch_has_the_function_of_its_value(values: list[int], of: list[list[int]]) -> None:
    diagrams = Diagrams(SIZES)
    functions = dict(enumerate(of_table(diagrams, given) for given in of))
    switched = diagrams.switch(of_table(diagrams, values), functions, diagrams.constant(7))
    given = [*of, [7] * len(ROWS)]
    assert switched == of_table(diagrams, [given[value][row] for row, value in enumerate(values)])


@given(tables, st.integers(0, 99))
def test_a_path_leads_to_its_value(values: list[int], seed: int) -> None:
    diagrams, random = Diagrams(SIZES), np.random.default_rng(seed)
    function = of_table(diagrams, values)
    for value in set(values):
        path = diagrams.path_to(function, value, random)
        row = [path.get(choice, (0,))[0] for choice in range(len(SIZES))]
        assert diagrams.value(function, row) == value


def test_a_node_of_many_edges_is_small() -> None:
    """That any of 40 edges is not zero has 4^40 architectures, and a node for each edge."""
    diagrams = Diagrams([4] * 40)
    some = diagrams.constant(False)
    for number in range(40):
        some = diagrams.apply(lambda found, index: found or index != 0, some, diagrams.choice(number))
    assert len(list(diagrams.paths(some))) == 41
    assert prod(len(candidates) for candidates in diagrams.path_to(some, False, np.random.default_rng(0)).values()) == 1


def test_true_is_not_one() -> None:
    diagrams = Diagrams([2])
    assert diagrams.constant(True) != diagrams.constant(1)
