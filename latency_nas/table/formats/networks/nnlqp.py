"""Reads NNLQP's ``gt.txt``: a line for each network and platform.

    553312 onnx/nnmeter_alexnet/nnmeter_alexnet_transform_0130.onnx 8 90.88183 alexnet 2 train

The fields are a number, the model's file beside ``gt.txt``, batch, milliseconds, family, platform, and the part of the
data set.

References:
    NNLQP (ICPP 2022), ``README.md``, section Dataset.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from latency_nas.errors import TableError, TableFileError, short_repr
from latency_nas.table.formats.content import head_lines
from latency_nas.table.formats.networks.conditions import of_one_condition
from latency_nas.table.formats.networks.run import NetworkRun, NetworkRuns
from latency_nas.table.formats.plain_data import read_text

__all__ = ["read_nnlqp", "recognises_nnlqp"]

_LINE = re.compile(
    r"\d+ (?P<model>\S+\.onnx) (?P<batch>[1-9]\d{0,8}) (?P<ms>[-+.\deE]+) (?P<family>\S+) (?P<platform>\d+)( \w+)?"
)


def recognises_nnlqp(head: bytes, _: Path) -> bool:
    """Whether the first line has NNLQP's fields."""
    lines = head_lines(head)
    return bool(lines) and _LINE.fullmatch(lines[0].strip()) is not None


def read_nnlqp(
    path: str | os.PathLike[str], *, platform: str | int | None = None, family: str | None = None
) -> NetworkRuns:
    """Read the times of one platform.

    Args:
        path: The file ``gt.txt``.
        platform: Number of the platform. It is required if the file has several.
        family: Family of the networks, such as ``"resnet"``; None for all.

    Raises:
        TableFileError: if a line has other fields, a condition is not in the file, or the platform is needed.
    """
    source = Path(path)
    runs: list[NetworkRun] = []
    skipped: dict[str, str] = {}
    for number, line in enumerate(read_text(source).splitlines(), start=1):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        if found is None:
            raise TableFileError(
                f"Expected line {number} of {source} to have number, model, batch, milliseconds, family and platform, "
                f"but got {short_repr(line)}."
            )
        try:
            runs.append(_run(found))
        except (ValueError, TableError) as error:
            skipped[f"line {number}"] = str(error)
    if not runs:
        raise TableFileError(f"Expected times of networks in {source}, but there is none.")
    of_family = runs if family is None else of_one_condition(source, runs, {"family": family})
    wanted = {"platform": None if platform is None else str(platform)}
    return NetworkRuns(runs=of_one_condition(source, of_family, wanted), skipped=skipped)


def _run(found: re.Match[str]) -> NetworkRun:
    conditions = {"platform": found["platform"], "family": found["family"]}
    latency_ms, batch = float(found["ms"]), int(found["batch"])
    return NetworkRun(network=found["model"], latency_ms=latency_ms, batch=batch, conditions=conditions)
