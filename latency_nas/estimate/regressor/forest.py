"""`FlatForest`: a fitted forest as plain arrays, which predicts without scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FlatForest"]

_CHUNK = 512  # rows at once: intermediate results then stay in the cache


@dataclass(frozen=True, slots=True, kw_only=True)
class FlatForest:
    """The nodes of all trees in arrays, tree after tree, each depth first: the next node is a node's left child.

    Args:
        feature: Column that a node compares, ``(nodes,)``; 0 for a leaf.
        value: Threshold of a node, ``(nodes,)``; a row goes left if its column is at most that. For a leaf, its
            prediction.
        right: Distance to a node's right child, in nodes, ``(nodes,)``; 0 for a leaf.
        roots: First node of each tree, ``(trees,)``.
    """

    feature: NDArray[np.uint8]
    value: NDArray[np.float32]
    right: NDArray[np.int32]
    roots: NDArray[np.int32]

    def __post_init__(self) -> None:
        n_nodes = len(self.value)
        ends = np.arange(n_nodes) + self.right
        whole = len(self.feature) == len(self.right) == n_nodes > 0 and len(self.roots) > 0
        if not whole or self.right.min() < 0 or ends.max() >= n_nodes or self.right[-1]:
            raise ValueError("Expected the nodes of trees, depth first, but children lie outside of them.")
        if self.roots.min() < 0 or self.roots.max() >= n_nodes:
            raise ValueError("Expected the first node of each tree, but one lies outside.")

    @classmethod
    def of(cls, forest: Any) -> FlatForest:
        """The flat form of scikit-learn's forest, its thresholds rounded down to floats, which split floats equally."""
        trees = [estimator.tree_ for estimator in forest.estimators_]
        parts = [_nodes(tree) for tree in trees]
        feature, value, right = (np.concatenate(column) for column in zip(*parts, strict=True))
        roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])], dtype=np.int32)
        return cls(feature=feature, value=value, right=right, roots=roots)

    def predict(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean over trees, ``(kernels,)``.

        Args:
            x: Features, ``(kernels, features)``.
        """
        single = x.astype(np.float32)
        parts = [self._predict(single[start : start + _CHUNK]) for start in range(0, len(x), _CHUNK)]
        return np.concatenate(parts) if parts else np.empty(0)

    def _predict(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        node = np.tile(self.roots, len(x))
        row = np.repeat(np.arange(len(x)), len(self.roots))
        active = np.arange(len(node))
        while len(active):
            here = node[active]
            inner = self.right[here] > 0
            active, here = active[inner], here[inner]
            left = x[row[active], self.feature[here]] <= self.value[here]
            node[active] = here + np.where(left, 1, self.right[here])
        return np.asarray(self.value[node].reshape(len(x), -1).mean(axis=1, dtype=np.float64))


def _nodes(tree: Any) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.int32]]:
    index = np.arange(tree.node_count)
    inner = tree.children_left >= 0
    if not np.array_equal(tree.children_left[inner], index[inner] + 1):
        raise ValueError("Expected scikit-learn to number a tree's nodes depth first, but it does not.")
    exact = np.where(inner, tree.threshold, -np.inf)
    single = exact.astype(np.float32)
    down = np.where(single > exact, np.nextafter(single, np.float32(-np.inf)), single)
    return (
        np.where(inner, tree.feature, 0).astype(np.uint8),
        np.where(inner, down, tree.value[:, 0, 0]).astype(np.float32),
        np.where(inner, tree.children_right - index, 0).astype(np.int32),
    )
