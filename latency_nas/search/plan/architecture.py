"""`Architecture`: which candidate of each choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

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
