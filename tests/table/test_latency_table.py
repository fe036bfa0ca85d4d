"""Latency tables: lookup, what they refuse, and their fingerprint."""

from __future__ import annotations

import copy
import dataclasses
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from latency_nas import Datasheet, Kernel, LatencyTable
from latency_nas.errors import MissingKernelError, TableError, short_repr
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
    "dialect": "2.11",
    "architecture": "aarch64",
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
    "error_90": 0.05,
    "yardstick_ms": 12.5,
    "emulated": True,
    "unrecorded": ("linear.act",),
    "notes": "none",
}


def test_lookup_gives_the_row() -> None:
    assert TABLE[FUSED] == TABLE.get(FUSED) == ROWS[FUSED]
    assert TABLE[Kernel.parse(RELU.key)] is ROWS[RELU]
    assert RELU in TABLE
    assert len(TABLE) == 2
    assert dict(TABLE.items()) == ROWS
    assert list(TABLE) == [FUSED, RELU]


def test_message_names_the_missing_kernel_and_the_table() -> None:
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
    assert len(set(prints)) == len(prints) == 32


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


def test_missing_kernel_is_an_error_of_ours() -> None:
    with pytest.raises(MissingKernelError):
        TABLE[BARE]


def test_rows_cannot_be_set() -> None:
    rows = {key: TABLE.entries[key] for key in TABLE.entries}
    table = LatencyTable(rows, SHEET)
    with pytest.raises(TypeError):
        table.entries[BARE.key] = ROWS[RELU]  # type: ignore[index]
    with pytest.raises(TypeError):
        del table.entries[RELU.key]  # type: ignore[attr-defined]
    assert not hasattr(table.entries, "clear")
    rows.clear()
    assert dict(table.items()) == ROWS


@pytest.mark.parametrize(
    "copied",
    [
        *(lambda table, p=protocol: pickle.loads(pickle.dumps(table, p)) for protocol in range(6)),  # noqa: S301
        copy.deepcopy,
        copy.copy,
        dataclasses.replace,
    ],
)
def test_copy_is_the_same_table(copied: Callable[[LatencyTable], LatencyTable]) -> None:
    table = LatencyTable.of({BARE: ROWS[RELU]}, dataclasses.replace(SHEET, unrecorded=("conv2d.act", "conv2d.bias")))
    back = copied(table)
    assert dict(back.items()) == {BARE: ROWS[RELU]}
    assert (back.datasheet, back.name) == (table.datasheet, table.name)
    assert back.fingerprint() == table.fingerprint()
    assert FUSED in back
    with pytest.raises(TypeError):
        back.entries[BARE.key] = ROWS[RELU]  # type: ignore[index]


@pytest.mark.parametrize("unrecorded", [("conv2d.act",), ("conv2d.bias",), ("linear.act", "conv2d.act", "conv2d.bias")])
def test_row_with_an_unrecorded_attribute_is_refused(unrecorded: tuple[str, ...]) -> None:
    with pytest.raises(TableError) as caught:
        LatencyTable.of(ROWS, dataclasses.replace(SHEET, unrecorded=unrecorded))
    assert str(caught.value) == (
        "Expected rows without what the datasheet calls unrecorded, but got conv2d [1,3,8,8] -> [1,4,8,8] act=relu "
        "bias=1 dilation=[1,1] group=1 kernel=[3,3] pad=[1,1,1,1] stride=[1,1] dtype=fp32."
    )


@pytest.mark.parametrize("unrecorded", [(), ("conv2d.act",), ("conv2d.act", "conv2d.bias")])
def test_every_kernel_of_a_table_is_in_it(unrecorded: tuple[str, ...]) -> None:
    attributes = tuple(text.removeprefix("conv2d.") for text in unrecorded)
    rows = {kernel.without(attributes): entry for kernel, entry in ROWS.items()}
    table = LatencyTable.of(rows, dataclasses.replace(SHEET, unrecorded=unrecorded))
    assert len(table) == 2
    assert all(kernel in table for kernel in table)
    assert all(kernel in table for kernel in ROWS)


@pytest.mark.parametrize("n_samples", [-1, -(2**40)])
def test_number_of_samples_is_not_negative(n_samples: int) -> None:
    with pytest.raises(TableError) as caught:
        Entry(latency_ms=1, n_samples=n_samples)
    assert str(caught.value) == f"Expected `n_samples` to be an integer >= 0, but got {n_samples}."


