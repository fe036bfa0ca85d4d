"""Latency tables: lookup, what they refuse, and their fingerprint."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from latency_nas import Datasheet, Kernel, LatencyTable
from latency_nas.errors import MissingKernelError, TableError
from latency_nas.table import Entry

SHEET = Datasheet(device="Example board", engine="MNN", method="measured", threads=1)
CONV: dict[str, Any] = {"kernel": (3, 3), "stride": (1, 1), "pad": (1,) * 4, "dilation": (1, 1), "group": 1}
SHAPES: tuple[list[tuple[int, ...]], list[tuple[int, ...]]] = ([(1, 3, 8, 8)], [(1, 4, 8, 8)])
BARE = Kernel.of("conv2d", *SHAPES, **CONV)
FUSED = Kernel.of("conv2d", *SHAPES, act="relu", bias=1, **CONV)
RELU = Kernel.of("relu", [(1, 4, 8, 8)], [(1, 4, 8, 8)])
ROWS = {FUSED: Entry(latency_ms=0.5, std_ms=0.01, n_samples=9), RELU: Entry(latency_ms=0.25)}
TABLE = LatencyTable.of(ROWS, SHEET, name="example.parquet")

# another value for each field of the datasheet
OTHER: dict[str, Any] = {
    "device": "Another board",
    "engine": "Paddle-Lite",
    "method": "derived",
    "engine_version": "3.6.1",
    "soc": "SD855",
    "backend": "GPU",
    "precision": "fp16",
    "threads": 2,
    "power_mode": "HIGH",
    "batch": 2,
    "date": "2030-01-31",
    "statistic": "median",
    "sources": ("a paper",),
    "licence": "Apache-2.0",
    "expected_error": 0.02,
    "expected_error_method": "five folds",
    "yardstick_ms": 12.5,
    "emulated": True,
    "unrecorded": ("conv2d.act",),
    "notes": "none",
}


def test_lookup_gives_the_row() -> None:
    assert TABLE[FUSED] == TABLE.get(FUSED) == ROWS[FUSED]
    assert TABLE[Kernel.parse(RELU.key)] is ROWS[RELU]
    assert RELU in TABLE
    assert len(TABLE) == 2
    assert dict(TABLE.items()) == ROWS
    assert list(TABLE) == [FUSED, RELU]


def test_missing_kernel_is_said_with_the_table() -> None:
    assert BARE not in TABLE
    assert TABLE.get(BARE) is None
    with pytest.raises(LookupError) as caught:
        TABLE[BARE]
    assert str(caught.value) == (
        "example.parquet has no row for conv2d [1,3,8,8] -> [1,4,8,8] dilation=[1,1] group=1 kernel=[3,3] "
        "pad=[1,1,1,1] stride=[1,1] dtype=fp32."
    )


@pytest.mark.parametrize(
    ("unrecorded", "found"),
    [
        ((), {BARE}),
        (("conv2d.act",), {BARE, BARE_ACT := Kernel.of("conv2d", *SHAPES, act="relu", **CONV)}),
        (("conv2d.act", "conv2d.bias"), {BARE, BARE_ACT, FUSED}),
        (("linear.act", "linear.bias"), {BARE}),
    ],
)
def test_attributes_that_are_not_recorded_do_not_count(unrecorded: tuple[str, ...], found: set[Kernel]) -> None:
    table = LatencyTable.of({BARE: Entry(latency_ms=1.5)}, dataclasses.replace(SHEET, unrecorded=unrecorded))
    assert {kernel for kernel in (BARE, BARE_ACT, FUSED) if kernel in table} == found
    assert {table[kernel].latency_ms for kernel in found} == {1.5}
    assert RELU not in table


def test_fields_cannot_be_set() -> None:
    for value, name in ((TABLE, "datasheet"), (TABLE[RELU], "latency_ms"), (SHEET, "device")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(value, name, None)


def test_table_of_kernels_keeps_no_hold_of_the_rows_that_it_was_given() -> None:
    rows = {RELU: Entry(latency_ms=1)}
    table = LatencyTable.of(rows, SHEET)
    rows.clear()
    assert RELU in table


def test_fingerprint_is_of_rows_and_datasheet_whatever_order_and_name() -> None:
    turned = LatencyTable.of(dict(reversed(ROWS.items())), dataclasses.replace(SHEET), name="another name")
    assert list(turned) != list(TABLE)
    assert turned.fingerprint() == TABLE.fingerprint()
    assert len(TABLE.fingerprint()) == 64


def test_fingerprint_tells_every_field_apart() -> None:
    assert OTHER.keys() == {field.name for field in dataclasses.fields(Datasheet)}
    row, rest = ROWS[FUSED], {RELU: ROWS[RELU]}
    others = [
        TABLE,
        *(LatencyTable.of(ROWS, dataclasses.replace(SHEET, **{name: value})) for name, value in OTHER.items()),
        *(
            LatencyTable.of({FUSED: dataclasses.replace(row, **changed), **rest}, SHEET)
            for changed in (
                {"latency_ms": math.nextafter(0.5, 1)},
                {"std_ms": None},
                {"std_ms": 0.0},
                {"n_samples": 10},
            )
        ),
        LatencyTable.of({BARE: row, **rest}, SHEET),
        LatencyTable.of({FUSED: ROWS[RELU], RELU: row}, SHEET),
        LatencyTable.of(rest, SHEET),
        LatencyTable.of({}, SHEET),
    ]
    prints = [table.fingerprint() for table in others]
    assert len(set(prints)) == len(prints) == 29


@pytest.mark.parametrize("latency_ms", [0, -0.0, -1.5, float("nan"), float("inf"), float("-inf")])
def test_latency_is_positive_and_finite(latency_ms: float) -> None:
    with pytest.raises(TableError) as caught:
        Entry(latency_ms=latency_ms)
    assert str(caught.value) == f"Expected `latency_ms` to be a positive finite number, but got {latency_ms}."


@pytest.mark.parametrize("std_ms", [-1e-9, float("nan"), float("inf")])
def test_deviation_is_finite_and_not_negative(std_ms: float) -> None:
    with pytest.raises(TableError) as caught:
        Entry(latency_ms=1, std_ms=std_ms)
    assert str(caught.value) == f"Expected `std_ms` to be a finite number >= 0, but got {std_ms}."


def test_repr_says_what_it_is() -> None:
    assert repr(TABLE) == (
        "<LatencyTable example.parquet: 2 kernels. Example board: MNN on CPU, fp32, 1 thread, batch 1, measured>"
    )


@pytest.mark.xfail(strict=True, reason="__getitem__ raises a plain LookupError, which is not in the tree of errors")
def test_missing_kernel_is_an_error_of_ours() -> None:
    with pytest.raises(MissingKernelError):
        TABLE[BARE]


@pytest.mark.xfail(strict=True, reason="`entries` is the dict itself: an immutable table can be changed through it")
def test_rows_cannot_be_set() -> None:
    table = LatencyTable.of(ROWS, SHEET)
    with pytest.raises(TypeError):
        table.entries[BARE.key] = ROWS[RELU]  # type: ignore[index]


@pytest.mark.xfail(strict=True, reason="rows with an attribute that the datasheet calls unrecorded can never be found")
def test_every_kernel_of_a_table_is_in_it() -> None:
    table = LatencyTable.of(ROWS, dataclasses.replace(SHEET, unrecorded=("conv2d.act",)))
    assert all(kernel in table for kernel in table)


@pytest.mark.xfail(strict=True, reason="not checked: 'act' is ignored, and 'conv2d.pad' fails at the first lookup")
@pytest.mark.parametrize("unrecorded", ["act", "conv2d.pad"])
def test_unrecorded_attribute_is_one_that_an_op_may_lack(unrecorded: str) -> None:
    with pytest.raises(TableError):
        LatencyTable.of({}, dataclasses.replace(SHEET, unrecorded=(unrecorded,)))


@pytest.mark.xfail(strict=True, reason="a negative number of samples is taken")
def test_number_of_samples_is_not_negative() -> None:
    with pytest.raises(TableError):
        Entry(latency_ms=1, n_samples=-1)


@pytest.mark.xfail(strict=True, reason="JSON writes 1 and 1.0 apart, so that equal tables have unlike fingerprints")
def test_fingerprint_is_the_same_for_equal_numbers() -> None:
    whole, real = (LatencyTable.of({RELU: Entry(latency_ms=value)}, SHEET) for value in (1, 1.0))
    assert whole.entries == real.entries
    assert whole.fingerprint() == real.fingerprint()
