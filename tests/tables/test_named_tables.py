"""The tables that come with the library: what they say of themselves, and how near they are to published times.

How they were made (`tables/derive`) is tested in small; `tables/README.md` holds the errors of networks left out.
"""

from __future__ import annotations

import logging
import tomllib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from derive.computing import bounded, looked_up, of_positives, resized
from derive.networks import NETWORKS, kernels
from derive.phones import PHONES
from derive.published import clas_times, lite_times
from derive.recurrent import recurrent_layer
from derive.source import fit_law
from derive.this_machine import METERED
from derive.transferred import with_computing_ops
from derive.transformers import transformers
from latency_nas import Kernel, LatencyEstimator, LatencyLoss, load_table, named_tables
from latency_nas.errors import MissingKernelError
from latency_nas.estimate.regressor.fit_cache import stored_forms
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import n_bytes, n_macs
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.table import Entry, LatencyTable

DERIVED = ("SD710/threads=4", *PHONES)

# Times that Paddle-Lite publishes for release 2.13-rc (SD865) and PaddleClas for an SD855, in milliseconds.
PUBLISHED = {
    "SD865": {"MobileNetV1_x1": 30.146, "MobileNetV3_small_x1": 5.219, "ResNet50": 183.636},
    "SD855/threads=2": {"MobileNetV2_x1": 12.71, "PPLCNet_x0.5": 2.73, "GhostNet_x1": 8.66},
}
# Multiplications of the papers, in millions, whatever the head is; MnasNet's without the convolution to 1280 channels.
MACS = {
    "AlexNet": 714, "EfficientNetB0": 390, "InceptionV1": 1500, "MnasNet": 315 - 20, "MobileNetV1_x1": 569,
    "MobileNetV2_x1": 300, "MobileNetV3_large_x1": 219, "MobileNetV3_small_x1": 56, "PPLCNet_x1": 161, "ResNet18": 1814,
    "ResNet50": 4089, "ShuffleNetV2_x1": 146, "SqueezeNet": 349, "VGG16": 15470, "GhostNet_x1": 141,
}  # fmt: skip


@pytest.mark.parametrize("name", DERIVED)
def test_datasheet(name: str) -> None:
    table = load_table(name)
    sheet = table.datasheet
    assert (sheet.method, sheet.engine, sheet.dialect, sheet.precision) == ("derived", "Paddle-Lite", "2.11", "fp32")
    assert f"{sheet.soc}/threads={sheet.threads}" == name
    assert sheet.licence == "Apache-2.0"
    assert len(sheet.sources) >= 1
    assert all(entry.latency_ms > 0 and entry.n_samples == 0 for entry in table.entries.values()) or name == DERIVED[0]
    if name in PHONES:
        assert sheet.expected_error is not None
        assert 0.01 < sheet.expected_error < 0.2
        assert sheet.expected_error_method.endswith("published networks, each left out")


def test_fingerprints_are_those_that_the_shipped_regressors_were_made_for() -> None:
    """A file's fingerprint is checked when it is read; this one names files beside the tables, too."""
    assert load_table("SD865").fingerprint() == "674627d7d120f45ee63a94e715056843d7dc78fa303c62451e6ca5179a59a0cc"
    assert load_table("x86-mnn").fingerprint() == "0b207dc494d0b2a254dc2026eba65e4b89575a237027f885ab4438cef9dbc7ea"


@pytest.mark.parametrize("name", [*DERIVED, "x86-mnn"])
def test_every_named_table_carries_its_fitted_forms(name: str) -> None:
    table = load_table(name)
    forms = stored_forms(table)
    assert forms is not None
    families = Counter((kernel.family, kernel.dtype) for kernel in table)
    assert {key for key, n_rows in families.items() if n_rows >= 8} <= set(forms.families)


def test_all_that_lies_beside_the_tables_is_in_the_wheel() -> None:
    root = Path(__file__).parents[2]
    included = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    places = {root / place: target for place, target in included["force-include"].items()}
    assert all(target == f"latency_nas/{place.relative_to(root)}" for place, target in places.items())
    files = [path for path in (root / "tables").rglob("*") if path.suffix in (".parquet", ".npz", ".json", ".md")]
    assert len(files) > len(DERIVED)
    assert [path for path in files if path not in places and path.parent not in places] == []


def test_a_name_alone_is_the_variant_of_the_fewest_threads() -> None:
    places = named_tables()
    assert set(DERIVED) <= set(places)
    assert load_table("SD855").datasheet.threads == 1
    assert load_table("SD710").datasheet.threads == 4


def test_the_table_that_was_measured_says_where_and_prices_what_was_metered() -> None:
    table = load_table("x86-mnn")
    sheet = table.datasheet
    assert (sheet.method, sheet.engine, sheet.precision, sheet.threads, sheet.batch) == (
        "measured",
        "MNN",
        "fp32",
        1,
        1,
    )
    assert sheet.soc != ""
    assert not sheet.emulated
    assert all(entry.n_samples > 0 for entry in table.entries.values())
    for network in METERED:
        make, size = NETWORKS[network]
        with torch.device("meta"):
            graph = read_torch(make(), input_shape=(1, 3, size, size))
        estimate = LatencyEstimator(table).predict(graph)
        macs_a_ms = sum(n_macs(graph.kernel(node)) for node in graph.nodes) / estimate.latency_ms
        assert estimate.coverage == 1
        assert 5e6 < macs_a_ms < 1e8  # what a core of a server does


