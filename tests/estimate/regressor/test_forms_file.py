"""Fitted forms that a table carries: they are those that fitting gives, and a file that was damaged is not used."""

from __future__ import annotations

import io
import logging
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import ExtraTreesRegressor

from latency_nas.estimate import LatencyEstimator
from latency_nas.estimate.calibration import NetworkTime, calibrate
from latency_nas.estimate.class_scales import kernel_class
from latency_nas.estimate.regressor.fit_cache import stored_forms
from latency_nas.estimate.regressor.forest import FlatForest
from latency_nas.estimate.regressor.regressor import KernelRegressor, with_fitted_forms
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.table import Entry, LatencyTable, load_table, save_table
from tests.estimate.regressor.test_regressor import conv, noisy_table
from tests.estimate.test_estimator import SHEET

KERNELS = [
    conv(c_in, c_out, size, k) for c_in in (8, 20, 48) for c_out in (16, 24, 60) for size in (7, 14) for k in (1, 3)
]
UNSEEN = [conv(30, 30, 14), conv(9, 50, 7, 1), conv(8, 8, 30)]


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    return noisy_table(KERNELS)


@pytest.fixture(scope="module")
def fitted(table: LatencyTable) -> LatencyTable:
    return with_fitted_forms(table)


def test_a_flat_forest_says_what_the_forest_says() -> None:
    random = np.random.default_rng(0)
    x = np.round(random.normal(size=(300, 4)), 1)  # thresholds that values are close to
    forest = ExtraTreesRegressor(20, min_samples_leaf=2, bootstrap=True, random_state=0).fit(x, x.sum(axis=1))
    at = np.concatenate([x, random.normal(size=(900, 4))])
    np.testing.assert_allclose(FlatForest.of(forest).predict(at), forest.predict(at), rtol=1e-6, atol=1e-7)


def test_stored_forms_are_those_that_fitting_gives(table: LatencyTable, fitted: LatencyTable, tmp_path: Path) -> None:
    kept = load_table(save_table(fitted, tmp_path / "table.parquet"))
    regressor = KernelRegressor(kept)
    assert regressor.is_stored
    assert regressor.predict_many(UNSEEN) == KernelRegressor(table).predict_many(UNSEEN)
    assert with_fitted_forms(kept) is kept


def test_nothing_of_autograd_is_needed(table: LatencyTable, fitted: LatencyTable) -> None:
    expected = KernelRegressor(fitted).predict_many(UNSEEN)
    for nothing_kept in (torch.no_grad(), torch.inference_mode()):
        with nothing_kept:
            assert KernelRegressor(fitted).predict_many(UNSEEN) == expected
            assert KernelRegressor(table).predict_many(UNSEEN) == expected


def test_a_calibrated_table_inherits_the_forms_scaled(fitted: LatencyTable) -> None:
    runs = [
        NetworkTime(name=str(number), kernels=(KernelCall(kernel=kernel, layer="", nodes=()),), latency_ms=factor)
        for number, (kernel, factor) in enumerate(zip(KERNELS[:6], np.linspace(1, 2, 6), strict=True))
    ]
    table, calibration = calibrate(fitted, runs, device="Slow board", other_device=True)
    assert isinstance(table.fitted, bytes)
    before, after = (KernelRegressor(one).predict_many(UNSEEN[:2]) for one in (fitted, table))
    for kernel, guess, scaled in zip(UNSEEN, before, after, strict=False):
        assert guess is not None
        assert scaled is not None
        factor = calibration.scales[kernel_class(kernel)]
        assert scaled.latency_ms == pytest.approx(guess.latency_ms * factor, rel=1e-12)
        assert scaled.std_ms == pytest.approx(guess.std_ms * factor, rel=1e-12)
    again, _ = calibrate(table, runs, device="Third board", other_device=True)
    assert KernelRegressor(again).is_stored


def _changed(content: bytes, at: int) -> bytes:
    return content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :]


def _with_objects() -> bytes:
    made = io.BytesIO()
    np.savez(made, header=np.array([{"a": 1}], dtype=object))
    return made.getvalue()


@pytest.mark.parametrize("damage", ["cut", "empty", "changed", "pickle", "objects"])
def test_a_damaged_file_is_left_aside_with_one_warning(
    damage: str, fitted: LatencyTable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = save_table(fitted, tmp_path / "table.parquet")
    forms = tmp_path / "table.forms.npz"
    whole = forms.read_bytes()
    damaged = {
        "cut": whole[: len(whole) // 2],
        "empty": b"",
        "changed": _changed(whole, len(whole) // 2),
        "pickle": pickle.dumps([1]),
        "objects": _with_objects(),
    }
    forms.write_bytes(damaged[damage])
    with caplog.at_level(logging.WARNING):
        regressor = KernelRegressor(load_table(path))
        guesses = regressor.predict_many(UNSEEN)
    assert None not in guesses
    assert not regressor.is_stored
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(
        f"{forms} cannot be used (Expected fitted forms of latency_nas, but got another"
    )
    assert caplog.messages[0].endswith("): families are fitted anew.")


def test_forms_of_another_table_are_left_aside(fitted: LatencyTable, caplog: pytest.LogCaptureFixture) -> None:
    rows = {kernel: Entry(latency_ms=2 * entry.latency_ms) for kernel, entry in fitted.items()}
    other = replace(LatencyTable.of(rows, SHEET, name="another"), fitted=fitted.fitted)
    with caplog.at_level(logging.WARNING):
        assert stored_forms(other) is None
    assert caplog.text.rstrip().endswith(
        "what another carries cannot be used (Expected forms fitted to another as it is, but they were fitted to "
        "another table): families are fitted anew."
    )
    assert len(caplog.messages) == 1


def test_a_table_without_forms_says_so_once(
    table: LatencyTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LATENCY_NAS_CACHE", str(tmp_path))
    with caplog.at_level(logging.INFO):
        estimator = LatencyEstimator(table, on_missing="regress")
        for kernel in UNSEEN:
            estimator.price([KernelCall(kernel=kernel, layer="", nodes=())])
    assert caplog.messages == ["unsaved table carries no fitted forms: `latency-nas table fit` makes them once."]
