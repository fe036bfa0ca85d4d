"""Datasheets: their way to JSON and back, what they refuse, and their one line."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_nas import Datasheet
from latency_nas.errors import TableError
from latency_nas.table.datasheet import Method

NEEDED: dict[str, Any] = {"device": "Example board", "engine": "MNN", "method": "measured"}

texts = st.text(max_size=8)
named = st.text(min_size=1, max_size=8)
positive = st.integers(1, 10**6)
amounts = st.none() | st.floats(0, allow_nan=False, allow_infinity=False)
lists = st.lists(texts, max_size=3).map(tuple)

datasheets = st.builds(
    Datasheet,
    device=named,
    engine=named,
    method=st.sampled_from(get_args(Method)),
    engine_version=texts,
    soc=texts,
    backend=texts,
    precision=texts,
    threads=st.none() | positive,
    power_mode=texts,
    batch=positive,
    date=texts,
    statistic=texts,
    sources=lists,
    licence=texts,
    expected_error=amounts,
    expected_error_method=texts,
    yardstick_ms=amounts,
    emulated=st.booleans(),
    unrecorded=st.lists(st.sampled_from(["conv2d.act", "conv2d.bias", "linear.act"]), unique=True).map(tuple),
    notes=texts,
)


@given(datasheets)
@settings(deadline=None)
def test_json_and_back(sheet: Datasheet) -> None:
    back = Datasheet.from_dict(json.loads(json.dumps(sheet.to_dict())))
    assert back == sheet
    assert back.to_dict() == sheet.to_dict()
    assert isinstance(back.sources, tuple)


def test_what_is_not_stated_is_left_open() -> None:
    assert Datasheet.from_dict(NEEDED).to_dict() == NEEDED | {
        "engine_version": "",
        "soc": "",
        "backend": "CPU",
        "precision": "fp32",
        "threads": None,
        "power_mode": "",
        "batch": 1,
        "date": "",
        "statistic": "",
        "sources": (),
        "licence": "",
        "expected_error": None,
        "expected_error_method": "",
        "yardstick_ms": None,
        "emulated": False,
        "unrecorded": (),
        "notes": "",
    }


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "guessed"}, "Expected `method` to be measured, derived or imported, but got 'guessed'."),
        ({"device": ""}, "Expected `device` to be named, but got an empty text."),
        ({"engine": ""}, "Expected `engine` to be named, but got an empty text."),
        ({"threads": 0}, "Expected `threads` to be a positive integer, but got 0."),
        ({"threads": -4}, "Expected `threads` to be a positive integer, but got -4."),
        ({"batch": 0}, "Expected `batch` to be a positive integer, but got 0."),
        ({"expected_error": -0.1}, "Expected `expected_error` to be a finite number >= 0, but got -0.1."),
        ({"expected_error": float("nan")}, "Expected `expected_error` to be a finite number >= 0, but got nan."),
        ({"yardstick_ms": float("inf")}, "Expected `yardstick_ms` to be a finite number >= 0, but got inf."),
        ({"yardstick_ms": -1}, "Expected `yardstick_ms` to be a finite number >= 0, but got -1."),
    ],
)
def test_impossible_value_is_refused(fields: dict[str, Any], message: str) -> None:
    for make in (Datasheet.from_dict, lambda given: Datasheet(**given)):
        with pytest.raises(TableError) as caught:
            make(NEEDED | fields)
        assert str(caught.value) == message


def test_unknown_field_is_refused() -> None:
    with pytest.raises(TableError) as caught:
        Datasheet.from_dict(NEEDED | {"treads": 4, "colour": "blue"})
    assert str(caught.value) == "Expected the datasheet's fields to be known ones, but got colour, treads."


def test_missing_field_is_refused() -> None:
    with pytest.raises(TableError) as caught:
        Datasheet.from_dict({"device": "Example board", "method": "measured"})
    assert str(caught.value) == f"Expected a complete datasheet, but {caught.value.__cause__}."
    assert "'engine'" in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({}, "Example board: MNN on CPU, fp32, threads not stated, batch 1, measured"),
        ({"threads": 1}, "Example board: MNN on CPU, fp32, 1 thread, batch 1, measured"),
        (
            {"threads": 4, "engine_version": "3.6.1", "backend": "GPU", "precision": "fp16", "batch": 8},
            "Example board: MNN 3.6.1 on GPU, fp16, 4 threads, batch 8, measured",
        ),
        (
            {"threads": 2, "emulated": True, "method": "derived"},
            "Example board: MNN on CPU, fp32, 2 threads, batch 1, derived, EMULATED: no device's times",
        ),
    ],
)
def test_one_line_says_the_conditions(fields: dict[str, Any], line: str) -> None:
    assert str(Datasheet(**NEEDED | fields)) == line


@pytest.mark.xfail(
    strict=True, reason="from_dict promises a TableError for a wrong type, but takes it or blames Python"
)
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("device", 855),
        ("threads", "4"),
        ("threads", 1.5),
        ("batch", True),
        ("emulated", "no"),
        ("expected_error", "2 %"),
        ("sources", "one text"),
    ],
)
def test_value_of_another_type_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(TableError) as caught:
        Datasheet.from_dict(NEEDED | {field: value})
    assert f"`{field}`" in str(caught.value)