@pytest.mark.parametrize("op", ["lstm", "gru", "rnn"])
def test_recurrent_layers_are_regressed_from_rows_of_their_own(op: str) -> None:
    estimator = LatencyEstimator("x86-mnn", on_missing="regress")

    def price(steps: int, directions: int) -> float:
        estimate = estimator.price(
            [KernelCall(kernel=recurrent_layer(op, steps, 60, 72, directions), layer="", nodes=())]
        )
        assert estimate.sources == {"table": 0, "regressed": 1, "missing": 0}
        return estimate.latency_ms

    assert price(1000, 1) / price(250, 1) == pytest.approx(4, rel=0.3)  # each step starts the same ops
    assert price(500, 2) / price(500, 1) == pytest.approx(2, rel=0.3)
    with pytest.raises(MissingKernelError, match=rf"{op} \[1000,1,60\] -> \[1000,1,72\] hidden=72"):
        LatencyEstimator("SD865").price([KernelCall(kernel=recurrent_layer(op, 1000, 60, 72), layer="", nodes=())])


def test_transformers_are_priced_from_rows_of_what_they_run() -> None:
    estimator = LatencyEstimator("x86-mnn")
    for network, shape in transformers()[::5]:
        assert estimator.predict(network.eval(), input_shape=shape).coverage == 1


def test_ops_that_compute_have_rows_of_their_own() -> None:
    table = load_table("x86-mnn")
    estimator = LatencyEstimator(table, on_missing="regress")
    measured = [kernel for kernels in (bounded(), of_positives(), looked_up(), resized()) for kernel in kernels]
    assert all(kernel in table for kernel in measured)

    def price(op: str, **attrs: int) -> float:
        kernel = Kernel.of(op, [(1, 90, 30, 30)], [(1, 90, 30, 30)], **attrs)
        return estimator.price([KernelCall(kernel=kernel, layer="", nodes=())]).latency_ms

    copied = price("neg")
    assert price("exp") > 1.5 * copied
    assert price("tanh") > 2 * copied
    assert price("sqrt") > 4 * copied
    assert price("pow", scalar=1) > 20 * copied


@pytest.mark.parametrize("name", ["SD865", "SD625"])
def test_ops_that_no_phone_source_has_are_derived_and_say_how_uncertain_they_are(name: str) -> None:
    table, measured = load_table(name), load_table("x86-mnn")
    assert "each uncertain by its own standard deviation" in table.datasheet.notes
    shape = [(1, 64, 128, 128)]

    def slope(of: LatencyTable, op: str) -> float:
        rows = [kernel for kernel in of if kernel.op == op and kernel.dtype == "fp32"]
        return fit_law(rows, [of[kernel].latency_ms for kernel in rows])[1]

    for op, attrs in (("log", {}), ("pow", {"scalar": 1}), ("where", {"scalar": 1}), ("floor", {})):
        kernel = Kernel.of(op, shape, shape, **attrs)
        row = table[kernel]
        assert row.n_samples == 0
        assert row.std_ms == pytest.approx(1.59 * row.latency_ms, rel=1e-3)
        assert slope(table, op) / slope(table, "add") == pytest.approx(
            slope(measured, op) / slope(measured, "add"), rel=0.02
        )
        other = Kernel.of(op, [(1, 60, 100, 100)], [(1, 60, 100, 100)], **attrs)
        estimate = LatencyEstimator(table, on_missing="regress").price([KernelCall(kernel=other, layer="", nodes=())])
        (priced,) = estimate.kernels
        assert priced.source == "regressed"
        assert priced.std is not None
        assert priced.std > 1.5 * priced.value


def test_a_row_by_a_law_of_memory_is_replaced_where_the_op_computes() -> None:
    rows = [Kernel.of("add", [(1, n, 8, 8)] * 2, [(1, n, 8, 8)]) for n in (8, 64, 512)]
    power = Kernel.of("pow", [(1, 3, 20, 20)], [(1, 3, 20, 20)], scalar=1)
    priced = {kernel: Entry(latency_ms=1e-3 + 1e-7 * n_bytes(kernel)) for kernel in (*rows, power)}
    phone = LatencyTable.of(priced, load_table("SD865").datasheet, name="phone")
    table = with_computing_ops(phone, load_table("x86-mnn"), 0.5)
    assert [table[kernel] for kernel in rows] == [phone[kernel] for kernel in rows]
    assert table[power].latency_ms > 5 * phone[power].latency_ms
    assert table[power].std_ms == pytest.approx(0.5 * table[power].latency_ms, rel=1e-3)
    assert not [kernel for kernel in table if kernel.op in ("exp", "tanh")]  # phones have other laws for these


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_networks(name: str) -> None:
    estimator = LatencyEstimator(name)
    for network, published_ms in PUBLISHED[name].items():
        estimate = estimator.price(kernels(network))
        assert estimate.coverage == 1
        assert estimate.latency_ms == pytest.approx(published_ms, rel=0.15)


