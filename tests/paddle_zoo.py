"""Networks in Paddle, and their export, as a script: the older format must be chosen before Paddle is imported.

python paddle_zoo.py pdmodel|json FOLDER NAME...
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_FLAG = "FLAGS_enable_pir_api"

VISION = (
    "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "resnet18", "resnet34", "resnet50",
    "resnet101", "vgg11", "vgg16", "alexnet", "squeezenet1_0", "squeezenet1_1", "shufflenet_v2_x0_25",
    "shufflenet_v2_x0_33", "shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0",
    "shufflenet_v2_swish", "densenet121", "googlenet", "inception_v3", "resnext50_32x4d", "wide_resnet50_2",
)  # fmt: skip
# name -> the network of the torch zoo that it is
TWINS = {
    "mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2", "mobilenet_v3_small": "MobileNetV3-small",
    "mobilenet_v3_large": "MobileNetV3-large", "resnet18": "ResNet18", "resnet50": "ResNet50",
    "shufflenet_v2_x0_5": "ShuffleNetV2-0.5", "shufflenet_v2_x1_0": "ShuffleNetV2-1.0",
    "densenet121": "DenseNet121", "resnext50_32x4d": "ResNeXt50", "wide_resnet50_2": "Wide-ResNet50",
}  # fmt: skip
SIZES = {"squeezenet1_1": (64, 64), "inception_v3": (299, 299), **dict.fromkeys(TWINS, (64, 64))}
OWN = ("encoder", "unet", "head", "gates", "activations", "residuals", "spelled")
# network of `tests.paddle_open` -> shape of its input; with "-open" after the name, that is open except the channels
OPEN_SHAPES = {"shuffle": (2, 3, 64, 48), "vit": (2, 3, 64, 64), "swin": (1, 3, 72, 64), "recogniser": (2, 3, 32, 64)}
SUMS = "sums"
QUANTISED = "quantised"  # Paddle-Lite's optimiser, of any version, ends on what Paddle 3 writes of it


def make(name: str) -> tuple[Any, list[Any]]:
    """The network and its inputs' specification."""
    import paddle
    from paddle.static import InputSpec

    if name.removesuffix("-open") in (*OPEN_SHAPES, SUMS):
        from paddle_open import make_open

        shape = {**OPEN_SHAPES, SUMS: (1, 3, 16, 16)}.get(name, (-1, 3, -1, -1))
        return make_open(name.removesuffix("-open"), older=_older()), [InputSpec(shape, "float32", "x")]
    if name in (*OWN, QUANTISED):
        net, *shapes = _own()[name]()
        return net, [InputSpec(shape, "float32") for shape in shapes]
    return getattr(paddle.vision.models, name)(), [InputSpec([1, 3, *SIZES.get(name, (224, 224))], "float32")]


def _unary(name: str, x: Any, **attrs: Any) -> Any:
    """An operator by its name: in the older format, Paddle 3's own functions of some no longer work."""
    return _operator(name, {"X": x}, attrs) if _older() else _functional(name)(x)


def _product(x: Any, y: Any, transpose: bool = False) -> Any:
    import paddle

    return (
        _operator("matmul_v2", {"X": x, "Y": y}, {"trans_x": False, "trans_y": transpose})
        if _older()
        else paddle.matmul(x, y, transpose_y=transpose)
    )


def _older() -> bool:
    return os.environ[_FLAG] == "0"


def _functional(name: str) -> Any:
    from paddle.nn import functional

    return getattr(functional, {"hard_swish": "hardswish", "hard_sigmoid": "hardsigmoid"}.get(name, name))


def _operator(name: str, inputs: dict[str, Any], attrs: dict[str, Any]) -> Any:
    from paddle.base.layer_helper import LayerHelper

    helper = LayerHelper(name)
    out = helper.create_variable_for_type_inference("float32")
    helper.append_op(type=name, inputs=inputs, outputs={"Out": out}, attrs=attrs)
    return out


