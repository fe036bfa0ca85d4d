"""The example as a whole, in a small form: a real table, real searches, real measurements."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import search_digits
import torch
from lightning.pytorch import seed_everything
from rich.console import Console
from supernet import Supernet

from latency_nas import LatencyLoss, LatencyTable, load_table
from latency_nas.estimate.accuracy import Accuracy
from latency_nas.graph import OpGraph
from latency_nas.verdict.verdict import Verdict, verify
from tests.patience import patiently, table_disturbance
from tests.supernets import set_target

EXAMPLE = torch.zeros(search_digits.INPUT_SHAPE)
EPOCHS = 8


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one whole run leaves behind."""
    folder = tmp_path_factory.mktemp("digits")
    build_table = search_digits.build_table

    def build_patiently(graph: OpGraph, times: int, rounds: int) -> tuple[LatencyTable, Accuracy]:
        return patiently(lambda: build_table(graph, times, rounds), table_disturbance)

    arguments = [
        "--epochs",
        str(EPOCHS),
        "--train-epochs",
        "2",
        "--times",
        "4",
        "--rounds",
        "6",
        "--output",
        str(folder),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_digits, "build_table", build_patiently)
        search_digits.run(search_digits.parse(arguments), Console(quiet=True))
    return folder


def searched(table: Path, share: float, weight: float = 2.0) -> tuple[Supernet, LatencyLoss]:
    """Search for a target that lies at `share` of what this machine can reach."""
    seed_everything(0, verbose=False)
    supernet, latency = Supernet(), LatencyLoss(str(table), weight=weight)
    latency.attach(supernet, EXAMPLE)
    set_target(latency, share)
    weights, architecture, _ = search_digits.digits()
    search_digits.search(supernet, latency, search_digits.Alternate(weights, architecture), EPOCHS)
    return supernet, latency


def measured(table: Path, share: float, folder: Path) -> Verdict:
    """Search, land on the target as README does, and measure what was found."""
    supernet, latency = searched(table, share)
    found = latency.discretize()
    networks = [supernet.subnet(found), supernet.subnet(dict.fromkeys(found, 0))]

    def measure() -> list[Verdict]:
        options = {"target_ms": latency.target_ms, "file": folder / "network.mnn"}
        return [verify(network, EXAMPLE, load_table(table), **options) for network in networks]

    def disturbance(verdicts: list[Verdict]) -> float:
        """The second, another network than the one that is asked about, must take what the table says that it does."""
        times = [verdict.measured for verdict in verdicts]
        n_unstable = sum(verdict.drift.n_unstable for verdict in verdicts)
        repeats = max((time.std_ms or np.inf) / time.latency_ms for time in times)
        return n_unstable + max(repeats / 0.02, abs(times[1].latency_ms / verdicts[1].estimate.latency_ms - 1) / 0.05)

    return patiently(measure, disturbance)[0]


def test_the_run_leaves_a_table_a_network_and_a_page(output: Path) -> None:
    assert {path.name for path in output.iterdir()} == {"table.parquet", "network.mnn", "report.html"}
    sheet = load_table(output / "table.parquet").datasheet
    assert sheet.method == "measured"
    assert sheet.expected_error is not None
    assert sheet.expected_error <= 0.03
    assert sheet.expected_error_method == "20 networks that were not metered"


class _Links(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [f"{tag} {name}={value}" for name, value in attrs if name in {"src", "href"} and tag != "use"]


def test_the_page_needs_no_network_and_shows_the_figures(output: Path) -> None:
    text = (output / "report.html").read_text(encoding="utf-8")
    parser = _Links()
    parser.feed(text)
    assert parser.tags.count("svg") == 3
    assert parser.fetched == []
    assert not re.search(r"@import|url\((?!#)|<script", text)
    for heading in ("target", "predicted", "measured", "accuracy", "The search", "The cost of each layer"):
        assert heading in text


def test_two_targets_give_two_networks_in_that_order_and_each_on_its_target(
    output: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdicts = [measured(output / "table.parquet", share, tmp_path) for share in (0.15, 0.35)]
    with capsys.disabled():
        print(*("", *verdicts), sep="\n")
    assert verdicts[0].measured.latency_ms < verdicts[1].measured.latency_ms
    assert all(abs(verdict.off_target) < 0.10 for verdict in verdicts)


def test_without_the_penalty_the_search_does_not_care(output: Path, tmp_path: Path) -> None:
    """The target changes nothing then, not even the last bit, and is not met: both are of networks that are cheap."""
    table = output / "table.parquet"
    (_, low), (supernet, high) = (searched(table, share, weight=0.0) for share in (0.05, 0.15))
    found = high.architecture()
    assert low.architecture() == found
    network, file = supernet.subnet(found), tmp_path / "network.mnn"
    verdict = verify(network, EXAMPLE, load_table(table), target_ms=high.target_ms, file=file)
    assert verdict.off_target > 0.10
