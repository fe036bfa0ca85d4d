"""Another interpreter, as a board has it: the standard library, and of this environment only what is named."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path


def bare_interpreter(folder: Path, *patterns: str) -> list[str]:
    """The start of a command that runs a file, and its arguments.

    Args:
        folder: Empty folder, for the packages.
        patterns: Names of packages, and of what lies beside them, in this environment.
    """
    for pattern in patterns:
        for path in Path(sysconfig.get_path("platlib")).glob(pattern):
            (folder / path.name).symlink_to(path)
    run = "runpy.run_path(sys.argv.pop(1), run_name='__main__')"
    return [sys.executable, "-I", "-S", "-c", f"import sys, runpy; sys.path.append({str(folder)!r}); {run}"]
