"""The registry: engines of other packages, and what is said of one that is none."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_nas.engine import default_engine, engine_names, get_engine
from latency_nas.errors import GraphError
from tests.other_package import install, on_the_path

PROJECT = """
[project]
name = "faulty-engines"
version = "2.0"

[project.entry-points."latency_nas.engines"]
broken = "faulty_engines.broken:Broken"
needy = "faulty_engines.needy:Needy"
none = "faulty_engines.none:nothing"
half = "faulty_engines.half:Half"
abstract = "faulty_engines.half:Abstract"
mnn = "faulty_engines.half:Half"
"""
HALF = """
from latency_nas.engine import Engine

class Abstract(Engine):
    pass

class Half(Engine):
    name = title = "half"
    def fuse(self, graph, target): ...
    def write(self, network, path, *, seed=0): ...
"""


@pytest.fixture(autouse=True)
def installed(tmp_path: Path) -> Iterator[None]:
    package = tmp_path / "project" / "faulty_engines"
    package.mkdir(parents=True)
    (package.parent / "pyproject.toml").write_text(PROJECT)
    for name, text in {
        "__init__": "",
        "needy": "import an_engine_that_is_not_here",
        "none": "def nothing(): pass",
        "half": HALF,
    }.items():
        (package / f"{name}.py").write_text(text)
    (tmp_path / "site").mkdir()
    install(package.parent, tmp_path / "site")
    with on_the_path(tmp_path / "site"):
        yield


REASONS = {
    "broken": ("broken:Broken", """ModuleNotFoundError("No module named 'faulty_engines.broken'")"""),
    "needy": ("needy:Needy", """ModuleNotFoundError("No module named 'an_engine_that_is_not_here'")"""),
    "none": ("none:nothing", "TypeError('nothing is no subclass of Engine')"),
    "half": ("half:Half", "TypeError('Half lacks install, suffixes, device_side')"),
}


@pytest.mark.parametrize("name", REASONS)
def test_a_requested_engine_that_cannot_be_loaded_gives_the_reason(name: str) -> None:
    with pytest.raises(GraphError) as caught:
        get_engine(name)
    place, reason = REASONS[name]
    assert str(caught.value) == f"Expected an engine at faulty_engines.{place}, but it cannot be loaded: {reason}."


def test_abstract_methods_are_named() -> None:
    with pytest.raises(GraphError, match=r"it cannot be loaded: TypeError\(.*Abstract.*abstract methods.*fuse.*write"):
        get_engine("abstract")


def test_a_fault_in_another_package_leaves_the_others_alone(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert engine_names() == ("mnn", "paddle-lite")
    left_out = [record.getMessage() for record in caplog.records]
    assert len(left_out) == 5
    place, reason = REASONS["half"]
    assert (
        f"An engine is left out. Expected an engine at faulty_engines.{place}, but it cannot be loaded: {reason}."
        in left_out
    )
    assert default_engine().name == "mnn"


def test_a_name_of_this_library_stays_its_own() -> None:
    assert type(get_engine("mnn")).__module__ == "latency_nas.engine.mnn.mnn_engine"
