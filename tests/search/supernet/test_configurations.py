"""Architectures by index, by name and by option, as `LatencyLoss.price` reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from latency_nas.errors import SearchError
from latency_nas.search.loss.loss import LatencyLoss
from latency_nas.search.plan.architecture import Architecture
from tests.search.supernet.test_styles import fbnet, ofa
from tests.styles import Fbnet, Ofa
from tests.supernets import MadeUp, set_target


@pytest.fixture(scope="module")
def elastic() -> LatencyLoss:
    """Attached to a network of integer options: depths 1 and 2, kernels 3 and 5, expansions 1, 2 and 3."""
    torch.manual_seed(0)
    latency = LatencyLoss(MadeUp())
    ofa(latency, Ofa())
    return latency


def cost(latency: LatencyLoss, architecture: Mapping[str, Any]) -> float:
    return latency.price(architecture).latency_ms


def message_of(latency: LatencyLoss, config: dict[str, object]) -> str:
    with pytest.raises(SearchError) as caught:
        latency.price(config)
    return str(caught.value)


def test_integers_are_options_where_options_are(elastic: LatencyLoss) -> None:
    indices = Architecture(dict.fromkeys(elastic.plan.choices, 1))  # the second option of each
    options = elastic.config(indices)
    assert options["depth0"] == 2
    assert options["kernel0"] == 5
    assert options["resolution"] == 12
    assert cost(elastic, options) == cost(elastic, indices) == pytest.approx(elastic.plan.latency_ms(indices))
    as_options = {**options, "depth0": 1, "depth1": 1}
    assert cost(elastic, as_options) == pytest.approx(elastic.plan.latency_ms({**indices, "depth0": 0, "depth1": 0}))
    assert cost(elastic, as_options) != cost(elastic, indices)


def test_what_is_no_option_is_no_index_either(elastic: LatencyLoss) -> None:
    config = {**elastic.config(dict.fromkeys(elastic.plan.choices, 0)), "kernel0": 1}
    assert message_of(elastic, config) == (
        "Expected one of the options 3, 5 of `kernel0`, but got 1; an architecture of indices is priced by "
        "latency.plan.cost."
    )


def test_a_plan_without_its_supernet_takes_no_number_that_could_be_both(elastic: LatencyLoss) -> None:
    latency = LatencyLoss(MadeUp())
    latency.attach_plan(elastic.plan, lambda: torch.zeros(elastic.plan.n_gates))
    indices = dict.fromkeys(elastic.plan.choices, 0)
    assert cost(latency, indices) == pytest.approx(elastic.plan.latency_ms(indices))
    assert message_of(latency, {**indices, "depth0": 1}) == (
        "Expected an index or a name for `depth0`, but 1 could be both: give '1' for the candidate of that name, or "
        "price indices by latency.plan.cost."
    )
    assert cost(latency, {**indices, "depth0": "2"}) == pytest.approx(elastic.plan.latency_ms({**indices, "depth0": 1}))


def test_what_is_found_is_indices() -> None:
    latency = LatencyLoss(MadeUp())
    fbnet(latency, Fbnet())
    set_target(latency)
    for found in (latency.architecture(), latency.project(), latency.discretize()):
        assert isinstance(found, Architecture)
        assert cost(latency, found) == cost(latency, dict(found)) == pytest.approx(latency.plan.latency_ms(found))
    with pytest.raises(SearchError) as caught:
        latency.config(found)
    assert str(caught.value) == ("Expected a supernet that was attached by its options: no other has configurations.")
