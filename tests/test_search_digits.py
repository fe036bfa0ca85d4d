"""The example as a whole, in a small form: structure with a real engine, accuracy on a simulated device.

`benchmarks/on_target_measured.py` prints where searches end on the machine at hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from math import isfinite
from pathlib import Path

import pytest
import search_digits
import torch
from lightning.pytorch import seed_everything
from rich.console import Console
from supernet import Supernet
from torch.utils.data import TensorDataset

from latency_nas import (
    LatencyLoss,
    LatencyTable,
    check_table,
    covering_architectures,
    load_table,
    measure_table,
    random_architectures,
    read_supernet,
    verify,
)
from tests.simulation import moment, simulated_device
from tests.supernets import set_target

EXAMPLE = torch.zeros(search_digits.INPUT_SHAPE)
STAGES = ((24, 2), (48, 2))  # of the searches on the simulated device: half the blocks
EPOCHS = 3
SHARE = 5


@pytest.fixture(scope="module", autouse=True)
def few_images() -> Iterator[None]:
    """A fifth of the images, in batches of a fifth of the size: as many steps, in less time."""
    everything = [TensorDataset(*(tensor[::SHARE] for tensor in part.tensors)) for part in search_digits.digits()]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search_digits, "digits", lambda: everything)
        patch.setattr(search_digits, "BATCH_SIZE", search_digits.BATCH_SIZE // SHARE)
        yield


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one whole run leaves behind."""
    folder = tmp_path_factory.mktemp("digits")
    arguments = ["--epochs", "1", "--train-epochs", "1", "--times", "2", "--rounds", "2", "--output"]
    search_digits.run(search_digits.parse([*arguments, str(folder)]), Console(quiet=True))
    return folder


def test_the_run_leaves_a_table_a_network_and_a_page(output: Path) -> None:
    assert {path.name for path in output.iterdir()} == {"table.parquet", "network.mnn", "report.html"}
    sheet = load_table(output / "table.parquet").datasheet
    assert sheet.method == "measured"
    assert sheet.expected_error is not None
    assert isfinite(sheet.expected_error)
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


# --- on the simulated device


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with simulated_device(tmp_path_factory.mktemp("site")):
        yield


@pytest.fixture(scope="module")
def table(installed: None) -> LatencyTable:
    """As the example makes one."""
    graph, _ = read_supernet(Supernet(STAGES), EXAMPLE)
    plan = covering_architectures(graph.choices, times=4)
    others = random_architectures(graph.choices, 20, seed=1, unlike=plan)
    metered, held_out = ([graph.extract(architecture) for architecture in some] for some in (plan, others))
    with moment(0):
        table = measure_table(metered, engine="simulated", rounds=6)
    with moment(700):
        return check_table(table, held_out, rounds=6)[0]


def test_the_table_is_within_three_percent(table: LatencyTable) -> None:
    assert table.datasheet.expected_error is not None
    assert table.datasheet.expected_error <= 0.03


def searched(table: LatencyTable, share: float, weight: float = 2.0) -> tuple[Supernet, LatencyLoss]:
    """Search for a target that lies at `share` of the way from the cheapest to the dearest network."""
    seed_everything(0, verbose=False)
    supernet, latency = Supernet(STAGES), LatencyLoss(table, weight=weight)
    latency.attach(supernet, EXAMPLE)
    set_target(latency, share)
    weights, architecture, _ = search_digits.digits()
    search_digits.search(supernet, latency, search_digits.Alternate(weights, architecture), EPOCHS)
    return supernet, latency


def test_two_targets_give_two_networks_in_that_order_and_each_on_its_target(
    table: LatencyTable, tmp_path: Path
) -> None:
    verdicts = []
    for share in (0.15, 0.35):
        supernet, latency = searched(table, share)
        network, options = supernet.subnet(latency.discretize()), {"target_ms": latency.target_ms}
        with moment(1500):
            verdicts.append(verify(network, EXAMPLE, table, file=tmp_path / "network.simulated", **options))
    assert verdicts[0].measured.latency_ms < verdicts[1].measured.latency_ms
    assert all(abs(verdict.off_target) < 0.10 for verdict in verdicts)


def test_without_the_penalty_the_search_does_not_care(table: LatencyTable, tmp_path: Path) -> None:
    """The target changes nothing then, not even the last bit, and is not met: both are of networks that are cheap."""
    (_, low), (supernet, high) = (searched(table, share, weight=0.0) for share in (0.05, 0.15))
    found = high.architecture()
    assert low.architecture() == found
    network, file = supernet.subnet(found), tmp_path / "network.simulated"
    with moment(1500):
        verdict = verify(network, EXAMPLE, table, target_ms=high.target_ms, file=file)
    assert verdict.off_target > 0.10
