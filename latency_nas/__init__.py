"""Latency-aware neural architecture search: tables, estimates and a differentiable loss.

Names are imported when first used, so that ``import latency_nas`` pulls in neither torch nor an engine.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latency_nas.engine import Engine, Target, get_engine
    from latency_nas.estimate.accuracy import Accuracy, check_table
    from latency_nas.estimate.calibration import NetworkTime, calibrate
    from latency_nas.estimate.estimate import Estimate
    from latency_nas.estimate.estimator import LatencyEstimator
    from latency_nas.estimate.resource_counter import ResourceCounter
    from latency_nas.graph import OpGraph
    from latency_nas.graph.architectures import covering_architectures, random_architectures
    from latency_nas.graph.reader import read_model
    from latency_nas.integrate.lightning import LatencyCallback
    from latency_nas.integrate.paddle import PaddleLatencyCallback
    from latency_nas.kernel import Kernel, Quantity
    from latency_nas.measure.meter import measure_networks, measure_table
    from latency_nas.report.page import write_page
    from latency_nas.report.progress import progress_bar
    from latency_nas.report.text import breakdown_table
    from latency_nas.search.loss.constraint import AugmentedLagrangian, Constraint
    from latency_nas.search.loss.loss import LatencyLoss
    from latency_nas.search.loss.paddle_loss import PaddleLatencyLoss
    from latency_nas.search.loss.schedule import Schedule
    from latency_nas.search.loss.targets import Targets
    from latency_nas.search.supernet.choice import Choice
    from latency_nas.search.supernet.measuring import measure_supernet
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
    from latency_nas.verdict.verdict import verify

__version__ = "0.1.0"

# public name -> the module that holds it
_HOMES = {
    "Accuracy": "latency_nas.estimate.accuracy",
    "AugmentedLagrangian": "latency_nas.search.loss.constraint",
    "Choice": "latency_nas.search.supernet.choice",
    "Constraint": "latency_nas.search.loss.constraint",
    "Datasheet": "latency_nas.table",
    "Engine": "latency_nas.engine",
    "Estimate": "latency_nas.estimate.estimate",
    "Kernel": "latency_nas.kernel",
    "LatencyCallback": "latency_nas.integrate.lightning",
    "LatencyEstimator": "latency_nas.estimate.estimator",
    "LatencyLoss": "latency_nas.search.loss.loss",
    "LatencyTable": "latency_nas.table",
    "NetworkTime": "latency_nas.estimate.calibration",
    "OpGraph": "latency_nas.graph",
    "PaddleLatencyCallback": "latency_nas.integrate.paddle",
    "PaddleLatencyLoss": "latency_nas.search.loss.paddle_loss",
    "Quantity": "latency_nas.kernel",
    "ResourceCounter": "latency_nas.estimate.resource_counter",
    "Schedule": "latency_nas.search.loss.schedule",
    "Target": "latency_nas.engine",
    "Targets": "latency_nas.search.loss.targets",
    "breakdown_table": "latency_nas.report.text",
    "calibrate": "latency_nas.estimate.calibration",
    "check_table": "latency_nas.estimate.accuracy",
    "covering_architectures": "latency_nas.graph.architectures",
    "export_table": "latency_nas.table",
    "get_engine": "latency_nas.engine",
    "import_paddleslim": "latency_nas.table",
    "import_table": "latency_nas.table",
    "load_table": "latency_nas.table",
    "measure_networks": "latency_nas.measure.meter",
    "measure_supernet": "latency_nas.search.supernet.measuring",
    "measure_table": "latency_nas.measure.meter",
    "named_tables": "latency_nas.table",
    "progress_bar": "latency_nas.report.progress",
    "random_architectures": "latency_nas.graph.architectures",
    "read_model": "latency_nas.graph.reader",
    "read_supernet": "latency_nas.search.supernet.supernet",
    "save_table": "latency_nas.table",
    "verify": "latency_nas.verdict.verdict",
    "write_page": "latency_nas.report.page",
}

__all__ = [
    "Accuracy",
    "AugmentedLagrangian",
    "Choice",
    "Constraint",
    "Datasheet",
    "Engine",
    "Estimate",
    "Kernel",
    "LatencyCallback",
    "LatencyEstimator",
    "LatencyLoss",
    "LatencyTable",
    "NetworkTime",
    "OpGraph",
    "PaddleLatencyCallback",
    "PaddleLatencyLoss",
    "Quantity",
    "ResourceCounter",
    "Schedule",
    "Target",
    "Targets",
    "breakdown_table",
    "calibrate",
    "check_table",
    "covering_architectures",
    "export_table",
    "get_engine",
    "import_paddleslim",
    "import_table",
    "load_table",
    "measure_networks",
    "measure_supernet",
    "measure_table",
    "named_tables",
    "progress_bar",
    "random_architectures",
    "read_model",
    "read_supernet",
    "save_table",
    "verify",
    "write_page",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
