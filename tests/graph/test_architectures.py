"""Which architectures are metered: every candidate often enough, and others to check on."""

from __future__ import annotations

from collections import Counter
from math import prod

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_nas.graph.architectures import covering_architectures, random_architectures

SPACES = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 7), min_size=1)
SEEDS = st.integers(0, 2**32)
QUICK = settings(max_examples=60, deadline=None, database=None, derandomize=True)


def distinct(architectures: list[dict[str, int]]) -> set[tuple[tuple[str, int], ...]]:
    return {tuple(sorted(architecture.items())) for architecture in architectures}


def within(architectures: list[dict[str, int]], space: dict[str, int]) -> bool:
    return all(
        list(architecture) == list(space) and all(0 <= architecture[name] < size for name, size in space.items())
        for architecture in architectures
    )


@QUICK
@given(space=SPACES, times=st.integers(0, 5), seed=SEEDS)
def test_each_candidate_occurs_and_none_too_often(space: dict[str, int], times: int, seed: int) -> None:
    architectures = covering_architectures(space, times=times, seed=seed)
    largest = max(space.values())
    assert len(architectures) == times * largest
    assert within(architectures, space)
    for name, size in space.items():
        n_networks = Counter(architecture[name] for architecture in architectures)
        assert all(
            times * (largest // size) <= n_networks[index] <= times * -(-largest // size) for index in range(size)
        )


@QUICK
@given(space=SPACES, times=st.integers(0, 5), seed=SEEDS)
def test_equal_seeds_give_equal_architectures(space: dict[str, int], times: int, seed: int) -> None:
    assert covering_architectures(space, times=times, seed=seed) == covering_architectures(
        space, times=times, seed=seed
    )


def test_another_seed_gives_other_architectures() -> None:
    space = {"a": 7, "b": 7}
    assert covering_architectures(space, times=3, seed=0) != covering_architectures(space, times=3, seed=1)


@pytest.mark.parametrize("size", [2, 4])
def test_candidates_of_unlike_choices_are_mixed(size: int) -> None:
    architectures = covering_architectures({"a": 2, "b": size, "c": 40}, times=1)
    pairs = {(architecture["a"], architecture["b"]) for architecture in architectures}
    assert len(pairs) == 2 * size  # without a shuffle, each of `b` would only occur with one of `a`


@QUICK
@given(space=SPACES, n=st.integers(0, 12), seed=SEEDS)
def test_random_architectures_are_as_many_as_the_space_holds(space: dict[str, int], n: int, seed: int) -> None:
    found = random_architectures(space, n, seed=seed)
    assert found == random_architectures(space, n, seed=seed)
    assert within(found, space)
    assert len(distinct(found)) == len(found) == min(n, prod(space.values()))


@QUICK
@given(space=SPACES, n=st.integers(0, 12), seed=SEEDS)
def test_random_architectures_are_unlike_those_given(space: dict[str, int], n: int, seed: int) -> None:
    architectures = covering_architectures(space, times=1, seed=seed)
    found = random_architectures(space, n, seed=seed, unlike=architectures)
    assert distinct(found).isdisjoint(distinct(architectures))
    assert len(distinct(found)) == len(found) <= min(n, prod(space.values()) - len(distinct(architectures)))


def test_the_last_architecture_left_is_found() -> None:
    every = [{"a": a, "b": b, "c": c} for a in range(10) for b in range(10) for c in range(10)]
    found = random_architectures({"a": 10, "b": 10, "c": 10}, 1, seed=0, unlike=every[:500] + every[501:])
    assert found == [every[500]]


def test_each_candidate_is_equally_likely() -> None:
    found = random_architectures({"a": 4, "b": 50}, 160, seed=0)
    n_networks = Counter(architecture["a"] for architecture in found)
    assert all(n_networks[index] == pytest.approx(40, abs=20) for index in range(4))


def test_the_last_architectures_of_a_large_space_are_found() -> None:
    """More than are listed, with five left: drawn until the five are found, and then it stops."""
    choices = {"a": 101, "b": 101}
    everything = [{"a": a, "b": b} for a in range(101) for b in range(101)]
    found = random_architectures(choices, 10, seed=0, unlike=everything[5:])
    assert sorted(found, key=lambda architecture: architecture["b"]) == everything[:5]
