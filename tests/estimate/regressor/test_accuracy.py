"""What is said of the regressor, against leaving rows out by hand; and what is kept of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from latency_nas.estimate.regressor.accuracy import forest_of_paddleslim, regressor_accuracy
from latency_nas.estimate.regressor.fit_cache import read_family, write_family
from latency_nas.estimate.regressor.fitted_family import FittedFamily
from latency_nas.estimate.regressor.fitting import fit_family
from latency_nas.estimate.regressor.form_selection import FormSelection
from latency_nas.estimate.regressor.regressor import KernelRegressor
from latency_nas.kernel import Kernel
from latency_nas.table import LatencyTable
from tests.estimate.regressor.test_regressor import conv, noisy_table
from tests.estimate.test_estimator import SHEET

KERNELS = [conv(c_in, c_out, size) for c_in in (8, 20, 48) for c_out in (16, 24, 60) for size in (7, 14, 28)]


@pytest.fixture(scope="module")
def table() -> LatencyTable:
    return noisy_table(KERNELS)


@pytest.fixture(scope="module")
def family(table: LatencyTable) -> FittedFamily:
    return fit_family(KERNELS, [table[kernel].latency_ms for kernel in KERNELS])


def test_the_stated_error_is_that_of_rows_left_out_by_hand(table: LatencyTable) -> None:
    (row,) = regressor_accuracy(table)
    assert (row.family, row.dtype, row.n_rows) == ("conv2d", "fp32", len(KERNELS))
    errors = []
    for kernel in KERNELS[::3]:
        rest = {other: entry for other, entry in table.items() if other != kernel}
        guess = KernelRegressor(LatencyTable.of(rest, SHEET)).predict(kernel)
        assert guess is not None
        errors.append(abs(guess.latency_ms / table[kernel].latency_ms - 1))
    assert row.near_error == pytest.approx(np.mean(errors), rel=0.6)
    assert row.near_within == pytest.approx(np.mean(np.array(errors) <= 0.1), abs=0.25)
    assert row.far_error >= row.near_error / 2
    assert row.near_covered == pytest.approx(0.9, abs=0.1)
    assert row.far_covered >= 0.8
    assert row.peer_error is None


def test_the_peer_is_fitted_to_the_same_rows(table: LatencyTable) -> None:
    """Milliseconds as they are, over a range of a thousand: its relative error is far above that of this library."""
    (row,) = regressor_accuracy(table, beside_peer=True)
    assert row.peer_error is not None
    assert row.peer_error > 2 * row.far_error
    kernels = list(table)
    own = forest_of_paddleslim(kernels, np.array([table[kernel].latency_ms for kernel in kernels]), kernels)
    assert np.corrcoef(own, [table[kernel].latency_ms for kernel in kernels])[0, 1] > 0.9


def test_pools_have_features_of_the_peer() -> None:
    attrs = {"kernel": (2, 2), "stride": (2, 2), "pad": (0, 0, 0, 0), "type": "max"}
    local = [Kernel.of("pool2d", [(1, c, 8, 8)], [(1, c, 4, 4)], **attrs) for c in (8, 16)]
    whole = [Kernel.of("pool2d", [(1, c, 8, 8)], [(1, c, 1, 1)], **attrs, **{"global": 1}) for c in (8, 16)]
    found = forest_of_paddleslim([*local, *whole], np.array([1.0, 2.0, 3.0, 4.0]), [*local, *whole])
    assert list(np.argsort(found)) == [0, 1, 2, 3]


def test_many_are_priced_as_one_by_one(table: LatencyTable) -> None:
    regressor = KernelRegressor(table)
    wanted = [conv(30, 30, 14), Kernel.of("softmax", [(1, 8)], [(1, 8)], axis=1), conv(9, 50, 7)]
    together = regressor.predict_many(wanted)
    assert together[1] is None
    for kernel, guess in zip(wanted, together, strict=True):
        alone = regressor.predict(kernel)
        assert (alone is None) == (guess is None)
        if alone and guess:
            assert alone.latency_ms == pytest.approx(guess.latency_ms, rel=1e-9)
            assert alone.std_ms == pytest.approx(guess.std_ms, rel=1e-6)


KEY = ("conv2d", "fp32")


def test_a_family_comes_back_from_its_file(table: LatencyTable, family: FittedFamily, tmp_path: Path) -> None:
    path = tmp_path / "new" / "family.npz"
    assert read_family(path, table, KEY) is None
    write_family(path, table, KEY, family)
    back = read_family(path, table, KEY)
    assert back is not None
    assert back.selection == family.selection
    assert back.predict([conv(30, 30, 14)]) == family.predict([conv(30, 30, 14)])
    assert [item.name for item in path.parent.iterdir()] == ["family.npz"]


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 0}', '{"format": 4, "form": "log-linear"}'])
def test_a_damaged_file_is_made_again(
    text: str, table: LatencyTable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "family.npz"
    path.write_text(text, encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert read_family(path, table, KEY) is None
    assert caplog.messages[0].startswith(f"{path} cannot be used (")
    assert caplog.messages[0].endswith("): it is made again.")


def test_widths_that_do_not_fit_their_edges_are_refused(family: FittedFamily) -> None:
    data = json.loads(json.dumps(family.selection.to_dict()))
    data["far_widths"] = []
    with pytest.raises(ValueError, match=r"^Expected a form and its widths, but got '.*'\.$"):
        FormSelection.from_dict(data)
