"""`choose_form`: the form of regression that fits a family best, and its errors, on rows that were left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold, KFold

from latency_nas.estimate.conformal import conformal_quantile
from latency_nas.estimate.regressor.covariance import Covariance, Floats
from latency_nas.estimate.regressor.family import FamilyModel
from latency_nas.estimate.regressor.form_selection import FormSelection, difficulty, stated_deviation
from latency_nas.estimate.regressor.forms import FORMS

__all__ = ["choose_form", "left_out_folds", "mean_of_groups"]

_FOLDS = 5
_MAX_CHECKED = 4000  # largest number of left-out rows that errors are computed for
_GAIN = 0.98  # a form is preferred to a simpler one if it makes the error smaller by 2 %
_MAX_ERROR = 1.0  # limit of one row's error, so that one absurd guess does not decide
_BINS, _GROUPS_OF_BIN = 8, 50


def choose_form(model: FamilyModel) -> FormSelection:
    """Choose a form for the rows that a model is fitted to.

    Every form is tested on single rows that are left out (near: a kernel whose neighbours are in the table) and on
    whole groups of near-duplicates that are left out (far: a kernel unlike all in the table). The form with the
    smallest mean of both errors is chosen. The widths of the intervals come from the same errors.
    """
    near = _left_out(model, None) if not model.has_forest else _own_rows_left_out(model)
    far = _left_out(model, model.rows.groups) if np.ptp(model.rows.groups) else near
    errors = {form: (_mean(near[form]), _mean(far[form])) for form in FORMS if form in near and form in far}
    best = next(iter(errors))
    for form, pair in errors.items():
        if sum(pair) < _GAIN * sum(errors[best]):
            best = form
    covariance = model.covariance
    (near_edges, near_widths), (far_edges, far_widths) = (_widths(covariance, part, best) for part in (near, far))
    hard = np.concatenate([difficulty(covariance, part["v"]) for part in (near, far)])
    return FormSelection(
        form=best, covariance=covariance, near_error=errors[best][0], far_error=errors[best][1],
        near_within=float((np.abs(np.expm1(near[best])) <= 0.1).mean()), near_covered=_covered(covariance, near, best),
        far_covered=_covered(covariance, far, best), near_edges=near_edges,
        near_widths=near_widths, far_edges=far_edges, far_widths=far_widths, farthest=float(np.quantile(hard, 0.99)),
    )  # fmt: skip


def _widths(covariance: Covariance, left_out: dict[str, Any], form: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    ratio = np.abs(left_out[form]) / stated_deviation(covariance, left_out["v"], left_out["t"])
    hard, groups = difficulty(covariance, left_out["v"]), left_out["g"]
    n_bins = int(np.clip(len(np.unique(groups)) // _GROUPS_OF_BIN, 1, _BINS))
    edges = np.unique(np.quantile(hard, np.linspace(0, 1, n_bins + 1)[1:-1]))
    where = np.searchsorted(edges, hard)
    widths = (conformal_quantile(ratio[where == i], groups[where == i]) for i in range(len(edges) + 1))
    return tuple(edges.tolist()), tuple(widths)


def _covered(covariance: Covariance, left_out: dict[str, Any], form: str) -> float:
    """The share of rows in intervals that are computed from other groups; each group has the same weight."""
    groups, ratio = left_out["g"], np.abs(left_out[form]) / stated_deviation(covariance, left_out["v"], left_out["t"])
    hard, inside = difficulty(covariance, left_out["v"]), np.zeros(len(ratio))
    for rest, test in GroupKFold(min(_FOLDS, len(np.unique(groups)))).split(ratio, groups=groups):
        part = {name: values[rest] for name, values in left_out.items()}
        edges, widths = _widths(covariance, part, form)
        inside[test] = ratio[test] <= np.asarray(widths)[np.searchsorted(edges, hard[test])]
    return mean_of_groups(inside, groups)


def mean_of_groups(values: Floats, groups: NDArray[Any]) -> float:
    """The mean over groups of the mean of each."""
    index, sizes = np.unique(groups, return_inverse=True, return_counts=True)[1:]
    return float((np.bincount(index, values) / sizes).mean())


def _mean(error: Floats) -> float:
    return float(np.minimum(np.abs(np.expm1(error)), _MAX_ERROR).mean())


def _sample(index: NDArray[np.intp], max_rows: int) -> NDArray[np.intp]:
    """At most `max_rows` of the indices."""
    return index if len(index) <= max_rows else np.sort(np.random.default_rng(0).choice(index, max_rows, replace=False))


def _own_rows_left_out(model: FamilyModel) -> dict[str, Any]:
    rows = _sample(np.arange(len(model.rows.latency_ms)), _MAX_CHECKED)
    return _errors(*model.without_own_row(rows), model.rows.latency_ms[rows], rows)


def left_out_folds(n_rows: int, groups: NDArray[np.intp] | None) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Indices of rows to fit, and of a sample of the rows left out: whole groups, or single rows without groups."""
    n_folds = min(_FOLDS, len(np.unique(groups)) if groups is not None else n_rows)
    folds = GroupKFold(n_folds) if groups is not None else KFold(n_folds, shuffle=True, random_state=0)
    for kept, left_out in folds.split(np.empty(n_rows), groups=groups):
        yield kept, _sample(left_out, _MAX_CHECKED // n_folds)


def _left_out(model: FamilyModel, groups: NDArray[np.intp] | None) -> dict[str, Any]:
    rows, parts = model.rows, []
    for kept, test in left_out_folds(len(rows.latency_ms), groups):
        fitted = model.refitted(kept)
        left_out_with = test if groups is None else groups[test]
        parts.append(_errors(*fitted.forms.predict(rows.x[test]), rows.latency_ms[test], left_out_with))
    names = set.intersection(*(set(part) for part in parts))
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def _errors(
    guesses: dict[str, Floats], variance: Floats, latency_ms: Floats, groups: NDArray[np.intp]
) -> dict[str, Any]:
    """Log errors by form; under "v" the variances, under "t" the latencies, under "g" the groups that were left out."""
    errors = {form: guess - np.log(latency_ms) for form, guess in guesses.items()}
    return errors | {"v": variance, "t": latency_ms, "g": groups}