def test_times_are_floats_whatever_number_was_given() -> None:
    for one in (1, np.float64(1)):
        entry = Entry(latency_ms=one, std_ms=one)
        assert entry == Entry(latency_ms=1.0, std_ms=1.0)
        assert (type(entry.latency_ms), type(entry.std_ms)) == (float, float)
    assert Entry(latency_ms=1).std_ms is None


@pytest.mark.parametrize("one", [np.float32(1), np.int64(1)], ids=["float32", "int64"])
def test_times_may_be_numbers_of_numpy(one: Any) -> None:
    entry = Entry(latency_ms=one, std_ms=one)
    assert entry == Entry(latency_ms=1.0, std_ms=1.0)
    assert (type(entry.latency_ms), type(entry.std_ms)) == (float, float)


def test_count_of_numpy_is_an_integer() -> None:
    assert type(Entry(latency_ms=1, n_samples=np.int64(9)).n_samples) is int  # type: ignore[arg-type]
    assert Entry(latency_ms=1, n_samples=2**63 - 1).n_samples == 2**63 - 1


def test_fingerprint_is_the_same_for_equal_numbers() -> None:
    whole, real = (LatencyTable.of({RELU: Entry(latency_ms=value, std_ms=value)}, SHEET) for value in (1, 1.0))
    assert whole.entries == real.entries
    assert whole.fingerprint() == real.fingerprint()


@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("yardstick_ms", 12, 12.0),
        ("expected_error", 0, 0.0),
        ("expected_error", 0.0, -0.0),
        ("std_ms", 0.0, -0.0),
    ],
)
def test_fingerprint_is_equal_for_equal_tables(field: str, one: float, other: float) -> None:
    tables = []
    for value in (one, other):
        changed: dict[str, Any] = {field: value}
        row, sheet = ({}, changed) if field in OTHER else (changed, {})
        tables.append(LatencyTable.of({RELU: Entry(latency_ms=1, **row)}, dataclasses.replace(SHEET, **sheet)))
    assert (tables[0].entries, tables[0].datasheet) == (tables[1].entries, tables[1].datasheet)
    assert tables[0].fingerprint() == tables[1].fingerprint()


TIME = "Expected `latency_ms` to be a positive finite number"
COUNT = "Expected `n_samples` to be an integer >= 0"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"latency_ms": "0.5"}, f"{TIME}, but got '0.5'."),
        ({"latency_ms": "fast"}, f"{TIME}, but got 'fast'."),
        ({"latency_ms": True}, f"{TIME}, but got True."),
        ({"latency_ms": None}, f"{TIME}, but got None."),
        ({"latency_ms": 10**400}, f"{TIME}, but got 1{'0' * 17}...{'0' * 19}."),
        ({"latency_ms": np.True_}, f"{TIME}, but got np.True_."),
        ({"latency_ms": 1, "std_ms": "0.5"}, "Expected `std_ms` to be a finite number >= 0, but got '0.5'."),
        ({"latency_ms": 1, "std_ms": True}, "Expected `std_ms` to be a finite number >= 0, but got True."),
        ({"latency_ms": 1, "n_samples": 1.5}, f"{COUNT}, but got 1.5."),
        ({"latency_ms": 1, "n_samples": 9.0}, f"{COUNT}, but got 9.0."),
        ({"latency_ms": 1, "n_samples": "9"}, f"{COUNT}, but got '9'."),
        ({"latency_ms": 1, "n_samples": None}, f"{COUNT}, but got None."),
        ({"latency_ms": 1, "n_samples": True}, f"{COUNT}, but got True."),
        ({"latency_ms": 1, "n_samples": np.ones(3, int)}, f"{COUNT}, but got array([1, 1, 1])."),
        ({"latency_ms": 1, "n_samples": np.ones(3)}, f"{COUNT}, but got array([1., 1., 1.])."),
        ({"latency_ms": 1, "n_samples": 10**5000}, f"{COUNT}, but got a value with more digits than can be written."),
        ({"latency_ms": 1, "n_samples": 2**63}, f"{COUNT}, but got 9223372036854775808."),
    ],
    ids=lambda value: " ".join(f"{k}={short_repr(v)[:9]}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_entry_of_another_type_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(TableError) as caught:
        Entry(**fields)
    assert str(caught.value) == message
