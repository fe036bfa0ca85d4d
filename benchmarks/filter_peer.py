"""Runs OFA's own latency table (PyPI `ofa`), in an environment of its own.

`filter.py` starts it and gives a request as JSON: costs and rows of candidates. It writes an equal table as OFA's YAML,
times `predict_network_latency_given_config` on the configurations, and prints one line of JSON: the processor time, the
latencies, and the shims without which it neither imports nor reads.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import yaml

PAIRS = [(kernel, expansion) for kernel in (3, 5, 7) for expansion in (3, 4, 6)]
SIZE, WIDTH = 112, 24  # resolution and channels of all blocks
SHIMS: list[str] = []


class _Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Takes the place of packages that OFA imports for training and that a latency table does not use."""

    names = ("torchvision", "horovod", "tqdm")

    def find_spec(self, name: str, *_: Any) -> importlib.machinery.ModuleSpec | None:
        """Of these packages and of what is in them."""
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in self.names else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """An empty module with any attribute."""
        SHIMS.append(f"{spec.name} is an empty module")
        module = _Empty(spec.name)
        module.__path__ = []
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing is run."""


class _Empty(ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {}) if name[0].isupper() else MagicMock()


def table_of(fixed: float, costs: list[list[float]]) -> dict[str, dict[str, float]]:
    """The request as OFA's table: the blocks differ by their output channels, since its keys have no number."""
    lut = {
        f"Conv-input:224x224x3-output:{SIZE}x{SIZE}x{WIDTH}": {"mean": fixed},
        f"Conv_1-input:{SIZE}x{SIZE}x1-output:{SIZE}x{SIZE}x1": {"mean": 0.0},
        f"Logits-input:{SIZE}x{SIZE}x1-output:1000": {"mean": 0.0},
    }
    for block, row in enumerate(costs):
        for (kernel, expansion), cost in zip(PAIRS, row, strict=True):
            key = f"expanded_conv-input:{SIZE}x{SIZE}x{WIDTH}-output:{SIZE}x{SIZE}x{WIDTH + block}"
            lut[f"{key}-expand:{expansion}-kernel:{kernel}-stride:1-idskip:0"] = {"mean": cost}
    return lut


def config_of(row: list[int]) -> dict[str, Any]:
    """The configuration of an architecture, as OFA's networks give it."""
    blocks = [
        {
            "mobile_inverted_conv": {
                "stride": 1, "in_channels": WIDTH, "out_channels": WIDTH + block,
                "kernel_size": PAIRS[index][0], "expand_ratio": PAIRS[index][1],
            },
            "shortcut": None,
        }
        for block, index in enumerate(row)
    ]  # fmt: skip
    ends = {
        "feature_mix_layer": {"in_channels": 1, "out_channels": 1},
        "classifier": {"in_features": 1, "out_features": 1000},
    }
    return {"first_conv": {"out_channels": WIDTH}, "blocks": blocks, **ends}


if __name__ == "__main__":
    sys.meta_path.append(_Absent())
    load = yaml.load
    yaml.load = lambda file: load(file, yaml.CSafeLoader)  # type: ignore[assignment]
    SHIMS.append("yaml.load without a loader takes CSafeLoader")
    from ofa.nas.efficiency_predictor.latency_lookup_table import ProxylessNASLatencyTable

    asked = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "table.yaml")
        file.write_text(yaml.safe_dump(table_of(asked["fixed"], asked["costs"])))
        table = ProxylessNASLatencyTable(url=str(file))
    configs = [config_of(row) for row in asked["rows"]]
    start = time.process_time()
    latencies_ms = [table.predict_network_latency_given_config(config, 224) for config in configs]
    seconds = time.process_time() - start
    print(json.dumps({"seconds": seconds, "latencies_ms": latencies_ms, "shims": SHIMS}))
