"""Small supernets in the styles of the literature, each with a method that gives the network of an architecture.

They have choices, weights and samples in the same places as the authors' code, and know nothing of latency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from itertools import pairwise
from operator import add
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

CHANNELS = 4
Architecture = Mapping[str, int]


class Zero(nn.Module):
    """DARTS's and NAS-Bench-201's zero operation."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride].mul(0.0)


def relu_conv_bn(channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(nn.ReLU(), conv, nn.BatchNorm2d(channels))


def conv_bn_relu(c_in: int, c_out: int, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out), nn.ReLU())


class Head(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 3))


# --- DARTS (arXiv 1806.09055), PC-DARTS (arXiv 1907.05737)


def darts_ops(channels: int, stride: int) -> list[nn.Module]:
    skip: nn.Module = nn.Identity() if stride == 1 else relu_conv_bn(channels, 1, stride)
    return [Zero(stride), nn.MaxPool2d(3, stride, 1), skip, relu_conv_bn(channels, 3, stride)]


class DartsMixedOp(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self._ops = nn.ModuleList(darts_ops(channels, stride))

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        return sum(w * op(x) for w, op in zip(weights, self._ops, strict=True))


class PartialMixedOp(DartsMixedOp):
    """Only half of the channels are convolved; the others bypass the op, and all are shuffled."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__(channels // 2, stride)
        self.mp = nn.MaxPool2d(2, 2)

    def forward(self, x: Tensor, weights: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return self.merge(x[:, half:], super().forward(x[:, :half], weights))

    def merge(self, rest: Tensor, mixed: Tensor) -> Tensor:
        joined = torch.cat([mixed, rest if mixed.shape[2] == rest.shape[2] else self.mp(rest)], dim=1)
        n, c, h, w = joined.shape
        return joined.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)


class DartsCell(nn.Module):
    """Two inputs, two nodes, five edges."""

    def __init__(self, kind: type[DartsMixedOp], channels: int, reduction: bool, reduction_before: bool) -> None:
        super().__init__()
        self.reduction = reduction
        self.preprocess0 = relu_conv_bn(channels, 1, 2 if reduction_before else 1)
        self.preprocess1 = relu_conv_bn(channels, 1)
        strides = [2 if reduction and j < 2 else 1 for i in range(2) for j in range(2 + i)]
        self._ops = nn.ModuleList(kind(channels, stride) for stride in strides)

    def forward(self, s0: Tensor, s1: Tensor, weights: Tensor, weights2: Tensor | None = None) -> Tensor:
        states, offset = [self.preprocess0(s0), self.preprocess1(s1)], 0
        for _ in range(2):
            edges = [self._ops[offset + j](h, weights[offset + j]) for j, h in enumerate(states)]
            if weights2 is not None:
                edges = [weights2[offset + j] * edge for j, edge in enumerate(edges)]
            offset += len(states)
            states.append(sum(edges))
        return reduce(add, states[-2:])


class Darts(nn.Module):
    """A matrix for normal and one for reduction cells: plain tensors on the root, no parameters."""

    kind: type[DartsMixedOp] = DartsMixedOp

    def __init__(self, reductions: Sequence[bool] = (False, True, False)) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS))
        before = [False, *reductions[:-1]]
        self.cells = nn.ModuleList(
            DartsCell(self.kind, CHANNELS, *pair) for pair in zip(reductions, before, strict=True)
        )
        self.head = Head(CHANNELS)
        self.alphas_normal = (1e-3 * torch.randn(5, 4)).requires_grad_()
        self.alphas_reduce = (1e-3 * torch.randn(5, 4)).requires_grad_()

    def arch_parameters(self) -> list[Tensor]:
        return [self.alphas_normal, self.alphas_reduce]

    def edge_weights(self, reduction: bool) -> Tensor | None:
        return None

    def forward(self, x: Tensor) -> Tensor:
        s0 = s1 = self.stem(x)
        for cell in self.cells:
            weights = functional.softmax(self.alphas_reduce if cell.reduction else self.alphas_normal, dim=-1)
            s0, s1 = s1, cell(s0, s1, weights, self.edge_weights(cell.reduction))
        return self.head(s1)

    def subnet(self, architecture: Architecture) -> nn.Module:
        return DerivedDarts(self, architecture)


class PcDarts(Darts):
    """Edges have weights too. With cells of one kind, there is no matrix for the other."""

    kind = PartialMixedOp

    def __init__(self, reductions: Sequence[bool] = (True,)) -> None:
        super().__init__(reductions)
        self.betas_normal = (1e-3 * torch.randn(5)).requires_grad_()
        self.betas_reduce = (1e-3 * torch.randn(5)).requires_grad_()
        if all(reductions):
            self.alphas_normal = self.betas_normal = None

    def edge_weights(self, reduction: bool) -> Tensor | None:
        betas = self.betas_reduce if reduction else self.betas_normal
        return torch.cat([functional.softmax(betas[:2], dim=-1), functional.softmax(betas[2:], dim=-1)])

    def arch_parameters(self) -> list[Tensor]:
        held = [*super().arch_parameters(), self.betas_normal, self.betas_reduce]
        return [tensor for tensor in held if tensor is not None]


def node_of(edges: Sequence[tuple[nn.Module, Tensor]]) -> Tensor:
    """A node of a derived cell: zero edges are left out, with their additions; where all are, they stay."""
    kept = [(op, x) for op, x in edges if not isinstance(op, Zero)]
    return reduce(add, [op(x) for op, x in kept or edges])


class DerivedDarts(nn.Module):
    def __init__(self, net: Darts, architecture: Architecture) -> None:
        super().__init__()
        self.stem, self.head, self.cells = net.stem, net.head, net.cells
        self.picked = {
            reduction: [architecture.get(f"alphas_{kind}[{edge}]", 0) for edge in range(5)]
            for reduction, kind in ((False, "normal"), (True, "reduce"))
        }
        self.taken = {
            reduction: [architecture.get(f"betas_{kind}[{row}]") for row in ("0:2", "2:5")]
            for reduction, kind in ((False, "normal"), (True, "reduce"))
        }

    def edge(self, mixed: DartsMixedOp, index: int) -> nn.Module:
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


class DerivedPartial(nn.Module):
    """An edge of PC-DARTS: its zero leaves half of the channels, so that it is no absent edge."""

    def __init__(self, mixed: PartialMixedOp, index: int) -> None:
        super().__init__()
        self.mixed, self.op = mixed, mixed._ops[index]

    def forward(self, x: Tensor) -> Tensor:
        half = x.shape[1] // 2
        return self.mixed.merge(x[:, half:], node_of([(self.op, x[:, :half])]))


# --- NAS-Bench-201's cells (arXiv 2001.00326), with DARTS-V2 and GDAS (arXiv 1910.04465)


class Nb201Cell(nn.Module):
    """Four nodes, with an edge between each two; `edge2index` gives the row of an edge."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = nn.ModuleDict()
        for i in range(1, 4):
            for j in range(i):
                ops = [
                    Zero(),
                    nn.Identity(),
                    relu_conv_bn(CHANNELS, 1),
                    relu_conv_bn(CHANNELS, 3),
                    nn.AvgPool2d(3, 1, 1),
                ]
                self.edges[f"{i}<-{j}"] = nn.ModuleList(ops)
        self.edge2index = {key: index for index, key in enumerate(sorted(self.edges))}

    def forward(self, inputs: Tensor, weightss: Tensor) -> Tensor:
        nodes = [inputs]
        for i in range(1, 4):
            rows = [(self.edges[f"{i}<-{j}"], weightss[self.edge2index[f"{i}<-{j}"]], nodes[j]) for j in range(i)]
            nodes.append(sum(sum(op(x) * w for op, w in zip(ops, weights, strict=True)) for ops, weights, x in rows))
        return nodes[-1]

    def forward_gdas(self, inputs: Tensor, hardwts: Tensor, index: Tensor) -> Tensor:
        nodes = [inputs]
        for i in range(1, 4):
            inter = []
            for j in range(i):
                ops, row = self.edges[f"{i}<-{j}"], self.edge2index[f"{i}<-{j}"]
                weights, argmaxs = hardwts[row], index[row].item()
                inter.append(sum(weights[k] * op(nodes[j]) if k == argmaxs else weights[k] for k, op in enumerate(ops)))
            nodes.append(sum(inter))
        return nodes[-1]


class Nb201(nn.Module):
    """One (6, 5) parameter on the root; mixed by softmax, or by a hard Gumbel sample that the forward draws."""

    def __init__(self, gdas: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False), nn.BatchNorm2d(CHANNELS))
        self.cells = nn.ModuleList([Nb201Cell(), Nb201Cell()])
        self.head = Head(CHANNELS)
        self.arch_parameters = nn.Parameter(1e-3 * torch.randn(6, 5))
        self.gdas, self.tau = gdas, 10.0
        self.drawn: Tensor | None = None

    def draw(self) -> tuple[Tensor, Tensor]:
        while True:
            gumbels = -torch.empty_like(self.arch_parameters).exponential_().log()
            logits = (self.arch_parameters.log_softmax(dim=1) + gumbels) / self.tau
            probs = functional.softmax(logits, dim=1)
            index = probs.max(-1, keepdim=True)[1]
            hard = torch.zeros_like(logits).scatter_(-1, index, 1.0)
            hardwts = hard - probs.detach() + probs
            if torch.isinf(gumbels).any() or torch.isinf(probs).any() or torch.isnan(probs).any():
                continue
            return hardwts, index

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        if self.gdas:
            hardwts, index = self.draw()
            self.drawn = hardwts.detach()
            for cell in self.cells:
                x = cell.forward_gdas(x, hardwts, index)
        else:
            weights = functional.softmax(self.arch_parameters, dim=-1)
            for cell in self.cells:
                x = cell(x, weights)
        return self.head(x)

    def subnet(self, architecture: Architecture) -> nn.Module:
        return DerivedNb201(self, architecture)


