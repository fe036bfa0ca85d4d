"""`KernelRegressor`: prices kernels that a table lacks by one model per family, for the logarithm of the latency."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from math import hypot, prod
from pathlib import Path

from threadpoolctl import threadpool_limits

from latency_nas.estimate.class_scales import kernel_class
from latency_nas.estimate.regressor.fit_cache import read_family, stored_forms, write_family
from latency_nas.estimate.regressor.fitted_family import FittedFamily, Regressed
from latency_nas.estimate.regressor.form_selection import FormSelection
from latency_nas.estimate.regressor.forms_file import FamilyKey, StoredForms, write_forms
from latency_nas.kernel import Kernel, is_memory_bound, n_flops
from latency_nas.table import LatencyTable

__all__ = ["KernelRegressor", "with_fitted_forms"]

logger = logging.getLogger(__name__)

_MIN_ROWS = 8  # with fewer rows, a family is not regressed
_SMALL = "ops that only touch memory"
_ROWS = "conv2d of rows"
_COMPUTED = frozenset({"fp32", "fp16", "bf16", "int8"})  # types that engines compute networks in


def _family_of(kernel: Kernel) -> str:
    """The family that prices a kernel.

    As a convolution of many images of one pixel, an engine runs a linear layer. Each mode of a resize is another code.
    """
    if kernel.op == "resize" and kernel.attributes["mode"] != "nearest":
        return f"resize of mode {kernel.attributes['mode']}"
    is_of_rows = kernel.family == "conv2d" and kernel.inputs[0][0] > 1 and prod(kernel.inputs[0][2:]) == 1
    return _ROWS if is_of_rows else kernel.family


def _as_priced(kernel: Kernel, key: FamilyKey) -> Kernel:
    """The kernel, of floats where those of its own family price it."""
    own = key[0] == _family_of(kernel) and key[1] != kernel.dtype
    return replace(kernel, dtype=key[1]) if own else kernel


class KernelRegressor:
    """Prices kernels of the families for which a table has enough rows.

    If the table carries fitted forms (`with_fitted_forms`), these are used; if not, a family is fitted when it is first
    needed. Families that are known to be memory-bound (copies, elementwise arithmetic) and have too few rows share one
    model. All other ops compute, and have no price without enough rows of their own.

    Args:
        table: Table whose rows are used.
        cache: Folder for fitted families, in files named by the table's fingerprint; None stores nothing.
    """

    def __init__(self, table: LatencyTable, *, cache: Path | None = None) -> None:
        self._table, self._cache = table, cache
        self._fitted: dict[FamilyKey, FittedFamily] = {}
        self._has_logged = False

    @cached_property
    def _stored(self) -> StoredForms | None:
        return stored_forms(self._table)

    @cached_property
    def _scales(self) -> Mapping[str, float]:
        return self._stored.scales if self._stored else {}

    @cached_property
    def _deviations(self) -> Mapping[str, float]:
        """Op -> relative standard deviation of its rows where a derived table states one: no fit to them is surer."""
        entries = self._table.entries.items() if self._table.datasheet.method == "derived" else ()
        return {key.partition(" ")[0]: row.std_ms / row.latency_ms for key, row in entries if row.std_ms is not None}

    @cached_property
    def _rows(self) -> dict[FamilyKey, list[tuple[Kernel, float]]]:
        """The rows of each family, parsed only if they are needed: that takes time, and stored forms do without."""
        rows: dict[FamilyKey, list[tuple[Kernel, float]]] = defaultdict(list)
        for kernel, entry in self._table.items():
            row = (kernel, entry.latency_ms)
            rows[_family_of(kernel), kernel.dtype].append(row)
            if is_memory_bound(kernel):
                rows[_SMALL, kernel.dtype].append(row)
        for family, dtype in [key for key in rows if key[0] == _ROWS and len(rows[key]) < _MIN_ROWS]:
            rows["conv2d", dtype] += rows.pop((family, dtype))
        return {key: found for key, found in rows.items() if len(found) >= _MIN_ROWS}

    @cached_property
    def _keys(self) -> frozenset[FamilyKey]:
        return frozenset(self._stored.families if self._stored else self._rows)

    def keep(self, families: Mapping[FamilyKey, FittedFamily]) -> None:
        """Use these families, and do not fit them to the table's rows."""
        self._fitted |= families

    def fit(self) -> None:
        """Fit or load all families now, not when they are first needed."""
        for key in sorted(self._keys):
            self._family(key)

    def selections(self) -> dict[tuple[str, str], tuple[int, FormSelection]]:
        """For each family and dtype that was fitted or loaded so far: its number of rows, and its selection."""
        return {key: (family.n_rows, family.selection) for key, family in self._fitted.items()}

    def to_bytes(self, fingerprint: str, scales: Mapping[str, float] | None = None) -> bytes:
        """All families as the bytes of a file that a table carries.

        Args:
            fingerprint: Fingerprint of that table.
            scales: Class of kernels -> factor of its latencies in that table, as `calibrate` finds it.
        """
        self.fit()
        factors = scales or {}
        scales = {name: self._scales.get(name, 1.0) * factors.get(name, 1.0) for name in {*self._scales, *factors}}
        return write_forms(StoredForms(fingerprint=fingerprint, scales=scales, families=self._fitted))

    @property
    def is_stored(self) -> bool:
        """Whether the table carries its fitted forms."""
        return self._stored is not None

    def predict(self, kernel: Kernel) -> Regressed | None:
        """The kernel's regressed latency; None if the table has too few rows for it."""
        return self.predict_many([kernel])[0]

    def predict_many(self, kernels: Sequence[Kernel]) -> list[Regressed | None]:
        """As `predict`, for many kernels at once, in their order."""
        found: list[Regressed | None] = [None] * len(kernels)
        by_key: dict[FamilyKey, list[int]] = defaultdict(list)
        for index, kernel in enumerate(kernels):
            if (key := self._key(kernel)) is not None:
                by_key[key].append(index)
        # one thread in the numeric libraries: on two cores, their threads cost more in waiting than they save
        with threadpool_limits(1):
            for key, indices in by_key.items():
                guesses = self._family(key).predict([_as_priced(kernels[index], key) for index in indices])
                for index, guess in zip(indices, guesses, strict=True):
                    found[index] = self._scaled(kernels[index], guess)
        return found

    def _scaled(self, kernel: Kernel, guess: Regressed) -> Regressed:
        if kernel.op in self._deviations:
            guess = replace(guess, std_ms=hypot(guess.std_ms, self._deviations[kernel.op] * guess.latency_ms))
        scale = self._scales.get(kernel_class(kernel), 1.0) if self._scales else 1.0
        if scale == 1:
            return guess
        return replace(guess, latency_ms=guess.latency_ms * scale, std_ms=guess.std_ms * scale)

    def _key(self, kernel: Kernel) -> FamilyKey | None:
        """The family that prices a kernel; None if there is none. Integers that are only moved count by their bytes."""
        family = _family_of(kernel)
        for name in (family, "conv2d") if family == _ROWS else (family,):
            if (name, kernel.dtype) in self._keys:
                return name, kernel.dtype
        if not is_memory_bound(kernel):
            # Integers that are moved one by one take the time of floats.
            return (family, "fp32") if not n_flops(kernel) and (family, "fp32") in self._keys else None
        small = (_SMALL, kernel.dtype if kernel.dtype in _COMPUTED else "fp32")
        return small if small in self._keys else None

    def _family(self, key: FamilyKey) -> FittedFamily:
        if key not in self._fitted:
            self._fitted[key] = self._stored.families[key] if self._stored else self._fit(key)
        return self._fitted[key]

    def _fit(self, key: FamilyKey) -> FittedFamily:
        path = self._cache / f"{self._table.fingerprint()}-{'-'.join(key)}.npz" if self._cache else None
        found = read_family(path, self._table, key) if path else None
        if found is not None:
            return found
        if not self._has_logged:
            self._has_logged = True
            logger.info("%s carries no fitted forms: `latency-nas table fit` makes them once.", self._table.name)
        from latency_nas.estimate.regressor.fitting import fit_family  # scikit-learn and torch

        kernels, latency_ms = zip(*self._rows[key], strict=True)
        family = fit_family(kernels, latency_ms)
        if path:
            write_family(path, self._table, key, family)
        return family


def with_fitted_forms(
    table: LatencyTable, *, cache: Path | None = None, kept: Mapping[FamilyKey, FittedFamily] | None = None
) -> LatencyTable:
    """The table with the fitted forms of its regressor, which `save_table` then stores beside it.

    Args:
        table: Table; if it carries usable forms already, it is returned unchanged.
        cache: Folder for fitted families, as `KernelRegressor` takes it.
        kept: Families that are not fitted again, so that what they price keeps its price: those of the table before
            rows were added to it.
    """
    regressor = KernelRegressor(table, cache=cache)
    regressor.keep(kept or {})
    return table if regressor.is_stored else replace(table, fitted=regressor.to_bytes(table.fingerprint()))
