"""Reads the ``perf.yaml`` of Qualcomm AI Hub Models: one network on many devices, runtimes and precisions.

Two layouts exist. The newer one nests precision, component, device and runtime, with ``inference_time_milliseconds``.
The older one has a list of models, each with a list of devices, and ``inference_time`` in microseconds.

References:
    Qualcomm AI Hub Models, ``qai_hub_models/models/*/perf.yaml``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from latency_nas.errors import TableError, TableFileError
from latency_nas.table.formats.networks.conditions import of_one_condition
from latency_nas.table.formats.networks.run import NetworkRun, NetworkRuns

__all__ = ["read_ai_hub", "recognises_ai_hub"]

# field of a time -> milliseconds of its unit
_TIMES = {"inference_time_milliseconds": 1.0, "inference_time": 1e-3}
# fields at the top of a file, and the one of its times
_TOP = re.compile(rb"^(aggregated|supported_devices|supported_chipsets|precisions|models):", re.MULTILINE)
_METRICS = re.compile(rb"^[ -]+performance_metrics:\s*$", re.MULTILINE)


def recognises_ai_hub(head: bytes, _: Path) -> bool:
    """Whether the text has the fields of such a file."""
    return _TOP.search(head) is not None and _METRICS.search(head) is not None


def read_ai_hub(
    path: str | os.PathLike[str],
    *,
    device: str | None = None,
    runtime: str | None = None,
    precision: str | None = None,
) -> NetworkRuns:
    """Read the times of a network's components on one device.

    Args:
        path: The file ``perf.yaml``.
        device: Device, as the file spells it. It is required if the file has several, as the next ones are.
        runtime: Runtime, such as ``"tflite"``, ``"onnx"`` or ``"qnn_dlc"``.
        precision: Precision, such as ``"float"`` or ``"w8a8"``.

    Raises:
        TableFileError: if the file is of another form, a condition is not in it, or one is needed.
    """
    from latency_nas.table.formats.yaml_data import read_yaml  # late, since it imports PyYAML

    source = Path(path)
    data = read_yaml(source)
    runs: list[NetworkRun] = []
    skipped: dict[str, str] = {}
    try:
        for network, conditions, fields in _jobs(data):
            _take(network, conditions, fields, runs, skipped)
    except (AttributeError, TypeError, LookupError, ValueError) as error:
        raise TableFileError(
            f"Expected {source} to have the layout of Qualcomm AI Hub's perf.yaml, but it has another one ({error!r})."
        ) from error
    if not runs:
        first = next((f" ({key}: {reason})" for key, reason in skipped.items()), "")
        raise TableFileError(f"Expected times of networks in {source}, but none of {len(skipped)} jobs has one{first}.")
    wanted = {"device": device, "precision": precision, "runtime": runtime}
    return NetworkRuns(runs=of_one_condition(source, runs, wanted), skipped=skipped)


_Job = tuple[str, dict[str, str], Mapping[str, Any]]  # network, conditions, and fields of one profiling job


def _jobs(data: Any) -> Iterator[_Job]:
    for precision, part in data.get("precisions", {}).items():
        for network, component in part["components"].items():
            for device, runtimes in component.get("performance_metrics", {}).items():
                for runtime, fields in runtimes.items():
                    yield network, {"device": device, "precision": precision, "runtime": runtime}, fields
    for model in data.get("models", ()):
        for job in model["performance_metrics"]:
            device = job["reference_device_info"]["name"]
            for runtime, fields in job.items():
                if isinstance(fields, Mapping) and fields.keys() & _TIMES.keys():
                    conditions = {"device": device, "precision": fields.get("precision", "unknown"), "runtime": runtime}
                    yield model["name"], conditions, fields


def _take(
    network: str,
    conditions: dict[str, str],
    fields: Mapping[str, Any],
    runs: list[NetworkRun],
    skipped: dict[str, str],
) -> None:
    """Add the run of a job, or the reason why it has none."""
    key = ", ".join([network, *conditions.values()])
    name = next((name for name in _TIMES if name in fields), None)
    if name is None:
        skipped[key] = f"it has no {' or '.join(_TIMES)}"
        return
    try:
        latency_ms = float(fields[name]) * _TIMES[name]
        runs.append(NetworkRun(network=network, latency_ms=latency_ms, conditions=conditions))
    except (ValueError, TypeError, TableError) as error:
        skipped[key] = str(error)
