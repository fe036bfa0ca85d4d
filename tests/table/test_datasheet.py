"""Datasheets: their way to JSON and back, what they refuse, and their one line."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_nas import Datasheet
from latency_nas.errors import TableError
from latency_nas.table.datasheet import Method

NEEDED: dict[str, Any] = {"device": "Example board", "engine": "MNN", "method": "measured"}

texts = st.text(max_size=8)
named = st.text(min_size=1, max_size=8)
positive = st.integers(1, 2**31 - 1)
amounts = st.none() | st.floats(0, allow_nan=False, allow_infinity=False)
lists = st.lists(texts, max_size=3).map(tuple)

datasheets = st.builds(
    Datasheet,
    device=named,
    engine=named,
    method=st.sampled_from(get_args(Method)),
    engine_version=texts,
    dialect=texts,
    soc=texts,
    architecture=texts,
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
    error_90=amounts,
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


def test_dialect_and_architecture_are_written_where_they_are_known() -> None:
    known = {"dialect": "2.11", "architecture": "aarch64"}
    written = Datasheet.from_dict(NEEDED | known).to_dict()
    assert {name: written[name] for name in known} == known
    assert known.keys().isdisjoint(Datasheet.from_dict(NEEDED).to_dict())


def test_engine_in_the_older_spelling_is_an_engine_and_a_dialect() -> None:
    older = NEEDED | {"engine": "Paddle-Lite 2.11"}
    for sheet in (Datasheet(**older), Datasheet.from_dict(older), Datasheet(**older, dialect="2.11")):
        assert sheet == Datasheet(**NEEDED | {"engine": "Paddle-Lite", "dialect": "2.11"})
        assert (sheet.engine, sheet.target.version) == ("Paddle-Lite", "2.11")
    assert Datasheet(**NEEDED).target.version == ""
    with pytest.raises(TableError) as caught:
        Datasheet(**older, dialect="2.13")
    assert str(caught.value) == "Expected `dialect` to be 2.11, as 'Paddle-Lite 2.11' says, but got '2.13'."


def test_what_is_fingerprinted_is_in_the_older_spelling() -> None:
    sheet = Datasheet(**NEEDED | {"engine": "Paddle-Lite", "dialect": "2.11"})
    assert sheet.fingerprinted() == Datasheet(**NEEDED).to_dict() | {"engine": "Paddle-Lite 2.11"}
    newer = Datasheet(**NEEDED, dialect="4")
    assert newer.fingerprinted() == newer.to_dict() == Datasheet(**NEEDED).to_dict() | {"dialect": "4"}


def test_a_bound_that_is_known_is_kept() -> None:
    """Files of before there was such a field say nothing of it, and keep their fingerprint."""
    sheet = Datasheet.from_dict(NEEDED | {"error_90": 0.1})
    assert sheet.to_dict()["error_90"] == 0.1
    assert "error_90" not in Datasheet.from_dict(NEEDED).to_dict()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "guessed"}, "Expected `method` to be measured, derived or imported, but got 'guessed'."),
        ({"device": ""}, "Expected `device` to be named, but got an empty text."),
        ({"engine": ""}, "Expected `engine` to be named, but got an empty text."),
        ({"threads": 0}, "Expected `threads` to be a positive integer, but got 0."),
        ({"threads": -4}, "Expected `threads` to be a positive integer, but got -4."),
        ({"threads": 2**31}, "Expected `threads` to be a positive integer, but got 2147483648."),
        ({"batch": 0}, "Expected `batch` to be a positive integer, but got 0."),
        ({"batch": 2**31}, "Expected `batch` to be a positive integer, but got 2147483648."),
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
            {"engine": "Paddle-Lite", "dialect": "2.11", "engine_version": "2.13-rc", "threads": 1},
            "Example board: Paddle-Lite 2.13-rc (kernels as of 2.11) on CPU, fp32, 1 thread, batch 1, measured",
        ),
        (
            {"engine": "Paddle-Lite 2.11", "engine_version": "2.11", "threads": 1},
            "Example board: Paddle-Lite 2.11 on CPU, fp32, 1 thread, batch 1, measured",
        ),
        (
            {"engine": "Paddle-Lite", "dialect": "2.11"},
            "Example board: Paddle-Lite 2.11 on CPU, fp32, threads not stated, batch 1, measured",
        ),
        (
            {"engine": "Engine 2", "engine_version": "2.13"},
            "Example board: Engine 2 2.13 on CPU, fp32, threads not stated, batch 1, measured",
        ),
        (
            {"threads": 2, "emulated": True, "method": "derived"},
            "Example board: MNN on CPU, fp32, 2 threads, batch 1, derived, EMULATED: no device's times",
        ),
    ],
)
def test_one_line_says_the_conditions(fields: dict[str, Any], line: str) -> None:
    assert str(Datasheet(**NEEDED | fields)) == line


@pytest.mark.parametrize(
    ("field", "value", "kind"),
    [
        ("device", 855, "a text"),
        ("method", ["measured"], "a text"),
        ("notes", None, "a text"),
        ("threads", "4", "an integer or None"),
        ("threads", 1.5, "an integer or None"),
        ("threads", True, "an integer or None"),
        ("batch", True, "an integer"),
        ("batch", None, "an integer"),
        ("emulated", "no", "True or False"),
        ("emulated", 1, "True or False"),
        ("expected_error", "2 %", "a number or None"),
        ("yardstick_ms", False, "a number or None"),
        ("yardstick_ms", np.True_, "a number or None"),
        ("sources", "one text", "a tuple of texts"),
        ("unrecorded", {"conv2d.act": 1}, "a tuple of texts"),
    ],
)
def test_value_of_another_type_is_refused_by_name(field: str, value: object, kind: str) -> None:
    given = tuple(value) if isinstance(value, list) else value  # JSON knows no tuples
    with pytest.raises(TableError) as caught:
        Datasheet.from_dict(NEEDED | {field: value})
    assert str(caught.value) == f"Expected `{field}` to be {kind}, but got {given!r}."
    with pytest.raises(TableError) as caught:
        Datasheet(**NEEDED | {field: value})
    assert str(caught.value) == f"Expected `{field}` to be {kind}, but got {value!r}."


@pytest.mark.parametrize("field", ["sources", "unrecorded"])
def test_list_holds_texts_alone(field: str) -> None:
    for make in (Datasheet.from_dict, lambda given: Datasheet(**given)):
        with pytest.raises(TableError) as caught:
            make(NEEDED | {field: ("conv2d.act", 855)})
        assert str(caught.value) == f"Expected `{field}` to be a tuple of texts, but got 855 in it."


@pytest.mark.parametrize("unrecorded", ["", "act", "conv2d", "conv2d.pad", "conv2d.colour", "relu.act", "foo.act"])
def test_unrecorded_attribute_is_one_that_an_op_may_lack(unrecorded: str) -> None:
    with pytest.raises(TableError) as caught:
        Datasheet(**NEEDED, unrecorded=("conv2d.bias", unrecorded))
    assert str(caught.value) == (
        f"Expected `unrecorded` to name attributes that a kernel may lack, as in 'conv2d.act', but got {unrecorded!r}."
    )


@pytest.mark.parametrize(
    ("fields", "kind"), [(["Example board"], "list"), ("Example board", "str"), (None, "NoneType")]
)
def test_what_is_no_mapping_is_refused(fields: object, kind: str) -> None:
    with pytest.raises(TableError) as caught:
        Datasheet.from_dict(fields)
    assert str(caught.value) == f"Expected the datasheet to be a mapping of fields, but got {kind}."


@pytest.mark.parametrize("field", ["expected_error", "yardstick_ms"])
@pytest.mark.parametrize(
    ("number", "text"),
    [
        (10**400, "1" + "0" * 17 + "..." + "0" * 19),
        (-(10**400), "-1" + "0" * 16 + "..." + "0" * 19),
        (10**5000, "a value with more digits than can be written"),
    ],
    ids=["400", "minus 400", "5000"],
)
def test_number_past_every_float_is_refused(field: str, number: int, text: str) -> None:
    with pytest.raises(TableError) as caught:
        Datasheet.from_dict(NEEDED | {field: number})
    assert str(caught.value) == f"Expected `{field}` to be a finite number >= 0, but got {text}."


def test_field_whose_name_is_no_text_is_refused() -> None:
    with pytest.raises(TableError) as caught:
        Datasheet.from_dict(NEEDED | {855: "SoC", "colour": "blue"})
    assert str(caught.value) == "Expected the datasheet's fields to be known ones, but got 855, colour."


@pytest.mark.parametrize("field", ["expected_error", "yardstick_ms"])
def test_numbers_are_floats_whatever_number_was_given(field: str) -> None:
    for number in (0, -0.0, 1, np.float64(1), np.float32(1), np.int64(1), Fraction(1, 2)):
        value = getattr(Datasheet.from_dict(NEEDED | {field: number}), field)
        assert (type(value), str(value)) == (float, str(abs(float(number))))


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("device", "a text"),
        ("threads", "a positive integer"),
        ("batch", "a positive integer"),
        ("sources", "a tuple of texts"),
        ("emulated", "True or False"),
    ],
)
def test_number_that_python_cannot_write_is_refused(field: str, kind: str) -> None:
    for number in (10**5000, -(10**5000)):
        with pytest.raises(TableError) as caught:
            Datasheet.from_dict(NEEDED | {field: number})
        assert str(caught.value) == (
            f"Expected `{field}` to be {kind}, but got a value with more digits than can be written."
        )


def test_number_that_python_cannot_write_is_refused_in_a_list() -> None:
    with pytest.raises(TableError) as caught:
        Datasheet.from_dict(NEEDED | {"sources": ["a text", 10**5000]})
    assert str(caught.value) == (
        "Expected `sources` to be a tuple of texts, but got a value with more digits than can be written in it."
    )
