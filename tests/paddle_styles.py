"""The supernets of `tests.styles` written in Paddle, with the same choices, weights and samples in the same places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any, ClassVar

import paddle
from paddle import Tensor, nn
from paddle.nn import functional
from paddle.nn.initializer import Constant, Normal

CHANNELS = 4
SMALL = Normal(0.0, 1e-3)
Architecture = Mapping[str, int]


class Zero(nn.Layer):
    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.pool = nn.MaxPool2D(1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return paddle.zeros_like(x if self.stride == 1 else self.pool(x))


def relu_conv_bn(channels: int, kernel: int, stride: int = 1) -> nn.Layer:
    conv = nn.Conv2D(channels, channels, kernel, stride, kernel // 2, bias_attr=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2D(channels))


def conv_bn_relu(c_in: int, c_out: int, kernel: int = 3) -> nn.Layer:
    conv = nn.Conv2D(c_in, c_out, kernel, padding=kernel // 2, bias_attr=False)
    return nn.Sequential(conv, nn.BatchNorm2D(c_out), nn.ReLU())


def stem(channels: int) -> nn.Layer:
    return nn.Sequential(nn.Conv2D(3, channels, 3, padding=1, bias_attr=False), nn.BatchNorm2D(channels))


def head(channels: int) -> nn.Layer:
    return nn.Sequential(nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(channels, 3))


def node_of(edges: Sequence[tuple[nn.Layer, Tensor]]) -> Tensor:
    """A node of a derived cell: zero edges are left out, with their additions; where all are, they stay."""
    kept = [(op, x) for op, x in edges if not isinstance(op, Zero)]
    return reduce(add, [op(x) for op, x in kept or edges])


# --- DARTS and PC-DARTS, as PaddleSlim writes them


def darts_ops(channels: int, stride: int) -> list[nn.Layer]:
    skip = nn.Identity() if stride == 1 else relu_conv_bn(channels, 1, stride)
    return [Zero(stride), nn.MaxPool2D(3, stride, 1), skip, relu_conv_bn(channels, 3, stride)]


class DartsMixedOp(nn.Layer):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self._ops = nn.LayerList(darts_ops(channels, stride))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return paddle.add_n([weights[i] * op(x) for i, op in enumerate(self._ops)])


class PartialMixedOp(DartsMixedOp):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels // 2, stride)
        self.mp = nn.MaxPool2D(2, 2)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return self.merge(x[:, half:, :, :], super().forward(x[:, :half, :, :], weights))

    def merge(self, rest: Tensor, mixed: Tensor) -> Tensor:
        joined = paddle.concat([mixed, rest if mixed.shape[2] == rest.shape[2] else self.mp(rest)], axis=1)
        n, c, h, w = joined.shape
        shuffled = paddle.transpose(paddle.reshape(joined, [n, 2, c // 2, h, w]), [0, 2, 1, 3, 4])
        return paddle.reshape(shuffled, [n, c, h, w])


class DartsCell(nn.Layer):
    def __init__(self, kind: type[DartsMixedOp], channels: int, reduction: bool, reduction_before: bool) -> None:
        super().__init__()
        self.reduction = reduction
        self.preprocess0 = relu_conv_bn(channels, 1, 2 if reduction_before else 1)
        self.preprocess1 = relu_conv_bn(channels, 1)
        strides = [2 if reduction and j < 2 else 1 for i in range(2) for j in range(2 + i)]
        self._ops = nn.LayerList([kind(channels, stride) for stride in strides])

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor, weights2: Tensor | None = None) -> Tensor:
        states, offset = [self.preprocess0(s0), self.preprocess1(s1)], 0
        for _ in range(2):
            edges = [self._ops[offset + j](h, weights[offset + j]) for j, h in enumerate(states)]
            if weights2 is not None:
                edges = [weights2[offset + j] * edge for j, edge in enumerate(edges)]
            offset += len(states)
            states.append(paddle.add_n(edges))
        return reduce(add, states[-2:])


class Darts(nn.Layer):
    kind: type[DartsMixedOp] = DartsMixedOp

    def __init__(self, reductions: Sequence[bool] = (False, True, False)) -> None:
        super().__init__()
        self.stem, before = stem(CHANNELS), [False, *reductions[:-1]]
        self.cells = nn.LayerList(
            [DartsCell(self.kind, CHANNELS, *pair) for pair in zip(reductions, before, strict=True)]
        )
        self.head = head(CHANNELS)
        self.alphas_normal, self.alphas_reduce = (
            self.create_parameter([5, 4], default_initializer=SMALL) for _ in range(2)
        )

    def edge_weights(self, reduction: bool) -> Tensor | None:
        return None

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            weights = functional.softmax(self.alphas_reduce if cell.reduction else self.alphas_normal)
            s0, s1 = s1, cell(s0, s1, weights, self.edge_weights(cell.reduction))
        return self.head(s1)

    def subnet(self, architecture: Architecture) -> nn.Layer:
        return DerivedDarts(self, architecture)


class PcDarts(Darts):
    kind = PartialMixedOp

    def __init__(self, reductions: Sequence[bool] = (True,)) -> None:
        super().__init__(reductions)
        self.betas_normal, self.betas_reduce = (self.create_parameter([5], default_initializer=SMALL) for _ in range(2))
        if all(reductions):
            del self.alphas_normal, self.betas_normal

    def edge_weights(self, reduction: bool) -> Tensor | None:
        betas = self.betas_reduce if reduction else self.betas_normal
        return paddle.concat([functional.softmax(betas[0:2]), functional.softmax(betas[2:5])])


class DerivedDarts(nn.Layer):
    def __init__(self, net: Darts, architecture: Architecture) -> None:
        super().__init__()
        self.stem, self.head, self.cells = net.stem, net.head, net.cells
        kinds = ((False, "normal"), (True, "reduce"))
        self.picked = {
            flag: [architecture.get(f"alphas_{kind}[{edge}]", 0) for edge in range(5)] for flag, kind in kinds
        }
        self.taken = {
            flag: [architecture.get(f"betas_{kind}[{row}]") for row in ("0:2", "2:5")] for flag, kind in kinds
        }

    def edge(self, mixed: DartsMixedOp, index: int) -> Any:
        return DerivedPartial(mixed, index) if isinstance(mixed, PartialMixedOp) else mixed._ops[index]

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            states, offset, picked = [cell.preprocess0(s0), cell.preprocess1(s1)], 0, self.picked[cell.reduction]
            for taken in self.taken[cell.reduction]:
                ops = [self.edge(cell._ops[offset + j], picked[offset + j]) for j in range(len(states))]
                offset += len(states)
                edges = list(zip(ops, states, strict=True))
                states.append(node_of(edges if taken is None else [edges[taken]]))
            s0, s1 = s1, reduce(add, states[-2:])
        return self.head(s1)


class DerivedPartial(nn.Layer):
    def __init__(self, mixed: PartialMixedOp, index: int) -> None:
        super().__init__()
        self.mixed, self.op = mixed, mixed._ops[index]

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return self.mixed.merge(x[:, half:, :, :], node_of([(self.op, x[:, :half, :, :])]))


# --- NAS-Bench-201's cells


class Nb201Cell(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.edges = nn.LayerDict()
        for i in range(1, 4):
            for j in range(i):
                ops = [
                    Zero(),
                    nn.Identity(),
                    relu_conv_bn(CHANNELS, 1),
                    relu_conv_bn(CHANNELS, 3),
                    nn.AvgPool2D(3, 1, 1),
                ]
                self.edges[f"{i}<-{j}"] = nn.LayerList(ops)
        self.edge2index = {key: index for index, key in enumerate(sorted(self.edges))}

    def forward(self, inputs: Tensor, weightss: Tensor) -> Tensor:
        nodes = [inputs]
        for i in range(1, 4):
            total: Any = 0
            for j in range(i):
                weights = weightss[self.edge2index[f"{i}<-{j}"]]
                for k, op in enumerate(self.edges[f"{i}<-{j}"]):
                    total = total + op(nodes[j]) * weights[k]
            nodes.append(total)
        return nodes[-1]


class Nb201(nn.Layer):
    """Mixed by softmax, or by a hard sample that the root draws."""

    def __init__(self, gdas: bool = False) -> None:
        super().__init__()
        self.stem, self.head = stem(CHANNELS), head(CHANNELS)
        self.cells = nn.LayerList([Nb201Cell(), Nb201Cell()])
        self.arch_parameters = self.create_parameter([6, 5], default_initializer=SMALL)
        self.gdas = gdas
        self.drawn: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        weights = functional.softmax(self.arch_parameters)
        if self.gdas:
            weights = functional.gumbel_softmax(self.arch_parameters, temperature=10.0, hard=True)
            self.drawn = [weights.detach()]
        for cell in self.cells:
            x = cell(x, weights)
        return self.head(x)

    def subnet(self, architecture: Architecture) -> nn.Layer:
        return DerivedNb201(self, architecture)


class DerivedNb201(nn.Layer):
    def __init__(self, net: Nb201, architecture: Architecture) -> None:
        super().__init__()
        self.stem, self.head, self.cells = net.stem, net.head, net.cells
        self.picked = [architecture[f"arch_parameters[{row}]"] for row in range(6)]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for cell in self.cells:
            nodes = [x]
            for i in range(1, 4):
                keys = [f"{i}<-{j}" for j in range(i)]
                ops = [cell.edges[key][self.picked[cell.edge2index[key]]] for key in keys]
                nodes.append(node_of(list(zip(ops, nodes, strict=True))))
            x = nodes[-1]
        return self.head(x)


# --- chains: FBNet, ProxylessNAS, SPOS


def chain_ops() -> list[nn.Layer]:
    return [*(conv_bn_relu(CHANNELS, CHANNELS, kernel) for kernel in (1, 3, 5)), nn.Identity()]


class Chain(nn.Layer):
    def __init__(self, blocks: Sequence[nn.Layer]) -> None:
        super().__init__()
        self.stem, self.blocks, self.head = conv_bn_relu(3, CHANNELS), nn.LayerList(blocks), head(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)

    def subnet(self, architecture: Architecture) -> nn.Layer:
        blocks = [self.blocks[int(name.rpartition(".")[2])] for name in architecture]
        groups = [next((part for part in op.children() if isinstance(part, nn.LayerList)), op) for op in blocks]
        picked = [group[index] for group, index in zip(groups, architecture.values(), strict=True)]
        return nn.Sequential(self.stem, *picked, self.head)


class FbnetMixedOp(nn.Layer):
    def __init__(self, hard: bool = False) -> None:
        super().__init__()
        self.hard, self.ops = hard, nn.LayerList(chain_ops())
        self.thetas = self.create_parameter([4], default_initializer=Constant(0.25))
        self.drawn: list[Tensor] = []  # a tensor as an attribute would be a buffer

    def forward(self, x: Tensor, temperature: float = 1.0) -> Tensor:
        weights = functional.gumbel_softmax(self.thetas, temperature, hard=self.hard)
        self.drawn = [weights.detach()]
        return sum(weights[index] * op(x) for index, op in enumerate(self.ops))


class Fbnet(Chain):
    """The temperature is an argument of the forward."""

    def __init__(self, hard: bool = False) -> None:
        super().__init__([FbnetMixedOp(hard) for _ in range(3)])

    def forward(self, x: Tensor, temperature: float) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, temperature)
        return self.head(x)


class MixedEdge(nn.Layer):
    """Binary gates: only the active path contributes to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.candidate_ops = nn.LayerList(chain_ops())
        self.AP_path_alpha = self.create_parameter([4], default_initializer=SMALL)
        self.AP_path_wb = self.create_parameter([4], default_initializer=Constant(0.0))
        self.active, self.other = 0, 2

    def forward(self, x: Tensor) -> Tensor:
        output: Any = 0
        output = output + self.AP_path_wb[self.active] * self.candidate_ops[self.active](x)
        return output + self.AP_path_wb[self.other] * self.candidate_ops[self.other](x).detach()


