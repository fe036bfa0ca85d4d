"""How the device side is sent: as the first line of its own standard input. No file is left on the device."""

from __future__ import annotations

import json
from pathlib import Path

from latency_nas.engine import Engine, serving

__all__ = ["BOOT", "boot_line", "sources"]

BOOT = "import json, sys; exec(json.loads(sys.stdin.readline()))"
"""What ``python -c`` runs on the device."""

# Modules of the same names as here, in packages that hold nothing else: the device does not need this library.
_PROGRAM = """
import sys, types
for package in ("latency_nas", "latency_nas.engine"):
    sys.modules[package] = types.ModuleType(package)
    sys.modules[package].__path__ = []
for name, source in {sources!r}.items():
    sys.modules[name] = module = types.ModuleType(name)
    exec(compile(source, name, "exec"), module.__dict__)
sys.modules["latency_nas.engine.serving"].main(module)
"""


def sources(engine: Engine) -> dict[str, str]:
    """Name of a module on the device -> its source: the serving module, then the engine's part."""
    files = {"latency_nas.engine.serving": Path(serving.__file__), "device_side": engine.device_side}
    return {name: file.read_text() for name, file in files.items()}


def boot_line(engine: Engine) -> str:
    """The line that `BOOT` reads."""
    return json.dumps(_PROGRAM.format(sources=sources(engine))) + "\n"