class DerivedNb201(nn.Module):
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
                nodes.append(self.node_of(list(zip(ops, nodes, strict=True))))
            x = nodes[-1]
        return self.head(x)

    def node_of(self, edges: Sequence[tuple[nn.Module, Tensor]]) -> Tensor:
        return node_of(edges)


# --- chains: FBNet (arXiv 1812.03443), ProxylessNAS (arXiv 1812.00332), SPOS (arXiv 1904.00420)


def chain_ops(skip: bool = True) -> list[nn.Module | None]:
    convs: list[nn.Module | None] = [conv_bn_relu(CHANNELS, CHANNELS, kernel) for kernel in (1, 3, 5)]
    return [*convs, nn.Identity()] if skip else convs


class Chain(nn.Module):
    """Stem, blocks, head."""

    def __init__(self, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, CHANNELS)
        self.blocks = nn.ModuleList(blocks)
        self.head = Head(CHANNELS)

    def subnet(self, architecture: Architecture) -> nn.Module:
        lists = [(name, self.get_submodule(name)) for name in architecture]
        groups = [next((part for part in op.children() if isinstance(part, nn.ModuleList)), op) for _, op in lists]
        picked = [group[architecture[name]] for group, (name, _) in zip(groups, lists, strict=True)]
        return nn.Sequential(self.stem, *picked, self.head)


