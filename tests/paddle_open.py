"""Networks in Paddle whose forward computes sizes from its input's shape.

They are built in a process of `tests.paddle_zoo`.
"""

from __future__ import annotations

from typing import Any

import paddle
from paddle import nn
from paddle.base.layer_helper import LayerHelper
from paddle.nn import functional

__all__ = ["make_open"]

_older = False  # whether the older format is written


def _operator(name: str, inputs: dict[str, Any], *others: str, **attrs: Any) -> Any:
    """An operator by its name: in the older format, Paddle 3's own functions of some no longer work."""
    helper = LayerHelper(name)
    made = {slot: helper.create_variable_for_type_inference("float32") for slot in ("Out", *others)}
    helper.append_op(type=name, inputs=inputs, outputs=made, attrs=attrs)
    return made["Out"]


def _product(x: Any, y: Any, transpose: bool = False) -> Any:
    if not _older:
        return paddle.matmul(x, y, transpose_y=transpose)
    return _operator("matmul_v2", {"X": x, "Y": y}, trans_x=False, trans_y=transpose)


def _padded(x: Any, pads: list[Any]) -> Any:
    """Add rows and columns of zeros, so many before and after."""
    if not _older:
        return functional.pad(x, pads)
    parts = [paddle.full([1], p, "int32") if isinstance(p, int) else p.astype("int32").reshape([1]) for p in pads]
    paddings = {"Paddings": paddle.concat([*parts, *[paddle.full([1], 0, "int32")] * 2])}
    cube = _operator("unsqueeze2", {"X": x}, "XShape", axes=[2])
    padded = _operator("pad3d", {"X": cube, **paddings}, paddings=[], mode="constant", value=0.0, data_format="NCDHW")
    return _operator("squeeze2", {"X": padded}, "XShape", axes=[2])


def _rolled(x: Any, shift: int) -> Any:
    if _older:
        return _operator("roll", {"X": x}, shifts=[shift, shift], axis=[1, 2])
    return paddle.roll(x, shifts=(shift, shift), axis=(1, 2))


class Shuffle(nn.Layer):  # type: ignore[misc]
    """Two blocks of ShuffleNetV2 (arXiv 1807.11164, figure 3 c), and a resize to a computed size."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.point = nn.Conv2D(3, 16, 3, 2, 1), nn.Conv2D(8, 8, 1)
        self.depth, self.head = nn.Conv2D(8, 8, 3, padding=1, groups=8), nn.Linear(16, 10)

    def forward(self, x: Any) -> Any:
        x = functional.relu(self.stem(x))
        for _ in range(2):
            left, right = paddle.split(x, 2, axis=1)
            x = paddle.concat([left, self.depth(functional.relu(self.point(right)))], 1)
            n, c, h, w = x.shape
            x = x.reshape([n, 2, c // 2, h, w]).transpose([0, 2, 1, 3, 4]).reshape([n, c, h, w])
        small = functional.max_pool2d(x, 2)
        x = x + functional.interpolate(small, size=paddle.shape(x)[2:] if _older else x.shape[2:], mode="bilinear")
        return self.head(x.mean([2, 3]))


class Attention(nn.Layer):  # type: ignore[misc]
    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads, self.qkv, self.join = n_heads, nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        n, length, c = x.shape
        qkv = self.qkv(x).reshape([n, length, 3, self.n_heads, c // self.n_heads]).transpose([2, 0, 3, 1, 4])
        weights = functional.softmax(_product(qkv[0], qkv[1], transpose=True) * (c // self.n_heads) ** -0.5)
        return self.join(_product(weights, qkv[2]).transpose([0, 2, 1, 3]).reshape([n, length, c]))


class ViT(nn.Layer):  # type: ignore[misc]
    """One layer of a vision transformer (arXiv 2010.11929), with a class token for each image of the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.attention = nn.Conv2D(3, 32, 16, 16), Attention(32, 4)
        self.token, self.positions = self.create_parameter([1, 1, 32]), self.create_parameter([1, 17, 32])
        self.norm, self.first, self.second = nn.LayerNorm(32), nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: Any) -> Any:
        token = self.token.expand([x.shape[0], -1, -1])
        x = paddle.concat([token, self.patches(x).flatten(2).transpose([0, 2, 1])], 1) + self.positions
        x = x + self.attention(self.norm(x))
        return (x + self.second(functional.relu(self.first(x))))[:, 0]


