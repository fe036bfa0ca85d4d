"""`Architecture`: which candidate of each choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from latency_nas.errors import SearchError

__all__ = ["Architecture", "indices_of"]


class Architecture(dict[str, int]):
    """Choice -> the index of its candidate; a type, since a configuration (choice -> option) may have numbers, too."""


def indices_of(
    architecture: Mapping[str, int | str], choices: Sequence[str], candidates: Sequence[Sequence[str]]
) -> list[int]:
    """The index of the candidate that each choice is given, in the order of the choices.

    Args:
        architecture: Index of the candidate of each choice, or its name.
        choices: Names of the choices.
        candidates: Names of the candidates of each choice.

    Raises:
        SearchError: if the architecture does not give each choice one of its candidates.
    """
    if architecture.keys() != set(choices):
        differing = ", ".join(sorted(architecture.keys() ^ set(choices)))
        raise SearchError(
            f"Expected an architecture with a candidate for each choice and no more, but {differing} differ."
        )
    return [_index(architecture[name], name, names) for name, names in zip(choices, candidates, strict=True)]


def _index(picked: int | str, choice: str, names: Sequence[str]) -> int:
    index = names.index(picked) if picked in names else picked
    if not isinstance(index, int | np.integer) or not 0 <= index < len(names):
        or_name = f" or one of {', '.join(names)}" if isinstance(picked, str) else ""
        raise SearchError(f"Expected a candidate of `{choice}` from 0 to {len(names) - 1}{or_name}, but got {picked}.")
    return index


def check_gates(gates: ArrayLike, choices: Sequence[str], offsets: NDArray[np.intp]) -> NDArray[np.float64]:
    """`gates` as a vector of float64; its length and numbers are checked.

    Args:
        gates: Weight of each candidate, flat.
        choices: Names of the choices.
        offsets: Number of each choice's first candidate, and of all candidates.

    Raises:
        SearchError: if their number is another one, or they are not finite.
    """
    vector = np.asarray(gates, np.float64)
    if vector.shape != (offsets[-1],):
        raise SearchError(
            f"Expected a flat vector of {offsets[-1]} gates, one for each candidate of the {len(choices)} choices, but "
            f"got the shape {vector.shape}."
        )
    if not np.isfinite(vector).all():
        rows = np.searchsorted(offsets, np.flatnonzero(~np.isfinite(vector)), side="right") - 1
        names = ", ".join(f"`{choices[row]}`" for row in dict.fromkeys(rows))
        raise SearchError(f"Expected finite gates, but those of {names} are NaN or infinite.")
    return vector
