"""What is not a latency is never called milliseconds: quantities, their texts and their refusals."""

from __future__ import annotations

import pytest

from latency_nas.errors import QuantityError
from latency_nas.kernel import LATENCY, QUANTITIES, Quantity

MACS, PARAMS, ENERGY = QUANTITIES["MACs"], QUANTITIES["parameters"], QUANTITIES["energy"]


@pytest.mark.parametrize(
    ("quantity", "value", "std", "text"),
    [
        (LATENCY, 0.3041, 0.0021, "0.304 ± 0.002 ms"),
        (LATENCY, 0.3041, None, "0.304 ms ± unknown"),
        (LATENCY, 1234.5, 0.0, "1234.500 ± 0.000 ms"),
        (PARAMS, 36.0, 0.0, "36 params"),
        (PARAMS, 7978856.0, 0.0, "7,978,856 params"),
        (MACS, 1000.0, 20.0, "1,000 ± 20 MACs"),
        (ENERGY, 3.25, 0.5, "3.250 ± 0.500 mJ"),
    ],
)
def test_a_figure_has_its_unit(quantity: Quantity, value: float, std: float | None, text: str) -> None:
    assert quantity.figure(value, std) == text


def test_a_message_shows_four_digits_of_what_is_measured_and_all_of_what_is_counted() -> None:
    assert (LATENCY.rounded(0.123456), PARAMS.rounded(3e6)) == ("0.1235", "3,000,000")


def test_units_end_the_names_of_logged_figures() -> None:
    suffixes = {name: quantity.suffix for name, quantity in QUANTITIES.items()}
    assert suffixes == {
        "latency": "ms", "MACs": "macs", "parameters": "params", "bytes": "bytes", "peak memory": "mb", "energy": "mj",
        "throughput": "tokens_per_s",
    }  # fmt: skip


def test_only_milliseconds_are_a_latency() -> None:
    assert [name for name, quantity in QUANTITIES.items() if quantity.is_latency] == ["latency"]
    LATENCY.check_latency("latency_ms", "value")
    with pytest.raises(QuantityError) as caught:
        PARAMS.check_latency("latency_ms", "value")
    assert str(caught.value) == (
        "Expected a latency where `latency_ms` is used, but got parameters in params: use `value`."
    )
    assert isinstance(caught.value, TypeError)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "Expected `name` of a quantity to be a word or more, but got ''."),
        ({"unit": " "}, "Expected `unit` of a quantity to be a word or more, but got ' '."),
        ({"unit": None}, "Expected `unit` of a quantity to be a word or more, but got None."),
        ({"n_decimals": -1}, "Expected `n_decimals` to be an integer from 0 to 9, but got -1."),
        ({"n_decimals": True}, "Expected `n_decimals` to be an integer from 0 to 9, but got True."),
    ],
)
def test_a_quantity_is_checked_when_it_is_made(fields: dict[str, object], message: str) -> None:
    with pytest.raises(QuantityError) as caught:
        Quantity(**{"name": "price", "unit": "cent", **fields})  # type: ignore[arg-type]
    assert str(caught.value) == message