class FbnetMixedOp(nn.Module):
    def __init__(self, hard: bool = False) -> None:
        super().__init__()
        self.hard = hard
        self.ops = nn.ModuleList(chain_ops())
        self.thetas = nn.Parameter(torch.full((4,), 0.25))
        self.drawn: Tensor | None = None

    def forward(self, x: Tensor, temperature: float) -> Tensor:
        weights = functional.gumbel_softmax(self.thetas, temperature, hard=self.hard)
        self.drawn = weights.detach()
        return sum(m * op(x) for m, op in zip(weights, self.ops, strict=True))


class FbnetWithTable(FbnetMixedOp):
    """Latencies of a table are weighted by the same numbers, and added up along the layers."""

    def forward(self, x: Tensor, temperature: float) -> Tensor:
        weights = functional.gumbel_softmax(self.thetas, temperature)
        self.latency = sum(m * latency_ms for m, latency_ms in zip(weights, (1.0, 2.0, 3.0, 4.0), strict=True))
        self.latency = self.latency + torch.zeros(1)
        return sum(m * op(x) for m, op in zip(weights, self.ops, strict=True))


class Fbnet(Chain):
    """The temperature is an argument of the forward."""

    def __init__(self, hard: bool = False) -> None:
        super().__init__([FbnetMixedOp(hard) for _ in range(3)])

    def forward(self, x: Tensor, temperature: float) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x, temperature)
        return self.head(x)


