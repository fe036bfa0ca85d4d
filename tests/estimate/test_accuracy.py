"""How far predictions are from measurements, as figures."""

from __future__ import annotations

import pytest

from latency_nas.errors import TableError
from latency_nas.estimate.accuracy import Accuracy


def test_the_figures_by_hand() -> None:
    accuracy = Accuracy(predicted_ms=(1.1, 1.9, 3.0), measured_ms=(1.0, 2.0, 3.0), repeat_error=0.004)
    assert accuracy.mean_error == pytest.approx((0.1 + 0.05 + 0.0) / 3)
    assert accuracy.worst_error == pytest.approx(0.1)
    assert accuracy.bias == pytest.approx((0.1 - 0.05 + 0.0) / 3)
    assert accuracy.spearman == pytest.approx(1.0)
    assert str(accuracy) == (
        "5.00% mean, 10.00% worst, +1.67% bias, Spearman 1.000 over 3 networks; measuring again differs by 0.40%"
    )


def test_each_prediction_needs_a_measurement() -> None:
    with pytest.raises(TableError) as caught:
        Accuracy(predicted_ms=(1.0, 2.0), measured_ms=(1.0,))
    assert str(caught.value) == "Expected a measurement for each of 2 predictions, but got 1."
