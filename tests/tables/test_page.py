"""The page beside the named tables, from figures that were made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from derive.page import write_page
from latency_nas.estimate.regressor.accuracy import FamilyAccuracy
from latency_nas.kernel import Kernel
from latency_nas.table import Entry, LatencyTable
from tests.estimate.test_estimator import SHEET

RELU = Kernel.of("relu", [(1, 8, 4, 4)], [(1, 8, 4, 4)])
NAMES = ("AlexNet", "MnasNet", "ResNet18", "ResNet50", "VGG16")


@pytest.fixture
def page(tmp_path: Path) -> str:
    table = LatencyTable.of({RELU: Entry(latency_ms=1.0)}, replace(SHEET, error_90=0.25), name="A/threads=1")
    # four networks that are 2 % off, and one that is 30 %
    runs = {name: (100.0, 130.0 if name == "VGG16" else 102.0, 120.0) for name in NAMES}
    row = FamilyAccuracy(
        family="conv2d", dtype="fp32", n_rows=321, form="forest", near_error=0.031, near_within=0.95, near_covered=0.9,
        far_error=0.072, far_covered=0.88, peer_error=0.35,
    )  # fmt: skip
    path = tmp_path / "README.md"
    write_page(
        path,
        {"A/threads=1": table},
        {"A/threads=1": runs},
        {"A/threads=1": [row, replace(row, family="relu", peer_error=None)]},
    )
    return path.read_text()


def test_a_network_is_compared_with_the_bound_of_the_others(page: str) -> None:
    """The four are within any bound that the fifth takes part in; the fifth is not within theirs."""
    assert "| `A/threads=1` | 1 | 5 | 7.6% | 30.0% | 25.0% | 80% | 20.0% |" in page
    assert "of all 5 it is 80%" in page
    assert "| VGG16 | 100.00 | 130.00 | +30.0% |" in page


def test_a_regressor_is_listed_with_its_peer(page: str) -> None:
    assert "| `A/threads=1` | conv2d | 321 | forest | 3.1% | 95% | 90% | 7.2% | 88% | 35.0% |" in page
    assert "| relu |" not in page
