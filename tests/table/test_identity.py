"""The identity of a table: what is compared, what counts as the same, and what is said where it is not."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from latency_nas import Datasheet, load_table
from latency_nas.errors import TableError
from latency_nas.table.identity import Identity, architecture_of, check_identity

HELLO = {
    "machine": "x86_64",
    "processor": "Intel(R) Xeon(R)  Processor",
    "emulated": False,
    "engine": "MNN",
    "engine_version": "3.6.1",
    "cores": 2,
}
SHEET = Datasheet(
    device="Server", engine="MNN", engine_version="3.6.1", soc="Intel(R) Xeon(R) Processor", architecture="x86-64",
    method="measured", threads=2, precision="fp16", power_mode="high", batch=8,
)  # fmt: skip
KNOWN = Identity.of_datasheet(SHEET)


def test_identity_of_a_datasheet() -> None:
    stated = Identity(
        processor="Intel(R) Xeon(R) Processor", architecture="x86-64", engine="MNN", engine_version="3.6.1", threads=2,
        precision="fp16", power_mode="high", batch=8, emulated=False,
    )  # fmt: skip
    assert stated == Identity.of_datasheet(SHEET)
    assert Identity.of_datasheet(replace(SHEET, emulated=True)).emulated


def test_identity_of_a_device() -> None:
    assert Identity.of_hello(HELLO, threads=4) == Identity(
        processor="Intel(R) Xeon(R)  Processor", architecture="x86-64", engine="MNN", engine_version="3.6.1", threads=4
    )
    assert Identity.of_hello({}) == Identity()
    assert Identity.of_hello({"emulated": True}).emulated
    with pytest.raises(TableError) as caught:
        Identity.of_hello({"machine": 64})
    assert str(caught.value) == "Expected `machine` of a device to be a text, but got 64."


@pytest.mark.parametrize(
    ("machine", "architecture"),
    [("x86_64", "x86-64"), ("AMD64", "x86-64"), ("aarch64", "aarch64"), ("arm64", "aarch64"), ("armv7l", "armv7l")],
)
def test_instruction_sets(machine: str, architecture: str) -> None:
    assert architecture_of(machine) == Identity.of_hello({"machine": machine}).architecture == architecture


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"engine": "mnn"},
        {"processor": "intel xeon PROCESSOR"},
        {"threads": None, "batch": None, "precision": "", "power_mode": ""},  # what a device side does not report
    ],
)
def test_the_same_device_and_engine(fields: dict[str, Any]) -> None:
    assert check_identity(KNOWN, replace(KNOWN, **fields), doing="check it") == ()
    assert check_identity(replace(KNOWN, **fields), KNOWN, doing="check it") == ()


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("processor", "AMD EPYC", "processor: Intel(R) Xeon(R) Processor in the datasheet, AMD EPYC at hand"),
        ("processor", "", "processor: Intel(R) Xeon(R) Processor in the datasheet, not known at hand"),
        ("architecture", "aarch64", "architecture: x86-64 in the datasheet, aarch64 at hand"),
        ("architecture", "", "architecture: x86-64 in the datasheet, not known at hand"),
        ("engine", "Paddle-Lite", "engine: MNN in the datasheet, Paddle-Lite at hand"),
        ("engine_version", "3.5.0", "engine version: 3.6.1 in the datasheet, 3.5.0 at hand"),
        ("engine_version", "", "engine version: 3.6.1 in the datasheet, not known at hand"),
        ("emulated", True, "emulated: no in the datasheet, yes at hand"),
        ("threads", 4, "threads: 2 in the datasheet, 4 at hand"),
        ("precision", "fp32", "precision: fp16 in the datasheet, fp32 at hand"),
        ("power_mode", "low", "power mode: high in the datasheet, low at hand"),
        ("batch", 1, "batch: 8 in the datasheet, 1 at hand"),
    ],
)
def test_another_one_is_refused_with_both_sides_named(field: str, value: object, said: str) -> None:
    other = replace(KNOWN, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(TableError) as caught:
        check_identity(KNOWN, other, doing="check board.parquet")
    assert str(caught.value) == (
        f"Expected to check board.parquet on the device and the engine that the datasheet names, but they differ or "
        f"cannot be confirmed: {said}. Do it on that device, take a table that was measured on this one, or pass "
        f"other_device=True, and the result will say what differs."
    )
    assert check_identity(KNOWN, other, doing="check board.parquet", other_device=True) == (said,)


def test_every_field_can_differ() -> None:
    other = Identity(
        processor="p", architecture="a", engine="e", engine_version="v", threads=1, precision="x", power_mode="m",
        batch=1, emulated=True,
    )  # fmt: skip
    found = check_identity(KNOWN, other, doing="check it", other_device=True)
    assert [text.partition(":")[0].replace(" ", "_") for text in found[:5]] == [
        "processor", "architecture", "engine", "engine_version", "emulated",
    ]  # fmt: skip
    assert len(found) == len(fields(Identity))


@pytest.mark.parametrize("processor", ["AMD EPYC", "AMD EPYC 7763 64-Core Processor"])
def test_the_table_that_comes_with_the_library_is_of_no_other_machine(processor: str) -> None:
    """Its datasheet names a family of processors, without the instruction set: that confirms no machine."""
    sheet = Identity.of_datasheet(load_table("x86-mnn").datasheet)
    deviations = check_identity(
        sheet, Identity.of_hello(HELLO | {"processor": processor}), doing="check it", other_device=True
    )
    assert "architecture: not known in the datasheet, x86-64 at hand" in deviations
    assert any(text.startswith("processor") for text in deviations) == (processor != "AMD EPYC")


def test_what_neither_side_tells_is_not_confirmed() -> None:
    assert check_identity(Identity(), Identity(), doing="check it", other_device=True) == (
        "processor: not known in the datasheet, not known at hand",
        "architecture: not known in the datasheet, not known at hand",
        "engine: not known in the datasheet, not known at hand",
        "engine version: not known in the datasheet, not known at hand",
    )
