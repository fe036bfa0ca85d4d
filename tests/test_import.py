"""``import latency_nas`` is cheap, and its public names are imported when first used."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from functools import cache

import grimp
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import latency_nas

HEAVY = ("MNN", "lightning", "numpy", "onnx", "pyarrow", "pytorch_lightning", "sklearn", "torch")
TABLES_NEED = {"numpy", "pyarrow"}
OPTIONAL = ("MNN", "lightning", "matplotlib", "onnx", "onnxscript", "optuna", "pymoo", "pytorch_lightning")
NEED_AN_EXTRA = {
    "ArchitectureProblem": "ArchitectureProblem needs pymoo: pip install 'latency-nas[pymoo]'",
    "LatencyCallback": "LatencyCallback needs Lightning: pip install 'latency-nas[lightning]'",
    "write_page": "Plots need matplotlib: pip install 'latency-nas[report]'",
}
ENGINES = ("MNN", "onnx", "onnxscript", "paddlelite", "onnxruntime", "openvino")
NO_ENGINE = "Measuring needs MNN and onnx: pip install 'latency-nas[mnn]'"

COUNTED = """
import sys
before = len(sys.modules)
import {module}
print(len(sys.modules) - before)
"""

WITHOUT_EXTRAS = f"""
import json, sys


class NotInstalled:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OPTIONAL!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, NotInstalled())
"""
PUBLIC_NAMES = """
starred = {}
exec("from latency_nas import *", starred)
import latency_nas
failed = {}
for name in dir(latency_nas):
    try:
        getattr(latency_nas, name)
    except BaseException as error:
        failed[name] = f"{type(error).__name__}: {error}"
print(json.dumps([sorted(starred), failed]))
"""


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout  # noqa: S603


@cache
def _imported_by(module: str) -> set[str]:
    code = f"import json, sys, {module}; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    return set(json.loads(_run(code)))


@pytest.fixture(scope="module")
def without_extras() -> tuple[set[str], dict[str, str]]:
    """In an installation without extras: what a star import gives, and the error of each public name that fails."""
    starred, failed = json.loads(_run(WITHOUT_EXTRAS + PUBLIC_NAMES))
    return set(starred), failed


def test_root_imports_nothing_heavy() -> None:
    assert _imported_by("latency_nas") == set()


def test_tables_need_neither_torch_nor_an_engine() -> None:
    assert _imported_by("latency_nas.table") <= TABLES_NEED


def test_these_import_checks_can_fail() -> None:
    assert "torch" in _imported_by("latency_nas.search.loss.loss")


def test_root_imports_a_tenth_of_what_torch_does() -> None:
    """Modules are counted: seconds depend on what else the machine does."""
    n_modules = {module: int(_run(COUNTED.format(module=module))) for module in ("latency_nas", "torch")}
    assert n_modules["latency_nas"] <= n_modules["torch"] / 10


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError) as caught:
        latency_nas.LatencyTabel  # noqa: B018
    assert str(caught.value) == "No latency_nas attribute LatencyTabel"


def test_dir_lists_every_public_name_once() -> None:
    listed = latency_nas.__dir__()
    assert set(latency_nas.__all__) <= set(listed)
    assert len(listed) == len(set(listed))


def test_names_that_need_no_extra_come_without_one(without_extras: tuple[set[str], dict[str, str]]) -> None:
    assert without_extras[1].keys() <= NEED_AN_EXTRA.keys()


def test_no_import_changes_random_states() -> None:
    """As if the library were not there: a search that is seeded first draws the same numbers."""
    code = """
import random
import numpy as np
random.seed(0)
np.random.seed(0)
before = random.getstate(), str(np.random.get_state())
import latency_nas
for name in dir(latency_nas):
    if name not in {"LatencyCallback", "PaddleLatencyCallback", "PaddleLatencyLoss"}:  # others' imports
        getattr(latency_nas, name)
