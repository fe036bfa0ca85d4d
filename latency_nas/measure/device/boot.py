"""How the device side is sent: as the first line of its own standard input. No file is left on the device."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from latency_nas.engine import Engine, serving

__all__ = ["BOOT", "boot_line", "packages", "sources"]

BOOT = "import json, sys; exec(json.loads(sys.stdin.readline()))"
"""What ``python -c`` runs on the device."""

# Modules of the same names as here, in packages that hold nothing else: the device does not need this library.
_PROGRAM = """
import sys, types
for package in {packages!r}:
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = []
for name, source in {sources!r}.items():
    sys.modules[name] = module = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
sys.modules["latency_nas.engine.serving"].main(module)
"""


def sources(engine: Engine) -> dict[str, str]:
    """Name of a module on the device -> its source: the serving module, then the engine's modules."""
    serves = {"latency_nas.engine.serving": Path(serving.__file__)}
    files = {**serves, **engine.device_side_parts, "device_side": engine.device_side}
    return {name: file.read_text() for name, file in files.items()}


def packages(modules: Iterable[str]) -> list[str]:
    """The packages that modules are in, outer ones first."""
    found: set[str] = set()
    for name in modules:
        parts = name.split(".")[:-1]
        found |= {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}
    return sorted(found)


def boot_line(engine: Engine) -> str:
    """The line that `BOOT` reads."""
    modules = sources(engine)
    return json.dumps(_PROGRAM.format(sources=modules, packages=packages(modules))) + "\n"
