"""The styles of supernets that are recognised as they are, one file each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.framework import Framework
from latency_nas.search.supernet.styles.own_children import find_own_children
from latency_nas.search.supernet.styles.per_op_alphas import find_per_op_alphas
from latency_nas.search.supernet.styles.shared_matrix import find_shared_matrix
from latency_nas.search.supernet.styles.single_path import find_single_paths

__all__ = ["STYLES"]

# description of a style -> function that finds the choices of a supernet of that style, and none in others
STYLES: dict[str, Callable[[Any, Framework], tuple[Choice, ...]]] = {
    "a module with a list of candidates and a parameter vector of its own": find_per_op_alphas,
    "a module whose children are candidates, with a parameter vector of its own": find_own_children,
    "matrices with a row for each list of candidates in a cell": find_shared_matrix,
    "lists of lists of candidates, without architecture parameters": find_single_paths,
}