assert (random.getstate(), str(np.random.get_state())) == before
random.random()
assert random.getstate() != before[0], "this check can fail"
"""
    _run(code)


def test_a_star_import_needs_no_extra(without_extras: tuple[set[str], dict[str, str]]) -> None:
    assert {"LatencyLoss", "Targets", "measure_supernet", "load_table"} <= without_extras[0]
    assert not {*NEED_AN_EXTRA, "PaddleLatencyLoss"} & without_extras[0]


def test_what_measures_without_the_engine_says_so() -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys({OPTIONAL!r}))  # a name of None does not import, and nobody else stumbles over it
import latency_nas
from torch import nn
from latency_nas.graph.torch.reader import read_torch
for function in (latency_nas.measure_networks, latency_nas.measure_table):
    try:
        function([read_torch(nn.ReLU(), input_shape=(1, 8, 4, 4))])
    except latency_nas.errors.MissingExtraError as error:
        print(error)
"""
    assert _run(code).splitlines() == [NO_ENGINE, NO_ENGINE]


def test_names_that_need_an_extra_say_so(without_extras: tuple[set[str], dict[str, str]]) -> None:
    assert without_extras[1] == {name: f"MissingExtraError: {message}" for name, message in NEED_AN_EXTRA.items()}


def test_loss_needs_neither_engine_nor_lightning() -> None:
    assert _imported_by("latency_nas.search.loss.loss").isdisjoint({"MNN", "lightning", "onnx", "pytorch_lightning"})


def test_a_price_and_a_search_need_neither_engine_nor_onnx() -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys({ENGINES!r}))
import torch
from torch import nn
from latency_nas import LatencyEstimator, LatencyLoss, ResourceCounter, Targets


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.ops = nn.ModuleList([nn.Conv2d(64, 64, 3, padding=1), nn.Conv2d(64, 64, 1)])
        self.alpha = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return sum(gate * op(x) for gate, op in zip(self.alpha.softmax(0), self.ops))


net, x = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1, groups=64), Mixed(), nn.ReLU()), torch.zeros(1, 64, 56, 56)
whole = LatencyEstimator("SD865").predict(nn.Sequential(net[0], net[1].ops[0], net[2]), x)
latency = Targets({{"phone": LatencyLoss("SD865"), "size": LatencyLoss(ResourceCounter("params"))}})
latency.attach(net, x)
latency.combine(torch.zeros(())).backward()
phone, size = (loss.plan.cost({{"1": 0}}) for loss in latency.by_name().values())
print(abs(phone / whole.latency_ms - 1) < 1e-9, size, bool(net[1].alpha.grad.any()))
print(sorted(name for name in {ENGINES!r} if sys.modules[name] is not None))
"""
    n_params = (9 * 64 + 64) + (64 * 9 * 64 + 64)
    assert _run(code).splitlines() == [f"True {n_params}.0 True", "[]"]


def _circles(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """The modules of each circle of imports."""
    pairs = list(edges)
    names = sorted({name for pair in pairs for name in pair})
    row, column = (list(map(names.index, side)) for side in zip(*pairs, strict=True))
    matrix = coo_array(([1] * len(pairs), (row, column)), shape=(len(names), len(names)))
    _, labels = connected_components(matrix, connection="strong")
    groups = {label: [name for name, its in zip(names, labels, strict=True) if its == label] for label in set(labels)}
    return sorted(group for group in groups.values() if len(group) > 1)


def test_no_files_import_each_other_in_a_circle() -> None:
    """Imports for types alone do not count."""
    graph = grimp.build_graph("latency_nas", exclude_type_checking_imports=True, cache_dir=None)
    edges = [(name, other) for name in graph.modules for other in graph.find_modules_directly_imported_by(name)]
    assert len(edges) > 500
    assert _circles(edges) == []


def test_the_check_for_circles_can_fail() -> None:
    assert _circles([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e")]) == [["a", "b", "c"]]
