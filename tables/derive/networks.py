"""The networks with published times, by the names in the tables of times."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import nn

from derive import large, mobile
from latency_nas.engine import Target, fuse
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["DIALECT", "ENGINE", "FAMILIES", "NETWORKS", "kernels"]

# the op samples are of this release: a linear layer is a product and an addition
ENGINE, DIALECT = "Paddle-Lite", "2.11"

_Network = tuple[Callable[[], nn.Module], int]


def _scaled(name: str, make: Callable[[float], nn.Module], scales: tuple[float, ...]) -> dict[str, _Network]:
    return {f"{name}_x{scale:g}": (partial(make, scale), 224) for scale in scales}


# name -> (how to make it, height and width of its input)
NETWORKS: dict[str, _Network] = {
    "AlexNet": (large.alexnet, 224),
    "EfficientNetB0": (mobile.efficientnet_b0, 224),
    "InceptionV1": (large.googlenet, 224),
    "InceptionV2": (large.bn_inception, 224),
    "MnasNet": (mobile.mnasnet, 224),
    "MobileFaceNet": (mobile.mobilefacenet, 112),
    "PPLCNetV2": (mobile.pplcnet_v2, 224),
    "ResNet18": (partial(large.resnet, 18), 224),
    "ResNet50": (partial(large.resnet, 50), 224),
    "SqueezeNet": (large.squeezenet_v1_1, 224),
    "SSD_MobileNetV1": (large.ssd_mobilenet_v1, 300),
    "SSD_MobileNetV3_large": (large.ssdlite_mobilenet_v3, 320),
    "VGG16": (large.vgg16, 224),
    "YOLOv5s": (large.yolov5s, 640),
    **_scaled("ESNet", mobile.esnet, (0.25, 0.5, 0.75, 1)),
    **_scaled("GhostNet", mobile.ghostnet, (0.5, 1, 1.3)),
    **_scaled("MobileNetV1", mobile.mobilenet_v1, (0.25, 0.5, 0.75, 1)),
    **_scaled("MobileNetV2", mobile.mobilenet_v2, (0.25, 0.5, 0.75, 1, 1.5, 2)),
    **_scaled("MobileNetV3_large", partial(mobile.mobilenet_v3, "large"), (0.35, 0.5, 0.75, 1, 1.25)),
    **_scaled("MobileNetV3_small", partial(mobile.mobilenet_v3, "small"), (0.35, 0.5, 0.75, 1, 1.25)),
    **_scaled("PPLCNet", mobile.pplcnet, (0.25, 0.35, 0.5, 0.75, 1, 1.5, 2, 2.5)),
    **_scaled("ShuffleNetV2", mobile.shufflenet_v2, (0.25, 0.33, 0.5, 1, 1.5, 2)),
}
FAMILIES = {name: name.split("_x")[0] for name in NETWORKS}


@cache
def kernels(name: str) -> tuple[KernelCall, ...]:
    """The kernels that Paddle-Lite 2.11 runs for a network."""
    make, size = NETWORKS[name]
    with torch.device("meta"):
        network = make()
    return tuple(fuse(read_torch(network, input_shape=(1, 3, size, size)), ENGINE, Target(version=DIALECT)))