class Swin(nn.Layer):  # type: ignore[misc]
    """Two blocks of a Swin transformer (arXiv 2103.14030): windows, plain and shifted, of a padded image."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.attention, self.norm = nn.Conv2D(3, 32, 4, 4), Attention(32, 2), nn.LayerNorm(32)
        self.merge, self.merged = nn.Linear(128, 64), nn.LayerNorm(128)

    def block(self, x: Any, shift: int, window: int = 4) -> Any:
        n, c, h, w = x.shape
        padded = _padded(x, [0, (window - w % window) % window, 0, (window - h % window) % window])
        tokens = self.norm(padded.transpose([0, 2, 3, 1]))
        _, rows, columns, _ = tokens.shape
        tokens = _rolled(tokens, -shift) if shift else tokens
        split = tokens.reshape([n, rows // window, window, columns // window, window, c]).transpose([0, 1, 3, 2, 4, 5])
        mixed = self.attention(split.reshape([-1, window * window, c])).reshape([-1, window, window, c])
        joined = mixed.reshape([n, rows // window, columns // window, window, window, c]).transpose([0, 1, 3, 2, 4, 5])
        joined = joined.reshape([n, rows, columns, c])
        joined = _rolled(joined, shift) if shift else joined
        return x + joined[:, :h, :w, :].transpose([0, 3, 1, 2])

    def forward(self, x: Any) -> Any:
        x = self.block(self.block(self.patches(x), 0), 2).transpose([0, 2, 3, 1])
        quarters = [x[:, row::2, column::2, :] for column in (0, 1) for row in (0, 1)]
        n = x.shape[0]
        return self.merge(self.merged(paddle.concat(quarters, -1).reshape([n, -1, 128]))).mean(1)


class Recogniser(nn.Layer):  # type: ignore[misc]
    """Convolutions, recurrent layers over columns, and a score for each character (arXiv 1507.05717)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = nn.Conv2D(3, 16, 3, 2, 1), nn.Conv2D(16, 32, 3, (2, 1), 1)
        self.lstm = nn.LSTM(32, 24, num_layers=2, direction="bidirect")
        self.gru, self.simple = nn.GRU(48, 24, num_layers=2), nn.SimpleRNN(24, 24, direction="bidirect")
        for layer in (self.lstm, self.gru, self.simple):  # the older format cannot be written without a value
            layer._dropout_state = paddle.zeros([1], "uint8")
        self.head = nn.Linear(48, 40)

    def forward(self, x: Any) -> Any:
        x = functional.relu(self.deep(functional.relu(self.stem(x)))).mean(2, keepdim=True)
        n, c, h, w = x.shape
        sequence, _ = self.lstm(x.reshape([n, c, h * w]).transpose([0, 2, 1]))
        sequence, states = self.gru(sequence)
        sequence, _ = self.simple(sequence)
        return functional.softmax(self.head(sequence)), states


class Sums(nn.Layer):  # type: ignore[misc]
    """Sums of three tensors and of one, and products of a matrix and a vector, on either side."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2D(3, 8, 1) for _ in range(3))
        self.vector = self.create_parameter([16])

    def forward(self, x: Any) -> Any:
        x = paddle.add_n([paddle.add_n([self.first(x)]), self.second(x), self.third(x)])
        return _product(x, self.vector), _product(x, x[0, 0, 0]), _product(self.vector, x)


_NETWORKS = {"shuffle": Shuffle, "vit": ViT, "swin": Swin, "recogniser": Recogniser, "sums": Sums}


def make_open(name: str, *, older: bool) -> Any:
    """The network, to be saved in the older or the newer format."""
    global _older
    _older = older
    return _NETWORKS[name]()