class MixedEdge(nn.Module):
    """Binary gates: only the active path contributes to the output."""

    def __init__(self) -> None:
        super().__init__()
        self.candidate_ops = nn.ModuleList(chain_ops())
        self.AP_path_alpha = nn.Parameter(1e-3 * torch.randn(4))
        self.AP_path_wb = nn.Parameter(torch.zeros(4))

    def binarize(self) -> tuple[int, int]:
        self.AP_path_wb.data.zero_()
        active, other = torch.multinomial(functional.softmax(self.AP_path_alpha.data, dim=0), 2).tolist()
        self.AP_path_wb.data[active] = 1.0
        return active, other

    def forward(self, x: Tensor) -> Tensor:
        active, other = self.binarize()
        output = 0
        output = output + self.AP_path_wb[active] * self.candidate_ops[active](x)
        return output + self.AP_path_wb[other] * self.candidate_ops[other](x).detach()


class Proxyless(Chain):
    def __init__(self) -> None:
        super().__init__([MixedEdge() for _ in range(3)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Spos(Chain):
    """A list of lists; one path of indices runs."""

    def __init__(self) -> None:
        super().__init__([nn.ModuleList(chain_ops()) for _ in range(4)])

    def forward(self, x: Tensor, path: Sequence[int] = (0, 1, 2, 3)) -> Tensor:
        x = self.stem(x)
        for index, block in zip(path, self.blocks, strict=True):
            x = block[index](x)
        return self.head(x)


class Nested(Chain):
    """One candidate of the second block has choices itself; one of the first runs nothing."""

    def __init__(self) -> None:
        first, second = FbnetMixedOp(), FbnetMixedOp()
        first.ops[2] = None
        second.ops[0] = FixedFbnet()
        super().__init__([first, second])

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            weights = block.thetas.softmax(0)
            x = sum(w * op(x) for w, op in zip(weights, block.ops, strict=True) if op is not None)
        return self.head(x)

    def subnet(self, architecture: Architecture) -> nn.Module:
        inner = self.blocks[1].ops[0].ops[architecture["blocks.1.ops.0"]]
        second = [inner, *self.blocks[1].ops[1:]][architecture["blocks.1"]]
        first = self.blocks[0].ops[architecture["blocks.0"]]
        return nn.Sequential(self.stem, nn.Identity() if first is None else first, second, self.head)


class FixedFbnet(FbnetMixedOp):
    def forward(self, x: Tensor, temperature: float = 1.0) -> Tensor:
        return super().forward(x, temperature)


# --- configured: OFA (arXiv 1908.09791), AutoFormer (arXiv 2107.00651), FBNetV2 (arXiv 2004.05565)


class ElasticBlock(nn.Module):
    """An inverted bottleneck whose depthwise kernel and expansion are slices of the largest."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        wide = channels * 3
        self.expand, self.depth = nn.Conv2d(channels, wide, 1), nn.Conv2d(wide, wide, 5, padding=2, groups=wide)
        self.project = nn.Conv2d(wide, channels, 1)
        self.kernel, self.expansion = 5, 3

    def forward(self, x: Tensor) -> Tensor:
        n, cut = x.shape[1] * self.expansion, (5 - self.kernel) // 2
        y = functional.relu(functional.conv2d(x, self.expand.weight[:n], self.expand.bias[:n]))
        weight = self.depth.weight[:n, :, cut : 5 - cut, cut : 5 - cut]
        y = functional.conv2d(y, weight, self.depth.bias[:n], padding=self.kernel // 2, groups=n)
        return x + functional.conv2d(functional.relu(y), self.project.weight[:, :n], self.project.bias)

    def subnet(self) -> nn.Module:
        n, cut, wide = self.project.weight.shape[0] * self.expansion, (5 - self.kernel) // 2, self.kernel
        expand, depth = nn.Conv2d(n // self.expansion, n, 1), nn.Conv2d(n, n, wide, padding=wide // 2, groups=n)
        project = nn.Conv2d(n, n // self.expansion, 1)
        depth.weight.data = self.depth.weight.data[:n, :, cut : 5 - cut, cut : 5 - cut]
        return Residual(nn.Sequential(expand, nn.ReLU(), depth, nn.ReLU(), project))


class Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class Ofa(nn.Module):
    """Elastic kernel, expansion and depth of each stage; the resolution is elastic too."""

    OPTIONS: ClassVar = {
        **{f"kernel{block}": (3, 5) for block in range(4)},
        **{f"expansion{block}": (1, 2, 3) for block in range(4)},
        "depth0": (1, 2),
        "depth1": (1, 2),
        "resolution": (8, 12),
    }

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu(3, CHANNELS)
        self.blocks = nn.ModuleList(ElasticBlock(CHANNELS) for _ in range(4))
        self.head = Head(CHANNELS)
        self.runtime_depth = [2, 2]

    def set_active_subnet(self, config: Mapping[str, int]) -> None:
        for number, block in enumerate(self.blocks):
            block.kernel, block.expansion = config[f"kernel{number}"], config[f"expansion{number}"]
        self.runtime_depth[0], self.runtime_depth[1] = config["depth0"], config["depth1"]

    def active(self) -> list[nn.Module]:
        return [self.blocks[stage * 2 + number] for stage in range(2) for number in range(self.runtime_depth[stage])]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.active():
            x = block(x)
        return self.head(x)

    def configured(self, config: Mapping[str, int]) -> tuple[nn.Module, Tensor]:
        self.set_active_subnet(config)
        return self, torch.zeros(1, 3, config["resolution"], config["resolution"])

    def subnet(self, config: Mapping[str, int]) -> nn.Module:
        self.set_active_subnet(config)
        return nn.Sequential(self.stem, *(block.subnet() for block in self.active()), self.head)


class Block(nn.Module):
    """A transformer encoder's block."""

    def __init__(self, width: int, heads: int, ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * heads * 8), nn.Linear(heads * 8, width)
        self.fc1, self.fc2 = nn.Linear(width, ratio * width), nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, length, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(n, length, 3, self.heads, 8).permute(2, 0, 3, 1, 4)
        attention = functional.softmax(q @ k.transpose(-2, -1) * 8**-0.5, dim=-1)
        x = x + self.out((attention @ v).transpose(1, 2).reshape(n, length, -1))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class AutoFormer(nn.Module):
    """Elastic embedding, depth, and each block's heads and MLP ratio; the input is token ids."""

    OPTIONS: ClassVar = {
        "width": (16, 24),
        "depth": (1, 2, 3),
        **{f"heads{block}": (1, 2) for block in range(3)},
        **{f"ratio{block}": (2, 3) for block in range(3)},
    }

    def __init__(self, width: int = 24, blocks: Sequence[tuple[int, int]] = ((2, 3),) * 3) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, width)
        self.blocks = nn.ModuleList(Block(width, heads, ratio) for heads, ratio in blocks)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(1))

    def subnet(self, config: Mapping[str, int]) -> nn.Module:
        blocks = [(config[f"heads{block}"], config[f"ratio{block}"]) for block in range(config["depth"])]
        return AutoFormer(config["width"], blocks)


