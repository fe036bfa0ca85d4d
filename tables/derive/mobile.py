"""Networks for phones, as PaddleClas defines them: MobileNets, PP-LCNets, ShuffleNets, GhostNet, ESNet and kin."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from derive.blocks import Classifier, Residual, SqueezeExcite, conv, divisible, shuffle

__all__ = [
    "efficientnet_b0",
    "esnet",
    "ghostnet",
    "mnasnet",
    "mobilefacenet",
    "mobilenet_v1",
    "mobilenet_v1_features",
    "mobilenet_v2",
    "mobilenet_v3",
    "mobilenet_v3_features",
    "pplcnet",
    "pplcnet_v2",
    "shufflenet_v2",
]


def mobilenet_v1_features(scale: float = 1.0) -> nn.Sequential:
    """The convolutions of MobileNet (arXiv 1704.04861, table 1)."""
    widths = [64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024]
    strides = [1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1]
    c = int(32 * scale)
    layers = [conv(3, c, 3, 2, act="relu")]
    for width, stride in zip(widths, strides, strict=True):
        layers += [conv(c, c, 3, stride, group=c, act="relu"), conv(c, int(width * scale), 1, act="relu")]
        c = int(width * scale)
    return nn.Sequential(*layers)


def mobilenet_v1(scale: float = 1.0) -> nn.Module:
    return Classifier(mobilenet_v1_features(scale), int(1024 * scale))


def mobilenet_v2(scale: float = 1.0) -> nn.Module:
    """MobileNetV2 (arXiv 1801.04381, table 2)."""
    c = int(32 * scale)
    layers: list[nn.Module] = [conv(3, c, 3, 2, act="relu6")]
    for t, width, n, s in [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    ]:  # fmt: skip
        for i in range(n):
            stride, out, mid = s if i == 0 else 1, int(width * scale), round(c * t)
            expand = [conv(c, mid, 1, act="relu6")]
            body = nn.Sequential(*expand, conv(mid, mid, 3, stride, group=mid, act="relu6"), conv(mid, out, 1))
            layers.append(Residual(body) if i else body)
            c = out
    last = int(1280 * scale) if scale > 1 else 1280
    return Classifier(nn.Sequential(*layers, conv(c, last, 1, act="relu6")), last)


_V3 = {
    "large": [
        (3, 16, 16, 0, "relu", 1), (3, 64, 24, 0, "relu", 2), (3, 72, 24, 0, "relu", 1), (5, 72, 40, 1, "relu", 2),
        (5, 120, 40, 1, "relu", 1), (5, 120, 40, 1, "relu", 1), (3, 240, 80, 0, "hard_swish", 2),
        (3, 200, 80, 0, "hard_swish", 1), (3, 184, 80, 0, "hard_swish", 1), (3, 184, 80, 0, "hard_swish", 1),
        (3, 480, 112, 1, "hard_swish", 1), (3, 672, 112, 1, "hard_swish", 1), (5, 672, 160, 1, "hard_swish", 2),
        (5, 960, 160, 1, "hard_swish", 1), (5, 960, 160, 1, "hard_swish", 1),
    ],
    "small": [
        (3, 16, 16, 1, "relu", 2), (3, 72, 24, 0, "relu", 2), (3, 88, 24, 0, "relu", 1),
        (5, 96, 40, 1, "hard_swish", 2), (5, 240, 40, 1, "hard_swish", 1), (5, 240, 40, 1, "hard_swish", 1),
        (5, 120, 48, 1, "hard_swish", 1), (5, 144, 48, 1, "hard_swish", 1), (5, 288, 96, 1, "hard_swish", 2),
        (5, 576, 96, 1, "hard_swish", 1), (5, 576, 96, 1, "hard_swish", 1),
    ],
}  # fmt: skip


def mobilenet_v3_features(size: str, scale: float = 1.0, tail: float = 1.0) -> nn.Sequential:
    """The convolutions of MobileNetV3 (arXiv 1905.02244, tables 1 and 2); Paddle expands in the first block too.

    `tail` narrows what has the last stride (section 6.3 of the paper: half for detection).
    """
    c = divisible(16 * scale)
    layers: list[nn.Module] = [conv(3, c, 3, 2, act="hard_swish")]
    n = len(_V3[size])
    for i, (k, exp, width, se, act, s) in enumerate(_V3[size]):
        mid = divisible(exp * scale * (tail if i >= n - 2 else 1))
        out = divisible(width * scale * (tail if i >= n - 3 else 1))
        squeeze = [SqueezeExcite(mid, mid // 4)] if se else []
        body = nn.Sequential(
            conv(c, mid, 1, act=act), conv(mid, mid, k, s, group=mid, act=act), *squeeze, conv(mid, out, 1)
        )
        layers.append(Residual(body) if s == 1 and c == out else body)
        c = out
    last = divisible({"large": 960, "small": 576}[size] * scale * tail)
    return nn.Sequential(*layers, conv(c, last, 1, act="hard_swish"))


def mobilenet_v3(size: str, scale: float = 1.0) -> nn.Module:
    last = divisible({"large": 960, "small": 576}[size] * scale)
    head = conv(last, 1280, 1, bn=False, bias=False, act="hard_swish")
    return Classifier(mobilenet_v3_features(size, scale), 1280, head)


def pplcnet(scale: float = 1.0) -> nn.Module:
    """PP-LCNet (arXiv 2109.15099, table 2)."""
    c = divisible(16 * scale)
    layers: list[nn.Module] = [conv(3, c, 3, 2, act="hard_swish")]
    for k, width, s, se in [
        (3, 32, 1, 0), (3, 64, 2, 0), (3, 64, 1, 0), (3, 128, 2, 0), (3, 128, 1, 0), (3, 256, 2, 0),
        *[(5, 256, 1, 0)] * 5, (5, 512, 2, 1), (5, 512, 1, 1),
    ]:  # fmt: skip
        layers.append(conv(c, c, k, s, group=c, act="hard_swish"))
        layers += [SqueezeExcite(c, c // 4)] * se
        layers.append(conv(c, divisible(width * scale), 1, act="hard_swish"))
        c = divisible(width * scale)
    return Classifier(nn.Sequential(*layers), 1280, conv(c, 1280, 1, bn=False, bias=False, act="hard_swish"))


def pplcnet_v2() -> nn.Module:
    """PP-LCNetV2 base, its parallel depthwise convolutions merged as in deployment."""
    layers: list[nn.Module] = [
        conv(3, 32, 3, 2, act="relu"),
        conv(32, 32, 3, group=32, act="relu"),
        conv(32, 64, 1, act="relu"),
    ]
    c = 64
    for k, width, n, split, se, short in [
        (3, 128, 2, 0, 0, 0), (3, 256, 2, 0, 0, 0), (5, 512, 6, 1, 1, 0), (5, 1024, 2, 0, 0, 1)
    ]:  # fmt: skip
        for i in range(n):
            block: list[nn.Module] = [conv(c, c, k, 1 if i else 2, group=c, act="relu")]
            block += [SqueezeExcite(c, c // 4, gate="sigmoid")] * se
            if split:
                block += [conv(c, width // 2, 1, act="relu"), conv(width // 2, width, 1, act="relu")]
            else:
                block.append(conv(c, width, 1, act="relu"))
            body = nn.Sequential(*block)
            layers.append(Residual(body) if short and i else body)
            c = width
    return Classifier(nn.Sequential(*layers), 1280, conv(c, 1280, 1, bn=False, bias=False, act="relu"))


class _Shuffle(nn.Module):
    """A unit of ShuffleNetV2 (arXiv 1807.11164, figure 3)."""

    def __init__(self, c_in: int, c_out: int, stride: int, act: str) -> None:
        super().__init__()
        half = c_out // 2
        self.stride, source = stride, c_in if stride == 2 else half
        self.main = nn.Sequential(
            conv(source, half, 1, act=act), conv(half, half, 3, stride, group=half), conv(half, half, 1, act=act)
        )
        if stride == 2:
            self.side = nn.Sequential(conv(c_in, c_in, 3, 2, group=c_in), conv(c_in, half, 1, act=act))

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            return shuffle(torch.cat([self.side(x), self.main(x)], 1))
        left, right = x.split(x.shape[1] // 2, 1)
        return shuffle(torch.cat([left, self.main(right)], 1))


_SHUFFLE = {
    0.25: (24, 48, 96, 512), 0.33: (32, 64, 128, 512), 0.5: (48, 96, 192, 1024), 1.0: (116, 232, 464, 1024),
    1.5: (176, 352, 704, 1024), 2.0: (224, 488, 976, 2048),
}  # fmt: skip


def shufflenet_v2(scale: float = 1.0, act: str = "relu") -> nn.Module:
    *widths, last = _SHUFFLE[scale]
    layers: list[nn.Module] = [conv(3, 24, 3, 2, act=act), nn.MaxPool2d(3, 2, 1)]
    c = 24
    for width, n in zip(widths, (4, 8, 4), strict=True):
        layers += [_Shuffle(c if i == 0 else width, width, 1 if i else 2, act) for i in range(n)]
        c = width
    return Classifier(nn.Sequential(*layers, conv(c, last, 1, act=act)), last)


class _Ghost(nn.Module):
    """A ghost module: half of the channels by a convolution, half from those by a depthwise one (arXiv 1911.11907)."""

    def __init__(self, c_in: int, c_out: int, act: str) -> None:
        super().__init__()
        half = math.ceil(c_out / 2)
        self.first, self.second = conv(c_in, half, 1, act=act), conv(half, half, 3, group=half, act=act)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return torch.cat([x, self.second(x)], 1)


def ghostnet(scale: float = 1.0) -> nn.Module:
    c = divisible(16 * scale, 4)
    layers: list[nn.Module] = [conv(3, c, 3, 2, act="relu")]
    for k, exp, width, se, s in [
        (3, 16, 16, 0, 1), (3, 48, 24, 0, 2), (3, 72, 24, 0, 1), (5, 72, 40, 1, 2), (5, 120, 40, 1, 1),
        (3, 240, 80, 0, 2), (3, 200, 80, 0, 1), (3, 184, 80, 0, 1), (3, 184, 80, 0, 1), (3, 480, 112, 1, 1),
        (3, 672, 112, 1, 1), (5, 672, 160, 1, 2), (5, 960, 160, 0, 1), (5, 960, 160, 1, 1), (5, 960, 160, 0, 1),
        (5, 960, 160, 1, 1),
    ]:  # fmt: skip
        mid, out = divisible(exp * scale, 4), divisible(width * scale, 4)
        body: list[nn.Module] = [_Ghost(c, mid, "relu")]
        body += [conv(mid, mid, k, 2, group=mid)] * (s == 2)
        body += [SqueezeExcite(mid, mid // 4, gate="clip", linear=True)] * se
        same = s == 1 and c == out
        shortcut = None if same else nn.Sequential(conv(c, c, k, s, group=c), conv(c, out, 1))
        layers.append(Residual(nn.Sequential(*body, _Ghost(mid, out, "")), shortcut))
        c = out
    last = divisible(960 * scale, 4)
    return Classifier(nn.Sequential(*layers, conv(c, last, 1, act="relu")), 1280, conv(last, 1280, 1, act="relu"))


class _ES(nn.Module):
    """A block of ESNet (PP-PicoDet, arXiv 2111.00902, figure 2)."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        half, act = c_out // 2, "hard_swish"
        self.stride = stride
        if stride == 1:
            self.expand, self.depthwise = conv(half, half, 1, act=act), conv(half, half, 3, group=half)
            self.reduce = nn.Sequential(SqueezeExcite(c_out, c_out // 4), conv(c_out, half, 1, act=act))
            return
        self.side = nn.Sequential(conv(c_in, c_in, 3, 2, group=c_in), conv(c_in, half, 1, act=act))
        self.main = nn.Sequential(
            conv(c_in, half, 1, act=act), conv(half, half, 3, 2, group=half), SqueezeExcite(half, half // 4),
            conv(half, half, 1, act=act),
        )  # fmt: skip
        self.join = nn.Sequential(conv(c_out, c_out, 3, group=c_out, act=act), conv(c_out, c_out, 1, act=act))

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            return self.join(torch.cat([self.side(x), self.main(x)], 1))
        left, right = x.split(x.shape[1] // 2, 1)
        wide = self.expand(right)
        return shuffle(torch.cat([left, self.reduce(torch.cat([wide, self.depthwise(wide)], 1))], 1))


def esnet(scale: float = 1.0) -> nn.Module:
    layers: list[nn.Module] = [conv(3, 24, 3, 2, act="hard_swish"), nn.MaxPool2d(3, 2, 1)]
    c = 24
    for width, n in zip((116, 232, 464), (3, 7, 3), strict=True):
        out = divisible(width * scale)
        layers += [_ES(c if i == 0 else out, out, 1 if i else 2) for i in range(n)]
        c = out
    features = nn.Sequential(*layers, conv(c, 1024, 1, act="hard_swish"))
    return Classifier(features, 1280, conv(1024, 1280, 1, bn=False, bias=False, act="hard_swish"))


def _inverted(
    c: int, settings: list[tuple[int, ...]], act: str, se_act: str = "", last_act: str = ""
) -> tuple[list[nn.Module], int]:
    """Inverted residual blocks of (expansion, width, repeats, stride, kernel); of MobileNetV2 without a `last_act`."""
    layers: list[nn.Module] = []
    for t, width, n, s, k in settings:
        for i in range(n):
            mid, stride = c * t, s if i == 0 else 1
            body: list[nn.Module] = [conv(c, mid, 1, act=act)] if t > 1 else []
            body.append(conv(mid, mid, k, stride, group=mid, act=act))
            if se_act:
                body.append(SqueezeExcite(mid, max(1, c // 4), act=se_act, gate="sigmoid"))
            if stride == 1 and c == width:
                layers.append(Residual(nn.Sequential(*body, conv(mid, width, 1)), act=last_act))
            else:
                layers.append(nn.Sequential(*body, conv(mid, width, 1, act=last_act)))
            c = width
    return layers, c


def efficientnet_b0() -> nn.Module:
    """EfficientNet-B0 (arXiv 1905.11946, table 1)."""
    settings = [
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    ]  # fmt: skip
    layers, c = _inverted(32, settings, "swish", "swish")
    features = nn.Sequential(conv(3, 32, 3, 2, act="swish"), *layers, conv(c, 1280, 1, act="swish"))
    return Classifier(features, 1280)


def mnasnet() -> nn.Module:
    """MnasNet as in arXiv 1807.11626 version 1, figure 7a: B1 without its convolution to 1280 channels.

    So it is in the Caffe network (LiJianfei06/MnasNet-caffe) that the list of models of Paddle's converter, X2Paddle,
    names; that also has a ReLU after each block, and a softmax.
    """
    settings = [
        (3, 24, 3, 2, 3),
        (3, 40, 3, 2, 5),
        (6, 80, 3, 2, 5),
        (6, 96, 2, 1, 3),
        (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    ]
    layers, c = _inverted(16, settings, "relu", last_act="relu")
    stem = [conv(3, 32, 3, 2, act="relu"), conv(32, 32, 3, group=32, act="relu"), conv(32, 16, 1, act="relu")]
    return Classifier(nn.Sequential(*stem, *layers), c, softmax=True)


def mobilefacenet() -> nn.Module:
    """MobileFaceNet (arXiv 1804.07573, table 1), with ReLU; 112 x 112."""
    layers: list[nn.Module] = [conv(3, 64, 3, 2, act="relu"), conv(64, 64, 3, group=64, act="relu")]
    c = 64
    for t, width, n, s in [(2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2), (2, 128, 2, 1)]:
        for i in range(n):
            stride, mid = s if i == 0 else 1, c * t
            body = nn.Sequential(
                conv(c, mid, 1, act="relu"), conv(mid, mid, 3, stride, group=mid, act="relu"), conv(mid, width, 1)
            )
            layers.append(Residual(body) if stride == 1 and c == width else body)
            c = width
    layers += [conv(c, 512, 1, act="relu"), conv(512, 512, 7, group=512, pad=0), conv(512, 128, 1)]
    return nn.Sequential(*layers)
