"""Where the Python with Paddle-Lite is looked for, and what is said where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from latency_nas.engine.paddle_lite.environment import LITE_VARIABLE, find_lite_python
from latency_nas.errors import MissingExtraError

HOW = (
    "Paddle-Lite has wheels for x86-64 Linux and CPython up to 3.10 alone. Make an environment for it, `python3.10 -m "
    'venv .venv-lite && .venv-lite/bin/pip install paddlelite==2.13rc0 "numpy<2"`, here or anywhere, and if it is not '
    "here, name its Python in the variable LATENCY_NAS_LITE_PYTHON."
)


def test_a_python_without_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LITE_VARIABLE, sys.executable)
    with pytest.raises(MissingExtraError) as caught:
        find_lite_python()
    assert str(caught.value) == (
        f"Expected LATENCY_NAS_LITE_PYTHON to name a Python with paddlelite, but got {sys.executable}. {HOW}"
    )


def test_none_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(LITE_VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    with pytest.raises(MissingExtraError) as caught:
        find_lite_python()
    assert str(caught.value) == f"Expected a Python with paddlelite, but found none. {HOW}"


def test_what_is_found_imports_it(lite_python: Path) -> None:
    code = "import paddlelite.lite as lite; print(hasattr(lite, 'CxxConfig'))"
    assert subprocess.run([lite_python, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"  # noqa: S603
