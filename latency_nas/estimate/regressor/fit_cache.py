"""Fitted forms of a table, stored beside it or in the user's cache. They are arrays: nothing in them is executed."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from latency_nas.estimate.regressor.fitted_family import FittedFamily
from latency_nas.estimate.regressor.forms_file import FamilyKey, StoredForms, read_forms, write_forms
from latency_nas.table import LatencyTable
from latency_nas.table.whole_file import whole_file

__all__ = ["cache_folder", "read_family", "stored_forms", "write_family"]

logger = logging.getLogger(__name__)


def cache_folder() -> Path:
    """The folder for fitted forms, in the one that `LATENCY_NAS_CACHE` names or in the user's cache."""
    from latency_nas.table.download import CACHE_VARIABLE

    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser() / "regressors"
    import pooch  # imported only here: it takes a tenth of a second

    return Path(pooch.os_cache("latency_nas")) / "regressors"


def stored_forms(table: LatencyTable) -> StoredForms | None:
    """The forms that a table carries. None if it carries none, or if they cannot be used, which is logged."""
    if table.fitted is None:
        return None
    place = table.fitted if isinstance(table.fitted, Path) else f"what {table.name} carries"
    try:
        content = table.fitted.read_bytes() if isinstance(table.fitted, Path) else table.fitted
        return _check_fingerprint(read_forms(content), table)
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be used (%s): families are fitted anew.", place, error)
        return None


def _check_fingerprint(forms: StoredForms, table: LatencyTable) -> StoredForms:
    """The forms, if they were fitted to this table.

    Raises:
        ValueError: if they were fitted to another one.
    """
    if forms.fingerprint != table.fingerprint():
        raise ValueError(f"Expected forms fitted to {table.name} as it is, but they were fitted to another table")
    return forms


def read_family(path: Path, table: LatencyTable, key: FamilyKey) -> FittedFamily | None:
    """The fitted regressor of a family of kernels, from the cache; None if it is not there or, logged, unusable."""
    try:
        return _check_fingerprint(read_forms(path.read_bytes()), table).families[key]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        logger.warning("%s cannot be used (%s): it is made again.", path, error)
        return None


def write_family(path: Path, table: LatencyTable, key: FamilyKey, family: FittedFamily) -> None:
    """Store a family in the cache; a failure is only logged."""
    forms = StoredForms(fingerprint=table.fingerprint(), scales={}, families={key: family})
    try:
        with whole_file(path) as partial:
            partial.write_bytes(write_forms(forms))
    except OSError as error:
        logger.warning("%s cannot be written (%s): the regressor is fitted again next time.", path, error)