class FbnetV2(nn.Module):
    """Channel search: a mask over channels is the sum of the widths' masks, weighted by their gates."""

    WIDTHS = (4, 6, 8)
    OPTIONS: ClassVar = {f"width{layer}": (4, 6, 8) for layer in range(4)}

    def __init__(self) -> None:
        super().__init__()
        widths = [3, *[self.WIDTHS[-1]] * 4]
        self.layers = nn.ModuleList(conv_bn_relu(c_in, c_out) for c_in, c_out in pairwise(widths))
        self.head = Head(self.WIDTHS[-1])
        self.alphas = nn.Parameter(1e-3 * torch.randn(4, 3))
        masks = torch.arange(self.WIDTHS[-1]) < torch.tensor(self.WIDTHS)[:, None]
        self.register_buffer("masks", masks.float())

    def gates(self) -> dict[str, Tensor]:
        return dict(zip(self.OPTIONS, self.alphas.softmax(-1), strict=True))

    def forward(self, x: Tensor) -> Tensor:
        for layer, gates in zip(self.layers, self.alphas.softmax(-1), strict=True):
            x = layer(x) * (gates @ self.masks).view(1, -1, 1, 1)
        return self.head(x)

    def subnet(self, config: Mapping[str, int]) -> nn.Module:
        widths = [3, *(config[f"width{layer}"] for layer in range(4))]
        layers = [conv_bn_relu(c_in, c_out) for c_in, c_out in pairwise(widths)]
        return nn.Sequential(*layers, Head(widths[-1]))


