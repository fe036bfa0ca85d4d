"""Selects the runs of one condition. If a file holds several, the user says which one is meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from latency_nas.errors import TableFileError
from latency_nas.table.formats.networks.run import NetworkRun

__all__ = ["of_one_condition"]

_N_LISTED = 12


def of_one_condition(
    source: Path, runs: Sequence[NetworkRun], wanted: Mapping[str, str | None]
) -> tuple[NetworkRun, ...]:
    """The runs with the wanted conditions, which must leave no other condition open.

    Args:
        source: File of the runs.
        runs: All runs of the file.
        wanted: Value of each condition by name; None where it is not given.

    Raises:
        TableFileError: if a condition has another value than the file has, or is needed and not given.
    """
    for name, value in wanted.items():
        known = list(dict.fromkeys(run.conditions[name] for run in runs))
        if value is not None and value not in known:
            raise TableFileError(f"Expected {name} of {source} to be one of {_listed(known)}, but got {value!r}.")
        if value is not None:
            runs = [run for run in runs if run.conditions[name] == value]
    for name, value in wanted.items():
        left = list(dict.fromkeys(run.conditions[name] for run in runs))
        if value is None and len(left) > 1:
            raise TableFileError(
                f"Expected the {name} whose times are meant, since {source} has several ({_listed(left)}): pass "
                f"--option {name}=..."
            )
    return tuple(runs)


def _listed(values: Sequence[str]) -> str:
    more = f" and {len(values) - _N_LISTED} more" if len(values) > _N_LISTED else ""
    return ", ".join(values[:_N_LISTED]) + more
