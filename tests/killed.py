"""Kills a process again and again (SIGKILL) while it works on a file, until it ends by itself."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent


def killed_and_resumed(code: str, file: Path, marker: Path, *, seed: int = 0, max_kills: int = 3) -> int:
    """Run `code` with the names of `file` and `marker` as its arguments; the number of times that it was killed.

    The process touches the marker when it begins to work; it is killed a random while after that.
    """
    generator = random.Random(seed)
    for n_kills in range(max_kills + 1):
        marker.unlink(missing_ok=True)
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen([sys.executable, "-c", code, str(file), str(marker)], env=environment)  # noqa: S603
        while not marker.exists() and process.poll() is None:
            time.sleep(0.01)
        if n_kills < max_kills:
            time.sleep(generator.uniform(0.05, 0.25))
            process.kill()
        if process.wait() == 0:
            return n_kills
    raise AssertionError(f"The process ended with {process.returncode}.")