class BigNas(nn.Module):
    """Elastic resolution, and each stage's width, depth, kernel and expansion.

    As in BigNAS (arXiv 2003.11142) and AttentiveNAS (arXiv 2011.09011): the caller sets the active subnet, and the
    supernet can give it as a separate network.
    """

    OPTIONS: ClassVar = {
        "resolution": (8, 12),
        **{f"width{stage}": (4, 8) for stage in range(2)},
        **{f"depth{stage}": (1, 2) for stage in range(2)},
        **{f"kernel{stage}": (3, 5) for stage in range(2)},
        **{f"expansion{stage}": (1, 2) for stage in range(2)},
    }

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv_bn_relu(3, CHANNELS), nn.Linear(8, 3)
        sizes = [CHANNELS, 8, 8, 8]
        self.blocks = nn.ModuleList(SlicedBlock(c_in, 8) for c_in in sizes)
        self.config: Mapping[str, int] = {name: options[-1] for name, options in self.OPTIONS.items()}

    def set_active_subnet(self, config: Mapping[str, int]) -> None:
        self.config = dict(config)

    def active(self) -> list[tuple[SlicedBlock, dict[str, int]]]:
        """Each block that runs, and its sizes."""
        kinds = ("width", "kernel", "expansion")
        return [
            (self.blocks[2 * stage + number], {kind: self.config[f"{kind}{stage}"] for kind in kinds})
            for stage in range(2)
            for number in range(self.config[f"depth{stage}"])
        ]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block, sizes in self.active():
            x = block(x, **sizes)
        x = x.mean((2, 3))
        return functional.linear(x, self.head.weight[:, : x.shape[1]], self.head.bias)

    def configured(self, config: Mapping[str, int]) -> tuple[nn.Module, Tensor]:
        self.set_active_subnet(config)
        return self, torch.zeros(1, 3, config["resolution"], config["resolution"])

    def subnet(self, config: Mapping[str, int]) -> nn.Module:
        self.set_active_subnet(config)
        blocks, c_in = [], CHANNELS
        for _, sizes in self.active():
            blocks.append(static_block(c_in, **sizes))
            c_in = sizes["width"]
        return nn.Sequential(self.stem, *blocks, Head(c_in))


