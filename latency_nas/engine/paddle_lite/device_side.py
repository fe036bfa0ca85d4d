"""Paddle-Lite's device side: a program in a predictor. It needs only paddlelite, numpy and Python 3.8 or newer."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import time
import zipfile
from importlib import metadata
from typing import Any, Iterator  # noqa: UP035 - Python 3.8

from latency_nas.engine.serving import RunnerError, no_garbage_collection

__all__ = ["Network", "about"]


def about() -> dict[str, Any]:
    """The engine and its version."""
    try:
        return {"engine": "Paddle-Lite", "engine_version": metadata.version("paddlelite")}
    except metadata.PackageNotFoundError as error:
        raise RunnerError(
            "Expected Paddle-Lite to be installed for this Python, but it is not: "
            "pip install paddlelite==2.13rc0 'numpy<2'"
        ) from error


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Discard standard output and error inside the block: Paddle-Lite logs there from C++."""
    saved, sink = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(saved[0], 1)
        os.dup2(saved[1], 2)
        for descriptor in (*saved, sink):
            os.close(descriptor)


class Network:
    """A program that is opened for this processor.

    Args:
        path: Path of the archive that `PaddleLite.write` makes: program, weights, and the inputs' shapes.
        threads: 1. On x86, Paddle-Lite uses one thread, whatever number is set.
        precision: ``"fp32"``.
        power_mode: ``"normal"``.
    """

    memory_mb = None  # Paddle-Lite does not report it

    def __init__(self, path: str, threads: int = 1, precision: str = "fp32", power_mode: str = "normal") -> None:
        for name, value, only in (("threads", threads, 1), ("precision", precision, "fp32")):
            if value != only:
                raise RunnerError(f"Expected `{name}` to be {only}, all that this build has, but got {value}.")
        if power_mode != "normal":
            raise RunnerError(f"Expected `power_mode` to be normal, all that this build has, but got {power_mode!r}.")
        about()
        import numpy as np
        import paddlelite.lite as lite

        self._folder = tempfile.TemporaryDirectory(prefix="latency-nas-")
        try:
            with zipfile.ZipFile(path) as archive:
                shapes = json.loads(archive.read("inputs.json"))
                model, weights = (
                    archive.extract(name, self._folder.name) for name in ("model.pdmodel", "model.pdiparams")
                )
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise RunnerError(f"Paddle-Lite could not open {path}: {error}.") from error
        config = lite.CxxConfig()
        config.set_model_file(model)
        config.set_param_file(weights)
        places = [(lite.TargetType.X86, lite.PrecisionType.FP32), (lite.TargetType.Host, lite.PrecisionType.FP32)]
        config.set_valid_places([lite.Place(target, kind) for target, kind in places])
        with _silent():
            self._predictor = lite.create_paddle_predictor(config)
        random = np.random.default_rng(0)
        self._inputs = [random.random(shape, dtype=np.float32) for shape in shapes]
        self.input_shape = shapes[0] if shapes else None

    def executed(self) -> None:
        """None: Paddle-Lite does not report what it runs."""

    def run_ms(self, n_runs: int) -> list[float]:
        """Times of whole runs in milliseconds, without copies to and from the host."""
        times = []
        with no_garbage_collection():
            for _ in range(n_runs):
                for index, array in enumerate(self._inputs):  # a run may have written into their memory
                    self._predictor.get_input(index).from_numpy(array)
                start = time.perf_counter_ns()
                self._predictor.run()
                times.append((time.perf_counter_ns() - start) / 1e6)
        return times

    def profile_ms(self, n_runs: int) -> None:
        """None: Paddle-Lite's Python times no ops."""
