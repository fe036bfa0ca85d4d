"""Latency-aware neural architecture search: tables, estimates and a differentiable loss.

Names are imported when first used, so that ``import latency_nas`` pulls in neither torch nor an engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latency_nas.estimate.estimate import Estimate
    from latency_nas.estimate.estimator import LatencyEstimator
    from latency_nas.estimate.resource_counter import ResourceCounter
    from latency_nas.graph.architectures import covering_architectures
    from latency_nas.integrate.lightning import LatencyCallback
    from latency_nas.integrate.paddle import PaddleLatencyCallback
    from latency_nas.kernel import Kernel, Quantity
    from latency_nas.measure.meter import measure_networks, measure_table
    from latency_nas.search.loss.loss import LatencyLoss
    from latency_nas.search.loss.paddle_loss import PaddleLatencyLoss
    from latency_nas.search.loss.schedule import Schedule
    from latency_nas.search.loss.targets import Targets
    from latency_nas.search.supernet.choice import Choice
    from latency_nas.search.supernet.supernet import read_supernet
    from latency_nas.table import (
        Datasheet,
        LatencyTable,
        export_table,
        import_paddleslim,
        import_table,
        load_table,
        named_tables,
        save_table,
    )

__version__ = "0.1.0"

# public name -> the module that holds it
_HOMES = {
    "Choice": "latency_nas.search.supernet.choice",
    "Datasheet": "latency_nas.table",
    "Estimate": "latency_nas.estimate.estimate",
    "Kernel": "latency_nas.kernel",
    "LatencyCallback": "latency_nas.integrate.lightning",
    "LatencyEstimator": "latency_nas.estimate.estimator",
    "LatencyLoss": "latency_nas.search.loss.loss",
    "LatencyTable": "latency_nas.table",
    "PaddleLatencyCallback": "latency_nas.integrate.paddle",
    "PaddleLatencyLoss": "latency_nas.search.loss.paddle_loss",
    "Quantity": "latency_nas.kernel",
    "ResourceCounter": "latency_nas.estimate.resource_counter",
    "Schedule": "latency_nas.search.loss.schedule",
    "Targets": "latency_nas.search.loss.targets",
    "covering_architectures": "latency_nas.graph.architectures",
    "export_table": "latency_nas.table",
    "import_paddleslim": "latency_nas.table",
    "import_table": "latency_nas.table",
    "load_table": "latency_nas.table",
    "measure_networks": "latency_nas.measure.meter",
    "measure_table": "latency_nas.measure.meter",
    "named_tables": "latency_nas.table",
    "read_supernet": "latency_nas.search.supernet.supernet",
    "save_table": "latency_nas.table",
}

__all__ = [
    "Choice",
    "Datasheet",
    "Estimate",
    "Kernel",
    "LatencyCallback",
    "LatencyEstimator",
    "LatencyLoss",
    "LatencyTable",
    "PaddleLatencyCallback",
    "PaddleLatencyLoss",
    "Quantity",
    "ResourceCounter",
    "Schedule",
    "Targets",
    "covering_architectures",
    "export_table",
    "import_paddleslim",
    "import_table",
    "load_table",
    "measure_networks",
    "measure_table",
    "named_tables",
    "read_supernet",
    "save_table",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
