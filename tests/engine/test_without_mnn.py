"""A copy of this library without the folder of MNN: all else works, with the engines that are left.

The tests of the toy engine run again on that copy, in a process of their own.
"""

# ruff: noqa: S603 - this interpreter itself

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.other_package import install

ROOT = Path(__file__).parents[2]
TOY_TESTS = re.findall(r"^def (test_\w+)", Path(__file__).with_name("test_toy_engine.py").read_text(), re.MULTILINE)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, its tables and what its tests need, and no MNN."""
    copy = tmp_path_factory.mktemp("copy")
    unwanted = shutil.ignore_patterns("mnn", "golden")  # what is compiled is copied with its source, and stays valid
    for folder in ("latency_nas", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=unwanted)
    (copy / "tables").symlink_to(ROOT / "tables")
    shutil.copy(ROOT / "pyproject.toml", copy)
    (copy / "MNN.py").write_text("raise AssertionError('nothing may import MNN')")
    (copy / "_tools.py").write_text("raise AssertionError('nothing may import its converter')")
    install(copy / "tests" / "toy_engine", copy)
    return copy


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=copy, env=environment)


def printed(copy: Path, code: str) -> str:
    done = run(copy, "-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_it_is_the_copy_and_its_folder_is_gone(copy: Path) -> None:
    assert printed(copy, "import latency_nas; print(latency_nas.__file__)") == str(copy / "latency_nas" / "__init__.py")
    assert not (copy / "latency_nas" / "engine" / "mnn").exists()
    assert (copy / "latency_nas" / "engine" / "paddle_lite").exists()


def test_the_default_is_the_next_of_the_registry(copy: Path) -> None:
    code = "from latency_nas.engine import default_engine, engine_names; print(default_engine().name, engine_names())"
    assert printed(copy, code) == "paddle-lite ('paddle-lite', 'toy')"


def test_a_request_for_mnn_lists_the_other_engines(copy: Path) -> None:
    (copy / "ops.yaml").write_text("latency_nas: 1\nops:\n  - class: torch.nn.ReLU\n    input: [1, 8]\n")
    start = ("-c", "from latency_nas.cli.main import main; main()", "measure", "ops.yaml", "-s", "s.sqlite")
    done = run(copy, *start, "--engine", "mnn")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: GraphError: Expected an engine whose fusion rules are known (Paddle-Lite, Toy Engine), but got 'mnn': "
        "its tables can be read, but no model can be priced by them yet.\n"
    )


def test_a_named_table_of_another_engine_prices_a_model(copy: Path) -> None:
    code = """
from torch import nn
from latency_nas import LatencyEstimator, named_tables
net = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
estimate = LatencyEstimator("SD865").predict(net.eval(), input_shape=(1, 3, 224, 224))
print(len(estimate.kernels), 0 < estimate.latency_ms < 100, "x86-mnn" in named_tables())
"""
    assert printed(copy, code).splitlines()[-1] == "1 True True"


@pytest.fixture(scope="module")
def outcomes(copy: Path) -> dict[str, ElementTree.Element]:
    """What became of each test of the toy engine on the copy."""
    tests = str(copy / "tests" / "engine" / "test_toy_engine.py")
    done = run(copy, "-m", "pytest", tests, "-q", "-p", "no:cacheprovider", "--junitxml", str(copy / "tests.xml"))
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return {str(case.get("name")): case for case in ElementTree.parse(copy / "tests.xml").iter("testcase")}  # noqa: S314


@pytest.mark.parametrize("name", TOY_TESTS)
def test_the_toy_engine_works(outcomes: dict[str, ElementTree.Element], name: str) -> None:
    skipped = outcomes[name].find("skipped")
    if skipped is not None:
        pytest.skip(str(skipped.get("message")))
    assert "".join(part.text or "" for part in outcomes[name]) == ""