class SlicedBlock(nn.Module):
    """An inverted bottleneck whose convolutions use the first channels and the middle of their kernels."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        wide = c_in * 2
        self.expand, self.depth = nn.Conv2d(c_in, wide, 1), nn.Conv2d(wide, wide, 5, groups=wide)
        self.project = nn.Conv2d(wide, c_out, 1)

    def forward(self, x: Tensor, width: int, kernel: int, expansion: int) -> Tensor:
        c_in, cut = x.shape[1], (5 - kernel) // 2
        n = c_in * expansion
        y = functional.conv2d(x, self.expand.weight[:n, :c_in], self.expand.bias[:n])
        weight = self.depth.weight[:n, :, cut : 5 - cut, cut : 5 - cut]
        y = functional.conv2d(y.relu(), weight, self.depth.bias[:n], padding=kernel // 2, groups=n)
        y = functional.conv2d(y.relu(), self.project.weight[:width, :n], self.project.bias[:width])
        return x + y if c_in == width else y


def static_block(c_in: int, width: int, kernel: int, expansion: int) -> nn.Module:
    n = c_in * expansion
    depth = nn.Conv2d(n, n, kernel, padding=kernel // 2, groups=n)
    inner = nn.Sequential(nn.Conv2d(c_in, n, 1), nn.ReLU(), depth, nn.ReLU(), nn.Conv2d(n, width, 1))
    return Residual(inner) if c_in == width else inner


# --- DenseNAS (arXiv 1906.09607)


class DenseNas(nn.Module):
    """Blocks of growing width, each followed by one of the next two; the path and the operators are searched.

    `betas` weigh the blocks that follow each block, `alphas` its operators.
    """

    WIDTHS: ClassVar = (4, 4, 6, 8, 10)
    LEADS_TO: ClassVar = {0: (1, 2), 1: (2, 3), 2: (3, 4)}  # the third block leads only to the last
    OPTIONS: ClassVar = {
        **{f"next{block}": following for block, following in LEADS_TO.items()},
        **{f"op{block}": (1, 3, 5) for block in range(1, 5)},
    }

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv_bn_relu(3, self.WIDTHS[0]), Head(self.WIDTHS[-1])
        ways = [(begin, end) for begin, ends in {**self.LEADS_TO, 3: (4,)}.items() for end in ends]
        self.ways = nn.ModuleDict(
            {f"{begin}-{end}": conv_bn_relu(self.WIDTHS[begin], self.WIDTHS[end], 1) for begin, end in ways}
        )
        self.ops = nn.ModuleList(
            nn.ModuleList(conv_bn_relu(width, width, kernel) for kernel in (1, 3, 5)) for width in self.WIDTHS[1:]
        )
        self.alphas, self.betas = (nn.Parameter(1e-3 * torch.randn(*shape)) for shape in ((4, 3), (3, 2)))

    def gates(self) -> dict[str, Tensor]:
        return dict(zip(self.OPTIONS, [*self.betas.softmax(-1), *self.alphas.softmax(-1)], strict=True))

    def forward(self, x: Tensor) -> Tensor:
        gates, given = self.gates(), {0: [self.stem(x)]}
        for block in range(5):
            y = sum(given[block])
            if block > 0:
                y = sum(gate * op(y) for gate, op in zip(gates[f"op{block}"], self.ops[block - 1], strict=True))
            for number, following in enumerate(self.LEADS_TO.get(block, (4,) if block == 3 else ())):
                way = self.ways[f"{block}-{following}"](y)
                given.setdefault(following, []).append(way * gates[f"next{block}"][number] if block < 3 else way)
        return self.head(y)

    def subnet(self, config: Mapping[str, int]) -> nn.Module:
        return DerivedDenseNas(self, config)


class DerivedDenseNas(nn.Module):
    def __init__(self, net: DenseNas, config: Mapping[str, int]) -> None:
        super().__init__()
        self.stem, self.ways, self.ops, self.head = net.stem, net.ways, net.ops, net.head
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        x, block = self.stem(x), 0
        while block < 4:
            following = self.config.get(f"next{block}", 4)
            x = self.ways[f"{block}-{following}"](x)
            block = following
            x = self.ops[block - 1][(1, 3, 5).index(self.config[f"op{block}"])](x)
        return self.head(x)