@pytest.mark.parametrize("network", MACS)
def test_networks_are_those_of_the_papers(network: str) -> None:
    assert sum(n_macs(call.kernel) for call in kernels(network)) / 1e6 == pytest.approx(MACS[network], rel=0.06)


def test_every_network_is_priced_and_larger_ones_cost_more() -> None:
    estimator = LatencyEstimator("SD865")
    prices = {name: estimator.price(kernels(name)).latency_ms for name in NETWORKS if name.startswith("MobileNetV2")}
    assert list(prices.values()) == sorted(prices.values())


def test_loss_says_once_that_its_table_is_derived(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="latency_nas"):
        LatencyLoss(table="SD865")
    (record,) = caplog.records
    text = record.getMessage()
    sheet = load_table("SD865").datasheet
    assert "is derived, not measured on Xiaomi MI10 (Snapdragon 865): expect an error of" in text
    assert f"{sheet.expected_error:.1%} ({sheet.expected_error_method})" in text
    assert "latency-nas calibrate" in text


def test_what_was_decided_for_large_families_comes_with_the_table() -> None:
    table = load_table("SD865")
    families = [family for family, n in Counter(kernel.family for kernel in table).items() if n >= 1000]
    assert {"conv2d", "depthwise_conv2d"} <= set(families)
    forms = stored_forms(table)
    assert forms is not None
    for family in families:
        assert forms.families[family, "fp32"].selection.far_covered > 0.85


def test_kernels_without_a_row_are_regressed() -> None:
    unusual = nn.Sequential(nn.Conv2d(37, 53, 3, padding=1), nn.ReLU(), nn.GELU())
    estimate = LatencyEstimator("SD865").predict(unusual, input_shape=(1, 37, 21, 21))
    assert estimate.sources["regressed"] >= 1
    assert estimate.sources["missing"] == 0
    assert 0.02 < estimate.latency_ms < 5


def test_law_that_made_the_times_is_found() -> None:
    shapes = [(1, c, h, h) for c in (8, 64, 256) for h in (1, 7, 28, 56)]
    rows = [Kernel.of("mul", [shape, shape], [shape]) for shape in shapes]
    times = [0.002 + 2e-7 * n_bytes(row) for row in rows]
    times[5] *= 10
    assert fit_law(rows, times) == pytest.approx((0.002, 2e-7), rel=0.02)


LITE = "soc,threads,abi,precision,backend,density,paddlelite_version,model,latency_ms\n"


def test_versions_are_brought_together_by_the_networks_that_both_have(tmp_path: Path) -> None:
    lines = [
        "X,1,armv8,fp32,cpu,dense,2.13,MobileNetV1,12",
        "X,1,armv8,fp32,cpu,dense,2.11,MobileNetV1,10",
        "X,1,armv8,fp32,cpu,dense,2.11,ResNet50,100",
        "X,1,armv8,fp32,cpu,sparse,2.13,ResNet50,1",
        "X,1,armv7,fp32,cpu,dense,2.13,ResNet18,1",
        "X,2,armv8,fp32,cpu,dense,2.13,ResNet18,1",
        "X,1,armv8,fp32,cpu,dense,2.13,SomethingElse,1",
    ]
    path = tmp_path / "paddlelite_docs/paddlelite_model_latency.csv"
    path.parent.mkdir()
    path.write_text(LITE + "\n".join(lines))
    found = lite_times(tmp_path, soc="X", threads=1, versions=("2.13", "2.11"))
    assert found == {"MobileNetV1_x1": 12, "ResNet50": pytest.approx(120)}


def test_times_of_paddleclas(tmp_path: Path) -> None:
    path = tmp_path / "paddleclas_sd855/paddleclas_sd855_latency.csv"
    path.parent.mkdir()
    rows = ("GhostNet_x1_3,2,12.25", "GhostNet_x1_3_ssld,2,17.85", "MobileNetV1,2,17.86", "ShuffleNetV2_swish,2,9.06")
    path.write_text("model,threads,latency_ms\n" + "\n".join(rows))
    assert clas_times(tmp_path, 2) == {"GhostNet_x1.3": 12.25, "MobileNetV1_x1": 17.86}
    assert clas_times(tmp_path, 1) == {}


def test_left_out_is_left_out_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from derive import phones

    generator = np.random.default_rng(0)
    names = list(NETWORKS)[:8]
    parts = {name: generator.gamma(1.0, 5.0, 7) for name in names}
    times = {phone: {name: float(parts[name].sum() * 1.3) for name in names} for phone in PHONES}
    before = phones.left_out_ms("SD865/threads=1", times, parts)
    times["SD835/threads=1"][names[0]] *= 3
    times["SD865/threads=1"][names[0]] *= 3
    after = phones.left_out_ms("SD865/threads=1", times, parts)
    assert after[names[0]] == pytest.approx(before[names[0]])
    assert after[names[1]] != pytest.approx(before[names[1]], rel=1e-9)
