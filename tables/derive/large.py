"""Larger networks: AlexNet, VGG, ResNet, GoogLeNet and BN-Inception, SqueezeNet, SSD, YOLOv5."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from derive.blocks import Classifier, Residual, conv
from derive.mobile import mobilenet_v1_features, mobilenet_v3_features

__all__ = [
    "alexnet",
    "bn_inception",
    "googlenet",
    "resnet",
    "squeezenet_v1_1",
    "ssd_mobilenet_v1",
    "ssdlite_mobilenet_v3",
    "vgg16",
    "yolov5s",
]


def alexnet() -> nn.Module:
    """AlexNet of one tower, as torchvision and paddle.vision have it (arXiv 1404.5997)."""
    pool = nn.MaxPool2d(3, 2)
    return nn.Sequential(
        conv(3, 64, 11, 4, pad=2, bn=False, act="relu"), pool, conv(64, 192, 5, bn=False, act="relu"), pool,
        conv(192, 384, 3, bn=False, act="relu"), conv(384, 256, 3, bn=False, act="relu"),
        conv(256, 256, 3, bn=False, act="relu"), pool, nn.Flatten(), nn.Linear(9216, 4096), nn.ReLU(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000),
    )  # fmt: skip


def vgg16() -> nn.Module:
    """VGG of configuration D (arXiv 1409.1556, table 1)."""
    layers: list[nn.Module] = []
    c = 3
    for width, n in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(n):
            layers.append(conv(c, width, 3, bn=False, act="relu"))
            c = width
        layers.append(nn.MaxPool2d(2, 2))
    head = [nn.Linear(25088, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 1000)]
    return nn.Sequential(*layers, nn.Flatten(), *head)


def resnet(depth: int) -> nn.Module:
    """ResNet (arXiv 1512.03385, table 1); the stride of a bottleneck is in its 3 x 3 convolution."""
    layers: list[nn.Module] = [conv(3, 64, 7, 2, act="relu"), nn.MaxPool2d(3, 2, 1)]
    c = 64
    for stage, n in enumerate({18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]):
        mid, out = 64 << stage, (64 if depth == 18 else 256) << stage
        for i in range(n):
            s = 2 if i == 0 and stage else 1
            if depth == 18:
                body = nn.Sequential(conv(c, mid, 3, s, act="relu"), conv(mid, out, 3))
            else:
                body = nn.Sequential(conv(c, mid, 1, act="relu"), conv(mid, mid, 3, s, act="relu"), conv(mid, out, 1))
            layers.append(Residual(body, conv(c, out, 1, s) if s == 2 or c != out else None, "relu"))
            c = out
    return Classifier(nn.Sequential(*layers), c)


class _Branches(nn.Module):
    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def squeezenet_v1_1() -> nn.Module:
    """SqueezeNet 1.1, of fire modules (arXiv 1602.07360)."""

    def fire(c: int, squeeze: int, expand: int) -> nn.Module:
        sides = [conv(squeeze, expand, k, bn=False, act="relu") for k in (1, 3)]
        return nn.Sequential(conv(c, squeeze, 1, bn=False, act="relu"), _Branches(*sides))

    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return nn.Sequential(
        conv(3, 64, 3, 2, pad=0, bn=False, act="relu"), pool, fire(64, 16, 64), fire(128, 16, 64), pool,
        fire(128, 32, 128), fire(256, 32, 128), pool, fire(256, 48, 192), fire(384, 48, 192), fire(384, 64, 256),
        fire(512, 64, 256), conv(512, 1000, 1, bn=False, act="relu"), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip


def googlenet() -> nn.Module:
    """GoogLeNet without the heads that training has (arXiv 1409.4842, table 1), as torchvision and TF-slim have it.

    Theirs is normalised by batches, and has 3 x 3 convolutions where the paper has 5 x 5.
    """

    def one(c_in: int, c_out: int, k: int) -> nn.Module:
        return conv(c_in, c_out, k, act="relu")

    def block(c: int, a: int, b: int, b3: int, d: int, d3: int, p: int) -> nn.Module:
        pooled = nn.Sequential(nn.MaxPool2d(3, 1, 1), one(c, p, 1))
        return _Branches(
            one(c, a, 1), nn.Sequential(one(c, b, 1), one(b, b3, 3)), nn.Sequential(one(c, d, 1), one(d, d3, 3)), pooled
        )

    pool = nn.MaxPool2d(3, 2, ceil_mode=True)
    features = nn.Sequential(
        conv(3, 64, 7, 2, act="relu"), pool, one(64, 64, 1), one(64, 192, 3), pool,
        block(192, 64, 96, 128, 16, 32, 32), block(256, 128, 128, 192, 32, 96, 64), pool,
        block(480, 192, 96, 208, 16, 48, 64), block(512, 160, 112, 224, 24, 64, 64),
        block(512, 128, 128, 256, 24, 64, 64), block(512, 112, 144, 288, 32, 64, 64),
        block(528, 256, 160, 320, 32, 128, 128), nn.MaxPool2d(2, 2, ceil_mode=True),
        block(832, 256, 160, 320, 32, 128, 128), block(832, 384, 192, 384, 48, 128, 128),
    )  # fmt: skip
    return Classifier(features, 1024)


def bn_inception() -> nn.Module:
    """Inception with batch normalisation, "v2" (arXiv 1502.03167, figure 5)."""

    def one(c_in: int, c_out: int, k: int, s: int = 1) -> nn.Module:
        return conv(c_in, c_out, k, s, act="relu")

    def block(c: int, a: int, b: int, b3: int, d: int, d3: int, p: int, kind: str) -> nn.Module:
        pool = nn.AvgPool2d(3, 1, 1) if kind == "avg" else nn.MaxPool2d(3, 1, 1)
        return _Branches(
            one(c, a, 1), nn.Sequential(one(c, b, 1), one(b, b3, 3)),
            nn.Sequential(one(c, d, 1), one(d, d3, 3), one(d3, d3, 3)), nn.Sequential(pool, one(c, p, 1)),
        )  # fmt: skip

    def down(c: int, b: int, b3: int, d: int, d3: int) -> nn.Module:
        return _Branches(
            nn.Sequential(one(c, b, 1), one(b, b3, 3, 2)),
            nn.Sequential(one(c, d, 1), one(d, d3, 3), one(d3, d3, 3, 2)), nn.MaxPool2d(3, 2, 1),
        )  # fmt: skip

    features = nn.Sequential(
        one(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1), one(64, 64, 1), one(64, 192, 3), nn.MaxPool2d(3, 2, 1),
        block(192, 64, 64, 64, 64, 96, 32, "avg"), block(256, 64, 64, 96, 64, 96, 64, "avg"),
        down(320, 128, 160, 64, 96), block(576, 224, 64, 96, 96, 128, 128, "avg"),
        block(576, 192, 96, 128, 96, 128, 128, "avg"), block(576, 160, 128, 160, 128, 160, 96, "avg"),
        block(576, 96, 128, 192, 160, 192, 96, "avg"), down(576, 128, 192, 192, 256),
        block(1024, 352, 192, 320, 160, 224, 128, "avg"), block(1024, 352, 192, 320, 192, 224, 128, "max"),
    )  # fmt: skip
    return Classifier(features, 1024)


class _SSD(nn.Module):
    """SSD over MobileNetV1 for the 21 classes of VOC; 300 x 300."""

    def __init__(self) -> None:
        super().__init__()
        features = list(mobilenet_v1_features())
        self.low, self.high = nn.Sequential(*features[:23]), nn.Sequential(*features[23:])
        extra, c = [], 1024
        for mid, out in ((256, 512), (128, 256), (128, 256), (64, 128)):
            extra.append(nn.Sequential(conv(c, mid, 1, act="relu"), conv(mid, out, 3, 2, act="relu")))
            c = out
        self.extra = nn.ModuleList(extra)
        widths, priors = (512, 1024, 512, 256, 256, 128), (3, 6, 6, 6, 6, 6)
        self.boxes = nn.ModuleList([nn.Conv2d(c, 4 * n, 1) for c, n in zip(widths, priors, strict=True)])
        self.scores = nn.ModuleList([nn.Conv2d(c, 21 * n, 1) for c, n in zip(widths, priors, strict=True)])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = [self.low(x)]
        maps.append(self.high(maps[0]))
        for layer in self.extra:
            maps.append(layer(maps[-1]))
        boxes = [head(x).permute(0, 2, 3, 1).flatten(1) for head, x in zip(self.boxes, maps, strict=True)]
        scores = [head(x).permute(0, 2, 3, 1).flatten(1) for head, x in zip(self.scores, maps, strict=True)]
        return torch.cat(boxes, 1), torch.cat(scores, 1).reshape(1, -1, 21).softmax(2)


def ssd_mobilenet_v1() -> nn.Module:
    return _SSD()


class _C3(nn.Module):
    def __init__(self, c_in: int, c_out: int, n: int, *, shortcut: bool) -> None:
        super().__init__()
        mid = c_out // 2

        def bottleneck() -> nn.Module:
            body = nn.Sequential(conv(mid, mid, 1, act="swish"), conv(mid, mid, 3, act="swish"))
            return Residual(body) if shortcut else body

        self.main = nn.Sequential(conv(c_in, mid, 1, act="swish"), *[bottleneck() for _ in range(n)])
        self.side, self.join = conv(c_in, mid, 1, act="swish"), conv(2 * mid, c_out, 1, act="swish")

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat([self.main(x), self.side(x)], 1))


class _YoloV5s(nn.Module):
    """YOLOv5s of release 6 as it is exported, with the boxes decoded; 640 x 640."""

    def __init__(self) -> None:
        super().__init__()

        def one(c_in: int, c_out: int, k: int, s: int = 1, pad: int | None = None) -> nn.Module:
            return conv(c_in, c_out, k, s, act="swish", pad=pad)

        self.c3 = nn.Sequential(
            one(3, 32, 6, 2, 2),
            one(32, 64, 3, 2),
            _C3(64, 64, 1, shortcut=True),
            one(64, 128, 3, 2),
            _C3(128, 128, 2, shortcut=True),
        )
        self.c4 = nn.Sequential(one(128, 256, 3, 2), _C3(256, 256, 3, shortcut=True))
        self.c5 = nn.Sequential(one(256, 512, 3, 2), _C3(512, 512, 1, shortcut=True))
        self.spp_in, self.spp_out, self.pool = one(512, 256, 1), one(1024, 512, 1), nn.MaxPool2d(5, 1, 2)
        self.lat5, self.lat4 = one(512, 256, 1), one(256, 128, 1)
        self.up4, self.up3 = _C3(512, 256, 1, shortcut=False), _C3(256, 128, 1, shortcut=False)
        self.down3, self.down4 = one(128, 128, 3, 2), one(256, 256, 3, 2)
        self.out4, self.out5 = _C3(256, 256, 1, shortcut=False), _C3(512, 512, 1, shortcut=False)
        self.heads = nn.ModuleList([nn.Conv2d(c, 255, 1) for c in (128, 256, 512)])
        self.up = nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        c3 = self.c3(x)
        c4 = self.c4(c3)
        pools = [self.spp_in(self.c5(c4))]
        for _ in range(3):
            pools.append(self.pool(pools[-1]))
        p5 = self.lat5(self.spp_out(torch.cat(pools, 1)))
        p4 = self.lat4(self.up4(torch.cat([self.up(p5), c4], 1)))
        p3 = self.up3(torch.cat([self.up(p4), c3], 1))
        n4 = self.out4(torch.cat([self.down3(p3), p4], 1))
        n5 = self.out5(torch.cat([self.down4(n4), p5], 1))
        return torch.cat([self._boxes(head(x)) for head, x in zip(self.heads, (p3, n4, n5), strict=True)], 1)

    def _boxes(self, x: Tensor) -> Tensor:
        """Of 3 anchors, the centre, size and scores of a box at each place: their cells and anchors are constants."""
        h, w = x.shape[2:]
        guesses = x.reshape(1, 3, 85, h, w).permute(0, 1, 3, 4, 2).sigmoid()
        cells, anchors = x.new_zeros(1, 3, h, w, 2), x.new_ones(1, 3, h, w, 2)
        centre, size, scores = guesses.split((2, 2, 81), 4)
        centre, size = (centre * 2 + cells) * (640 / w), (size * 2) ** 2 * anchors
        return torch.cat([centre, size, scores], 4).reshape(1, -1, 85)


def yolov5s() -> nn.Module:
    return _YoloV5s()


class _SSDLite(nn.Module):
    """SSDLite over MobileNetV3-large for the 81 classes of COCO; 320 x 320."""

    def __init__(self) -> None:
        super().__init__()
        layers = list(mobilenet_v3_features("large", tail=0.5))
        block = list(layers[13])
        self.low = nn.Sequential(*layers[:13], block[0])
        self.high = nn.Sequential(*block[1:], *layers[14:])
        extra, c = [], 480
        for mid, out in ((256, 512), (128, 256), (128, 256), (64, 128)):
            steps = [
                conv(c, mid, 1, act="relu6"),
                conv(mid, mid, 3, 2, group=mid, act="relu6"),
                conv(mid, out, 1, act="relu6"),
            ]
            extra.append(nn.Sequential(*steps))
            c = out
        self.extra = nn.ModuleList(extra)
        self.heads = nn.ModuleList([
            nn.ModuleList([
                nn.Sequential(conv(c, c, 3, group=c, act="relu6"), nn.Conv2d(c, priors * n, 1)) for n in (4, 81)
            ])
            for c, priors in ((672, 4), (480, 6), (512, 6), (256, 6), (256, 6), (128, 6))
        ])  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = [self.low(x)]
        maps.append(self.high(maps[0]))
        for layer in self.extra:
            maps.append(layer(maps[-1]))
        outputs = [
            [head(x).permute(0, 2, 3, 1).flatten(1) for head in pair] for pair, x in zip(self.heads, maps, strict=True)
        ]
        boxes, scores = (torch.cat(side, 1) for side in zip(*outputs, strict=True))
        return boxes, scores.reshape(1, -1, 81).softmax(2)


def ssdlite_mobilenet_v3() -> nn.Module:
    return _SSDLite()
