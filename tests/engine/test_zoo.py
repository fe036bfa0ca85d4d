"""The zoo itself: its networks are those that were published."""

from __future__ import annotations

import pytest
import torch

from tests.zoo import N_PARAMS, ZOO


@pytest.mark.parametrize("name", N_PARAMS)
def test_networks_have_as_many_parameters_as_published(name: str) -> None:
    with torch.device("meta"):
        model = ZOO[name][0]()
    assert sum(parameter.numel() for parameter in model.parameters()) == N_PARAMS[name]
