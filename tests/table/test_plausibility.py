"""Times that cannot be: both bounds, and that no real row is near them."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from latency_nas import Datasheet, Kernel, LatencyTable, load_table, named_tables, save_table
from latency_nas.errors import TableError, TableFileError
from latency_nas.table import Entry, import_paddleslim
from latency_nas.table.formats.evaluator_text import import_evaluator_text
from latency_nas.table.formats.paddleslim.keys import parse_paddleslim_key
from latency_nas.table.plausibility import check_plausible

DATA = Path(__file__).resolve().parents[3] / "shared/data"
SAMPLES = DATA / "paddleslim_optables/op_samples_fp32_threads4_SD710inferred_unique.parquet"
SD855 = DATA / "paddledet_sd855_optable/latency_855.csv"
RK3288 = DATA / "paddleslim_optables/rk3288_threads_4_power_mode_0.pkl"
SHEET = Datasheet(device="Board", engine="MNN", method="imported", threads=1)
LINEAR = Kernel.of("linear", [(1, 1000)], [(1, 1000)])  # 1e6 multiply-accumulates, 8e3 + 4e6 bytes
OTHER = "the time is of another unit, or of another kernel"
MARGIN = 20  # by which every real row stays away from the bounds


def sheet(**fields: Any) -> Datasheet:
    return Datasheet(**{"device": "Board", "engine": "MNN", "method": "imported", **fields})


@pytest.mark.parametrize(
    ("latency_ms", "fields"),
    [
        (1.01e-4, {"threads": 1}),
        (1.01e-4 / 4, {"threads": 4}),
        (1.01e-4 / 256, {}),
        (1.01e-7, {"backend": "CUDA", "threads": 1}),
        (6000, {}),
    ],
)
def test_what_can_be(latency_ms: float, fields: dict[str, Any]) -> None:
    check_plausible(LINEAR, latency_ms, sheet(**fields))


@pytest.mark.parametrize(
    ("latency_ms", "fields", "message"),
    [
        (9e-5, {"threads": 1}, "9e-05 ms for 1e+06 multiply-accumulates is faster than any processor"),
        (9e-5 / 256, {}, "3.516e-07 ms for 1e+06 multiply-accumulates is faster than any processor"),
        (9e-8, {"backend": "CUDA"}, "9e-08 ms for 1e+06 multiply-accumulates is faster than any processor"),
        (5e-324, {"threads": 1}, "4.941e-324 ms for 1e+06 multiply-accumulates is faster than any processor"),
        (6100, {}, "6100 ms for 1e+06 multiply-accumulates and 4.01e+06 bytes is slower than any processor"),
    ],
)
def test_what_cannot_be(latency_ms: float, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError) as caught:
        check_plausible(LINEAR, latency_ms, sheet(**fields))
    assert str(caught.value) == f"{message}: {OTHER}"


def real_rows() -> Iterator[tuple[Kernel, float, Datasheet]]:
    """Every row of the tables that come with the library, and of those that others published."""
    for path in set(named_tables().values()):
        table = load_table(path)  # type: ignore[arg-type]
        yield from ((kernel, row.latency_ms, table.datasheet) for kernel, row in table.items())
    four = sheet(threads=4)
    if RK3288.is_file():
        table, _ = import_paddleslim(RK3288)
        yield from ((kernel, row.latency_ms, four) for kernel, row in table.items())
    if SD855.is_file():
        table, _ = import_evaluator_text(SD855, unit="us")
        yield from ((kernel, row.latency_ms, sheet(threads=1)) for kernel, row in table.items())
    if SAMPLES.is_file():
        rows = pq.read_table(SAMPLES, columns=["key", "latency_ms"]).to_pylist()
        yield from ((parse_paddleslim_key(row["key"]), row["latency_ms"], four) for row in rows)


def test_no_real_row_is_near_a_bound() -> None:
    n_rows = 0
    for kernel, latency_ms, conditions in real_rows():
        n_rows += 1
        check_plausible(kernel, latency_ms / MARGIN, conditions)
        check_plausible(kernel, latency_ms * MARGIN, conditions)
    assert n_rows > 10_000


@pytest.mark.parametrize("factor", [1e6, 1e-6])
def test_rows_of_another_unit_are_found(tmp_path: Path, factor: float, caplog: pytest.LogCaptureFixture) -> None:
    """A tenth of a millisecond for a kernel of 40 million multiply-accumulates, and one for a copy."""
    conv = "conv2d in=(1, 64, 28, 28) weight=(64, 64, {0}, {0}) out=(1, 64, 28, 28) pad=0 stride=1 group=1 dilation=1 "
    keys = [f"{conv.format(k)}quant=None bit_length=None" for k in (1, 3)]
    data = {keys[0]: 0.3 * factor, keys[1]: 2.5 * factor}
    pickled = tmp_path / "sd710_threads_4_power_mode_0.pkl"
    pickled.write_bytes(pickle.dumps({**data, "relu in=(1, 8) out=(1, 8)": 0.01}))
    table, report = import_paddleslim(pickled)
    assert [kernel.op for kernel in table] == ["relu"]
    assert set(report.skipped) == set(keys)
    rows = {parse_paddleslim_key(key): Entry(latency_ms=latency_ms) for key, latency_ms in data.items()}
    path = save_table(LatencyTable.of(rows, SHEET), tmp_path / "t.parquet")
    with caplog.at_level(logging.WARNING):
        assert len(load_table(path)) == 2
    (message,) = caplog.messages
    assert message.startswith(f"{path} holds impossible times: row 1, conv2d [1,64,28,28] -> [1,64,28,28] ")
    assert f" {data[keys[0]]:.4g} ms for 3.21e+06 multiply-accumulates " in message
    assert message.count(OTHER) == 2
    text = tmp_path / "t.txt"
    text.write_text(f"conv,0,0,1,64,28,28,64,1,1,0,1,1\t{data[keys[0]]}\n")
    with pytest.raises(TableFileError) as caught:
        load_table(text, unit="ms")
    assert str(caught.value).startswith(
        f"Expected rows of ops and latencies in {text}, but none of 1 can be used (conv,0,0,1,64,28,28,64,1,1,0,1,1: "
    )
