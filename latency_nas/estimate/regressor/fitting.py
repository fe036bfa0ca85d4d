"""Fitting: from the rows of a family to its `FittedFamily`. Only this imports scikit-learn and torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from threadpoolctl import threadpool_limits

from latency_nas.estimate.regressor.family import FamilyModel, Rows
from latency_nas.estimate.regressor.features import feature_matrix
from latency_nas.estimate.regressor.fitted_family import FittedFamily, shape_of
from latency_nas.estimate.regressor.form_selection import FormSelection
from latency_nas.estimate.regressor.forms import FORMS_OF_FOREST
from latency_nas.estimate.regressor.selecting import choose_form
from latency_nas.kernel import Kernel

__all__ = ["family_of", "fit_family", "rows_of"]


def rows_of(kernels: Sequence[Kernel], latency_ms: Sequence[float]) -> Rows:
    """The rows that a family's forms are fitted to."""
    groups = np.unique([shape_of(kernel) for kernel in kernels], return_inverse=True)[1]
    return Rows(x=feature_matrix(kernels), latency_ms=np.array(latency_ms, dtype=np.float64), groups=groups)


def fit_family(kernels: Sequence[Kernel], latency_ms: Sequence[float]) -> FittedFamily:
    """Fit all forms to the rows of a family, and choose one by its errors on rows that were left out.

    Args:
        kernels: Kernel of each row.
        latency_ms: Latency of each row.
    """
    # one thread in the numeric libraries: on two cores, their threads cost more in waiting than they save
    with threadpool_limits(1):
        model = FamilyModel(rows_of(kernels, latency_ms))
        return family_of(model, choose_form(model), kernels)


def family_of(model: FamilyModel, selection: FormSelection, kernels: Sequence[Kernel]) -> FittedFamily:
    """The part of a fitted model that is kept: without the forest, unless the chosen form needs it."""
    forms = model.forms if selection.form in FORMS_OF_FOREST else replace(model.forms, forest=None)
    return FittedFamily(
        forms=forms, selection=selection, low=model.rows.x.min(axis=0), high=model.rows.x.max(axis=0),
        shapes=frozenset(map(shape_of, kernels)),
    )  # fmt: skip
