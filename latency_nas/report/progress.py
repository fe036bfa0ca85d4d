"""A progress bar with the remaining time, for functions that report progress as ``(done, total)``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from latency_nas.measure.repetition import Progress as ProgressFunction

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(label: str, console: Console | None = None) -> Iterator[ProgressFunction]:
    """Show a progress bar while the block runs.

    Example:
        >>> with progress_bar("metering") as on_progress:        # doctest: +SKIP
        ...     measure_table(networks, on_progress=on_progress)
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
