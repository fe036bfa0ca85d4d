"""The simulated device: opens a file of ops and says what they took, without spending the time.

``SIMULATED_DEVICE`` in the environment names the moment of the recorded trace at which the machine begins:
``mixed@0`` by default, or ``fast@120``, ``slow@7``.
"""

from __future__ import annotations

import json
import os
from functools import lru_cache
from math import exp
from pathlib import Path
from typing import Any, NamedTuple

from latency_nas.engine.serving import RunnerError
from simulated_device.costs import Op, in_network_ms, overhead_ms, slowing, working_set_bytes
from simulated_device.noise import Machine

__all__ = ["Network", "about"]

_OPENING_MS, _BYTES_A_MS = 0.5, 1e6
_FIRST_RUNS = (3.0, 1.15)  # times as long as any other


def about() -> dict[str, Any]:
    """The same device wherever it is simulated."""
    return {
        "engine": "Simulated Device", "engine_version": "1.0", "system": "None", "machine": "aarch64", "cores": 1,
        "processor": "Simulated processor", "governor": "", "emulated": False,
    }  # fmt: skip


def _machine() -> Machine:
    regime, _, row = os.environ.get("SIMULATED_DEVICE", "mixed@0").partition("@")
    return Machine(regime, int(row or 0))


_THE_MACHINE = _machine()


class _File(NamedTuple):
    """A network's file, and what its ops cost in it."""

    input_shape: list[int]
    ops: list[Op]
    costs_ms: list[float]
    slowing: list[float]
    overheads_ms: list[float]


@lru_cache(maxsize=1000)
def _opened(text: str) -> _File:
    network = json.loads(text)
    ops = [Op(*fields) for fields in network["ops"]]
    return _File(network["input_shape"], ops, in_network_ms(ops), slowing(ops), [*map(overhead_ms, ops)])


class Network:
    """A network that was opened.

    Args:
        path: The ``.simulated`` file.
        threads: 1.
        precision: ``"fp32"``.
        power_mode: ``"normal"``.
    """

    def __init__(self, path: str, threads: int = 1, precision: str = "fp32", power_mode: str = "normal") -> None:
        if (threads, precision, power_mode) != (1, "fp32", "normal"):
            raise RunnerError(f"Expected 1 thread, fp32 and normal, but got {threads}, {precision} and {power_mode}.")
        try:
            self._file = _opened(Path(path).read_text())
        except (OSError, ValueError) as error:
            raise RunnerError(f"Simulated Device could not open {Path(path).name}.") from error
        ops, self.input_shape = self._file.ops, self._file.input_shape
        self.memory_mb = working_set_bytes(ops) / 2**20
        _THE_MACHINE.time_ms += _OPENING_MS + sum(op.weight_bytes for op in ops) / _BYTES_A_MS
        lies = _THE_MACHINE.jitter() / 5  # where its memory happens to lie
        self._costs = [cost * exp(lies + _THE_MACHINE.jitter() / 2) for cost in self._file.costs_ms]
        self._n_runs = 0

    def _run(self) -> list[float]:
        """What each op takes now."""
        now = _THE_MACHINE.slowness()
        first = _FIRST_RUNS[self._n_runs] if self._n_runs < len(_FIRST_RUNS) else 1.0
        self._n_runs += 1
        return [first * cost * exp(now * by) for cost, by in zip(self._costs, self._file.slowing, strict=True)]

    def run_ms(self, n_runs: int) -> list[float]:
        """Milliseconds of whole runs."""
        times = []
        for _ in range(n_runs):
            times.append(sum(self._run()) * exp(_THE_MACHINE.jitter()))
            _THE_MACHINE.time_ms += times[-1]
        return times

    def profile_ms(self, n_runs: int) -> list[list[float]]:
        """Milliseconds of each op, for each run."""
        times = []
        for _ in range(n_runs):
            slower = exp(_THE_MACHINE.slowness())
            ops = [cost * exp(_THE_MACHINE.jitter()) for cost in self._run()]
            times.append([cost + slower * extra for cost, extra in zip(ops, self._file.overheads_ms, strict=True)])
            _THE_MACHINE.time_ms += sum(times[-1])
        return times

    def executed(self) -> list[list[Any]]:
        """Name, type, shapes read and shapes written of each op; the network runs once."""
        self.run_ms(1)
        return [[op.name, op.type, op.inputs, op.outputs] for op in self._file.ops]
