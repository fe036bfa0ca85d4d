"""What all tests share: the Python of Paddle-Lite, and which tests are slow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Tests run in as many processes as there are cores. Threads of torch would wait for each other's turns on these cores:
# an epoch of a search takes six times as long beside other work. Processes that tests start get the same.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from latency_nas.engine.paddle_lite.environment import find_lite_python
from latency_nas.errors import MissingExtraError

# On a busy machine an example takes longer; that says nothing of what is tested.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")

HERE = Path(__file__).parent
# Folders and files whose tests run engines, devices, training or other processes: `make test` runs them, `make check`
# does not.
SLOW = (
    "compat/test_mmt.py",
    "cli/test_measure.py",
    "engine",
    "estimate/test_uncertainty.py",
    "graph/onnx/test_reader.py",
    "graph/test_twins.py",
    "graph/paddle/test_reader.py",
    "integrate",
    "measure",
    "search/loss/test_frameworks.py",
    "search/loss/test_paddle_loss.py",
    "search/plan/test_attach_cost.py",
    "search/plan/test_spread.py",
    "search/select/test_replacements.py",
    "search/supernet/test_styles.py",
    "report/test_without_engines.py",
    "table/test_plausibility.py",
    "tables",
    "test_docs.py",
    "test_examples.py",
    "test_fbnet_chain.py",
    "test_import.py",
    "test_public_names.py",
    "test_readme.py",
    "test_search_digits.py",
)


# Files that take minutes: they begin first, so that no process waits for them in the end.
LONG = (
    "test_search_digits.py",
    "test_fbnet_chain.py",
    "test_examples.py",
    "estimate/test_uncertainty.py",
    "measure/test_meter.py",
    "integrate/test_lightning_ranks.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests below `SLOW` as slow, and put those of `LONG` files first."""
    names = {item: item.path.relative_to(HERE).as_posix() for item in items if item.path.is_relative_to(HERE)}
    for item, name in names.items():
        if name.startswith(SLOW):
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: names.get(item) not in LONG)


@pytest.fixture(scope="session")
def lite_python() -> Path:
    """The Python that has Paddle-Lite; without one the test is skipped and says how to make it."""
    try:
        return find_lite_python()
    except MissingExtraError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def exporter_tables_read_once() -> Iterator[None]:
    """Torch's ONNX exporter reads the ops of its library anew for each model: over a second each time."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(cache(ONNXRegistry.from_torchlib)))
        yield
