"""Programs in processes that hold nothing but the large packages that Lightning imports, which takes ten seconds.

They are forked from a server that has imported these once.
"""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import sys
import warnings
from multiprocessing.connection import Connection

PRELOADED = ["torch._dynamo", "torchmetrics"]


def printed_by(program: str) -> str:
    """Run a program and give what it prints."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    read, write = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(program, write))
    process.start()
    write.close()
    with contextlib.suppress(EOFError):  # it failed
        output = str(read.recv())
    process.join()
    assert process.exitcode == 0, "its error is above"
    return output.strip()


def _run(program: str, write: Connection) -> None:
    warnings.simplefilter("ignore")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(program, {"__name__": "program", "sys": sys})  # noqa: S102
    write.send(output.getvalue())
