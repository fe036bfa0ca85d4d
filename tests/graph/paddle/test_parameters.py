"""Parameters of Paddle layers: each once, and neither running statistics nor other buffers."""

from __future__ import annotations

from typing import Any

import pytest

paddle = pytest.importorskip("paddle", reason="needs paddlepaddle")

from paddle import nn  # noqa: E402

from latency_nas import ResourceCounter  # noqa: E402


class Bare(nn.Layer):  # type: ignore[misc]
    """A class token, a layer scale, a buffer, and a layer that is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.scale = self.create_parameter([1, 1, 16]), self.create_parameter([16])
        self.linear, self.unread = nn.Linear(16, 16), nn.Linear(16, 16)
        self.norm = nn.BatchNorm1D(9, weight_attr=False, bias_attr=False)
        self.register_buffer("positions", paddle.ones([9, 16]))

    def forward(self, x: Any) -> Any:
        x = paddle.concat([self.token, x], axis=1) + self.positions
        return self.norm(x + self.scale * self.linear(x))


class Tied(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(1000, 64)

    def forward(self, tokens: Any) -> Any:
        return paddle.matmul(self.embedding(tokens), self.embedding.weight, transpose_y=True)


class Normed(nn.Layer):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2D(3, 8, 3, bias_attr=False), nn.BatchNorm2D(8)

    def forward(self, x: Any) -> Any:
        return self.norm(self.conv(x))


@pytest.mark.parametrize(
    ("layer", "example", "n_params"),
    [
        (Bare, paddle.static.InputSpec([1, 8, 16], "float32"), 16 + 16 + 16 * 16 + 16),
        (Tied, paddle.static.InputSpec([1, 8], "int64"), 64_000),
        (Normed, paddle.static.InputSpec([1, 3, 8, 8], "float32"), 8 * 3 * 9 + 16),
    ],
)
@pytest.mark.parametrize("engine", ["MNN", "Paddle-Lite"])
def test_parameters_are_the_distinct_ones_that_are_read(layer: Any, example: Any, n_params: int, engine: str) -> None:
    assert ResourceCounter("params", engine=engine).predict(layer(), example).value == n_params
