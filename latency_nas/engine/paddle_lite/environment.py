"""Finds the Python in which Paddle-Lite runs.

Paddle-Lite has no wheels for CPython above 3.10, so it cannot be imported here. It runs in another interpreter.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from latency_nas.errors import MissingExtraError

__all__ = ["LITE_VARIABLE", "find_lite_python", "find_paddle_lite_opt", "lite_version"]

LITE_VARIABLE = "LATENCY_NAS_LITE_PYTHON"
_WHEELS = 'paddlelite==2.13rc0 "numpy<2"'
_HOW = (
    f"Paddle-Lite has wheels for x86-64 Linux and CPython up to 3.10 alone. Make an environment for it, "
    f"`python3.10 -m venv .venv-lite && .venv-lite/bin/pip install {_WHEELS}`, here or anywhere, and if it is not "
    f"here, name its Python in the variable {LITE_VARIABLE}."
)


def find_lite_python() -> Path:
    """The Python that imports ``paddlelite``.

    It is searched in this order: the variable `LATENCY_NAS_LITE_PYTHON`; ``.venv-lite/bin/python`` in the working
    folder, then beside this interpreter's environment; ``python3.10`` on the path; the 3.10 versions of pyenv.

    Raises:
        MissingExtraError: if there is none. The message has the commands that make one.
    """
    named = os.environ.get(LITE_VARIABLE)
    if named:
        if not _imports_paddlelite(Path(named)):
            raise MissingExtraError(
                f"Expected {LITE_VARIABLE} to name a Python with paddlelite, but got {named}. {_HOW}"
            )
        return Path(named)
    for candidate in _candidates():
        if candidate.is_file() and _imports_paddlelite(candidate):
            return candidate
    raise MissingExtraError(f"Expected a Python with paddlelite, but found none. {_HOW}")


def lite_version() -> str:
    """The version of paddlelite in that Python, from the names of its files; empty where there is none."""
    named = os.environ.get(LITE_VARIABLE)
    for python in [Path(named)] if named else _candidates():
        found = sorted(python.parent.parent.glob("lib/python3*/site-packages/paddlelite-*.dist-info"))
        if found:
            return found[0].name.removeprefix("paddlelite-").removesuffix(".dist-info")
    return ""


def find_paddle_lite_opt() -> Path:
    """The program ``paddle_lite_opt`` of that Python's paddlelite.

    Raises:
        MissingExtraError: as `find_lite_python`.
    """
    program = find_lite_python().parent / "paddle_lite_opt"
    if not program.is_file():
        raise MissingExtraError(f"Expected the program {program}, but it is not there. {_HOW}")
    return program


def _candidates() -> Iterator[Path]:
    for folder in (Path.cwd(), Path(sys.prefix).parent):
        yield folder / ".venv-lite" / "bin" / "python"
    if on_path := shutil.which("python3.10"):
        yield Path(on_path)
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob("versions/3.10.*/bin/python"))


@cache
def _imports_paddlelite(python: Path) -> bool:
    try:
        run = subprocess.run(  # noqa: S603 - the user's own interpreter
            [python, "-c", "import paddlelite.lite"], capture_output=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return run.returncode == 0