class Proxyless(Chain):
    def __init__(self) -> None:
        super().__init__([MixedEdge() for _ in range(3)])


class Spos(Chain):
    def __init__(self) -> None:
        super().__init__([nn.LayerList(chain_ops()) for _ in range(4)])

    def forward(self, x: Tensor, path: Sequence[int] = (0, 1, 2, 3)) -> Tensor:
        x = self.stem(x)
        for index, block in zip(path, self.blocks, strict=True):
            x = block[index](x)
        return self.head(x)


# --- configured: OFA, FBNetV2; DenseNAS


class ElasticBlock(nn.Layer):
    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = channels * 3
        self.expand, self.depth = nn.Conv2D(channels, wide, 1), nn.Conv2D(wide, wide, 5, padding=2, groups=wide)
        self.project = nn.Conv2D(wide, channels, 1)
        self.kernel, self.expansion = 5, 3

    def forward(self, x: Tensor) -> Tensor:
        n, cut = x.shape[1] * self.expansion, (5 - self.kernel) // 2
        y = functional.relu(functional.conv2d(x, self.expand.weight[:n], self.expand.bias[:n]))
        weight = self.depth.weight[:n, :, cut : 5 - cut, cut : 5 - cut]
        y = functional.conv2d(y, weight, self.depth.bias[:n], padding=self.kernel // 2, groups=n)
        return x + functional.conv2d(functional.relu(y), self.project.weight[:, :n], self.project.bias)

    def subnet(self) -> nn.Layer:
        n, wide = self.project.weight.shape[0] * self.expansion, self.kernel
        expand, depth = nn.Conv2D(n // self.expansion, n, 1), nn.Conv2D(n, n, wide, padding=wide // 2, groups=n)
        return Residual(nn.Sequential(expand, nn.ReLU(), depth, nn.ReLU(), nn.Conv2D(n, n // self.expansion, 1)))


class Residual(nn.Layer):
    def __init__(self, inner: nn.Layer) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Ofa(nn.Layer):
    OPTIONS: ClassVar = {
        **{f"kernel{block}": (3, 5) for block in range(4)},
        **{f"expansion{block}": (1, 2, 3) for block in range(4)},
        "depth0": (1, 2),
        "depth1": (1, 2),
        "resolution": (8, 12),
    }

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv_bn_relu(3, CHANNELS), head(CHANNELS)
        self.blocks = nn.LayerList([ElasticBlock(CHANNELS) for _ in range(4)])
        self.runtime_depth = [2, 2]

    def set_active_subnet(self, config: Mapping[str, int]) -> None:
        for number, block in enumerate(self.blocks):
            block.kernel, block.expansion = config[f"kernel{number}"], config[f"expansion{number}"]
        self.runtime_depth[0], self.runtime_depth[1] = config["depth0"], config["depth1"]

    def active(self) -> list[nn.Layer]:
        return [self.blocks[stage * 2 + number] for stage in range(2) for number in range(self.runtime_depth[stage])]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.active():
            x = block(x)
        return self.head(x)

    def configured(self, config: Mapping[str, int]) -> tuple[nn.Layer, Tensor]:
        self.set_active_subnet(config)
        return self, paddle.zeros([1, 3, config["resolution"], config["resolution"]])

    def subnet(self, config: Mapping[str, int]) -> nn.Layer:
        self.set_active_subnet(config)
        return nn.Sequential(self.stem, *(block.subnet() for block in self.active()), self.head)


class FbnetV2(nn.Layer):
    WIDTHS = (4, 6, 8)
    OPTIONS: ClassVar = {f"width{layer}": (4, 6, 8) for layer in range(4)}

    def __init__(self) -> None:
        super().__init__()
        widths = [3, *[self.WIDTHS[-1]] * 4]
        self.layers = nn.LayerList([conv_bn_relu(c_in, c_out) for c_in, c_out in pairwise(widths)])
        self.head = head(self.WIDTHS[-1])
        self.alphas = self.create_parameter([4, 3], default_initializer=SMALL)
        rows = [[float(channel < width) for channel in range(self.WIDTHS[-1])] for width in self.WIDTHS]
        self.register_buffer("masks", paddle.to_tensor(rows))

    def gates(self) -> dict[str, Tensor]:
        return dict(zip(self.OPTIONS, functional.softmax(self.alphas), strict=True))

    def forward(self, x: Tensor) -> Tensor:
        for layer, gates in zip(self.layers, self.gates().values(), strict=True):
            x = layer(x) * paddle.reshape(paddle.matmul(gates, self.masks), [1, -1, 1, 1])
        return self.head(x)

    def subnet(self, config: Mapping[str, int]) -> nn.Layer:
        widths = [3, *(config[f"width{layer}"] for layer in range(4))]
        return nn.Sequential(*[conv_bn_relu(c_in, c_out) for c_in, c_out in pairwise(widths)], head(widths[-1]))
