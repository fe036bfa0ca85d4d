"""The simulated device as an engine of this process and of those that it starts, at a moment of its trace."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.other_package import install, on_the_path

PROJECT = Path(__file__).parent / "simulated_device"


@contextlib.contextmanager
def simulated_device(folder: Path) -> Iterator[None]:
    """The engine ``"simulated"`` is installed in `folder`, and known."""
    install(PROJECT, folder)
    with on_the_path(folder):
        yield


@contextlib.contextmanager
def moment(row: int, regime: str = "mixed") -> Iterator[None]:
    """Devices that are started inside begin at this round of the trace, or of the rounds of one regime."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIMULATED_DEVICE", f"{regime}@{row}")
        yield
