"""Whole-network times that Paddle's projects publish: fp32, batch 1, armv8, dense weights."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import median

from derive.networks import NETWORKS

__all__ = ["LITE", "clas_times", "joined", "lite_times"]

# name of a network in Paddle-Lite's documents -> name here, where they differ
LITE = {
    "EfficientNet": "EfficientNetB0",
    "MobileNetV1": "MobileNetV1_x1",
    "MobileNetV2": "MobileNetV2_x1",
    "MobileNetV3Large": "MobileNetV3_large_x1",
    "MobileNetV3Small": "MobileNetV3_small_x1",
    "MobileNetV3_large_x1_0": "MobileNetV3_large_x1",
    "MobileNetV3_small_x1_0": "MobileNetV3_small_x1",
    "Mobilefacenet": "MobileFaceNet",
    "PPLCNetV2Base": "PPLCNetV2",
    "PPLCNetX10": "PPLCNet_x1",
    "ShuffleNetV2": "ShuffleNetV2_x1",
    "SsdMobilenetv1": "SSD_MobileNetV1",
    "Vgg16": "VGG16",
    "Yolov5s": "YOLOv5s",
    "mnasnet": "MnasNet",
    "mobilenet_v1": "MobileNetV1_x1",
    "mobilenet_v2": "MobileNetV2_x1",
    "shufflenet_v2": "ShuffleNetV2_x1",
    "squeezenet": "SqueezeNet",
}
_CLAS_COPIES = ("ShuffleNetV2_swish",)  # its published time is that of ShuffleNetV2_x2_0


def lite_times(folder: Path, *, soc: str, threads: int, versions: tuple[str, ...]) -> dict[str, float]:
    """Paddle-Lite's own times of one phone in milliseconds, by the names here.

    The first version has precedence. The others add networks that it lacks, as in `joined`.
    """
    found: dict[str, dict[str, float]] = {version: {} for version in versions}
    want = {"soc": soc, "threads": str(threads), "abi": "armv8", "precision": "fp32", "backend": "cpu"}
    with (folder / "paddlelite_docs/paddlelite_model_latency.csv").open() as file:
        for row in csv.DictReader(file):
            name = LITE.get(row["model"], row["model"])
            here = row["paddlelite_version"] in found and row["density"] == "dense" and name in NETWORKS
            if here and all(row[field] == value for field, value in want.items()):
                found[row["paddlelite_version"]][name] = float(row["latency_ms"])
    times = found[versions[0]]
    for version in versions[1:]:
        times = joined(times, found[version])
    return times


def joined(first: dict[str, float], second: dict[str, float]) -> dict[str, float]:
    """The first source's times, completed by the second's, which are scaled by the median ratio of shared networks."""
    ratio = median(first[name] / second[name] for name in first.keys() & second.keys())
    return dict(sorted(({name: time_ms * ratio for name, time_ms in second.items()} | first).items()))


def clas_times(folder: Path, threads: int) -> dict[str, float]:
    """PaddleClas's times on an SD855 in milliseconds, by the names here. Of two times for a graph, the first counts."""
    times: dict[str, float] = {}
    with (folder / "paddleclas_sd855/paddleclas_sd855_latency.csv").open() as file:
        for row in csv.DictReader(file):
            model = row["model"].removesuffix("_ssld")
            base, _, scale = model.partition("_x")
            name = f"{base}_x{float(scale.replace('_', '.') or 1):g}"
            if row["threads"] == str(threads) and model not in _CLAS_COPIES and name in NETWORKS:
                times.setdefault(name, float(row["latency_ms"]))
    return dict(sorted(times.items()))