def _own() -> dict[str, Callable[[], tuple[Any, ...]]]:
    import paddle
    from paddle import nn
    from paddle.nn import functional

    class Net(nn.Layer):  # type: ignore[misc]
        def __init__(self, forward: Callable[..., Any], **layers: Any) -> None:
            super().__init__()
            self._function = forward
            for name, layer in layers.items():
                self.add_sublayer(name, layer)

        def forward(self, x: Any) -> Any:
            return self._function(self, x)

    def conv_bn(c_in: int, c_out: int, kernel: int = 3, **more: Any) -> Any:
        return nn.Sequential(nn.Conv2D(c_in, c_out, kernel, padding=kernel // 2, **more), nn.BatchNorm2D(c_out))

    class Encoder(nn.Layer):  # type: ignore[misc]
        """A layer of the transformer's encoder (arXiv 1706.03762, section 3.1)."""

        def __init__(self, width: int, n_heads: int) -> None:
            super().__init__()
            self.n_heads, self.width = n_heads, width
            self.query, self.key, self.value, self.join = (nn.Linear(width, width) for _ in range(4))
            self.first, self.second = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
            self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)

        def forward(self, x: Any) -> Any:
            shape = [1, -1, self.n_heads, self.width // self.n_heads]
            q, k, v = (layer(x).reshape(shape).transpose([0, 2, 1, 3]) for layer in (self.query, self.key, self.value))
            weights = functional.softmax(_product(q * shape[-1] ** -0.5, k, transpose=True))
            mixed = _product(weights, v).transpose([0, 2, 1, 3]).reshape([1, -1, self.width])
            x = self.before(x + self.join(mixed))
            return self.after(x + self.second(functional.relu(self.first(x))))

    def encoder() -> tuple[Any, ...]:
        return nn.Sequential(Encoder(64, 4), Encoder(64, 4)), [1, 16, 64]

    def unet() -> tuple[Any, ...]:
        def forward(net: Any, x: Any) -> Any:
            top = functional.relu(net.down(x))
            low = functional.relu(net.low(functional.max_pool2d(top, 2)))
            return net.out(functional.relu(net.join(paddle.concat([functional.relu(net.norm(net.up(low))), top], 1))))

        layers = {"down": conv_bn(3, 16), "low": conv_bn(16, 32), "join": conv_bn(32, 16), "out": nn.Conv2D(16, 2, 1)}
        return Net(forward, up=nn.Conv2DTranspose(32, 16, 2, 2), norm=nn.BatchNorm2D(16), **layers), [1, 3, 64, 64]

    def head() -> tuple[Any, ...]:
        def forward(net: Any, x: Any) -> Any:
            y = functional.relu(net.stem(x))
            z = functional.interpolate(functional.relu(net.deep(y)), scale_factor=2, mode="nearest")
            maps = [net.box(y), net.score(z)]
            flat = [item.transpose([0, 2, 3, 1]).reshape([1, -1, 4]) for item in maps]
            return functional.softmax(paddle.concat(flat, 1))

        layers = {"stem": conv_bn(3, 16), "deep": conv_bn(16, 16, stride=2)}
        return Net(forward, **layers, box=nn.Conv2D(16, 8, 1), score=nn.Conv2D(16, 8, 1)), [1, 3, 32, 32]

    def gates() -> tuple[Any, ...]:
        def forward(net: Any, x: Any) -> Any:
            y = functional.relu6(net.a(x))
            pooled = functional.adaptive_avg_pool2d(y, 1)
            y = y * _unary("sigmoid", net.expand(functional.relu(net.reduce(pooled))))
            y = y + functional.hardswish(net.b(y))
            return net.c(y * 0.5 + 1.0)

        layers = {"a": conv_bn(3, 16), "b": conv_bn(16, 16, groups=16), "c": conv_bn(16, 8, 1)}
        return Net(forward, **layers, reduce=nn.Conv2D(16, 4, 1), expand=nn.Conv2D(4, 16, 1)), [1, 3, 32, 32]

    def activations() -> tuple[Any, ...]:
        names = ("relu", "relu6", "leaky_relu", "hard_swish", "hard_sigmoid", "sigmoid", "tanh", "swish")

        def forward(net: Any, x: Any) -> Any:
            for number, name in enumerate(names):
                x = _unary(name, getattr(net, f"conv{number}")(x))
            for number, name in enumerate(names):
                x = _unary(name, getattr(net, f"depth{number}")(x))
            return x

        layers = {f"conv{number}": conv_bn(8, 8) for number in range(len(names))}
        layers |= {f"depth{number}": conv_bn(8, 8, groups=8) for number in range(len(names))}
        return Net(forward, **layers), [1, 8, 16, 16]

    def residuals() -> tuple[Any, ...]:
        names = ("relu", "relu6", "tanh", "sigmoid", "leaky_relu")

        def forward(net: Any, x: Any) -> Any:
            y = functional.relu(x / net.b(x))
            for name in names:
                y = _unary(name, net.a(y) + x)
            for name in ("relu", "tanh"):
                y = _unary(name, net.a(y) * x)
                y = _unary(name, net.a(y) - x)
            flat = functional.relu(net.first(y.flatten(1)))
            return functional.softmax(_unary("sigmoid", net.second(flat)))

        return Net(
            forward,
            a=conv_bn(8, 8, bias_attr=False),
            b=conv_bn(8, 8),
            first=nn.Linear(512, 16),
            second=nn.Linear(16, 4),
        ), [
            1,
            8,
            8,
            8,
        ]

    def spelled() -> tuple[Any, ...]:
        """Scales, and activations that are written as several operators."""

        def forward(net: Any, x: Any) -> Any:
            x = functional.relu(net.a(x) * 2.0 + 1.0)
            x = functional.relu(net.b(x)) * 0.5
            x = x * _unary("relu6", x + 3.0) / 6.0
            y = net.c(x)
            y = _unary("relu6", net.d(y * _unary("sigmoid", y)) * net.scale + net.shift)
            y = _unary("hard_swish", net.e(y) * 2.0)
            y = functional.softmax(y.transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])
            return net.f(y)[:, 0]

        convs = {name: nn.Conv2D(8, 8, 1) for name in "abcef"}
        net = Net(forward, **convs, d=nn.Conv2D(8, 8, 3, padding=1, groups=8))
        net.scale, net.shift = (net.create_parameter([1]) for _ in range(2))
        return net, [1, 8, 16, 16]

    def quantised() -> tuple[Any, ...]:
        """Convolutions and a linear layer, quantised after training."""
        from paddle.quantization import PTQ, QuantConfig
        from paddle.quantization.observers import AbsmaxObserver

        def forward(net: Any, x: Any) -> Any:
            x = functional.relu(net.depth(functional.relu(net.first(x))))
            return net.linear(functional.adaptive_avg_pool2d(functional.relu(net.point(x)), 1).flatten(1))

        layers = {"first": nn.Conv2D(3, 8, 3, padding=1), "depth": nn.Conv2D(8, 8, 3, padding=1, groups=8)}
        net = Net(forward, **layers, point=nn.Conv2D(8, 16, 1), linear=nn.Linear(16, 10))
        net.eval()
        config = QuantConfig(activation=None, weight=None)
        config.add_type_config([nn.Conv2D, nn.Linear], activation=AbsmaxObserver(), weight=AbsmaxObserver())
        quantiser = PTQ(config)
        observed = quantiser.quantize(net)
        observed(paddle.ones([1, 3, 16, 16]))
        return quantiser.convert(observed), [1, 3, 16, 16]

    return {
        "encoder": encoder, "unet": unet, "head": head, "gates": gates, "activations": activations,
        "residuals": residuals, "spelled": spelled, "quantised": quantised,
    }  # fmt: skip


def export(target: Path, *names: str) -> Path:
    """Both formats of networks, each in a process of its own."""
    for kind in ("pdmodel", "json"):
        subprocess.run([sys.executable, __file__, kind, target, *names], check=True, capture_output=True)  # noqa: S603
    return target


def main() -> None:
    kind, folder, *names = sys.argv[1:]
    os.environ[_FLAG] = "1" if kind == "json" else "0"
    import paddle

    paddle.seed(1)
    for name in names:
        net, specification = make(name)
        net.eval()
        paddle.jit.save(net, f"{folder}/{name}", input_spec=specification)


if __name__ == "__main__":
    main()
