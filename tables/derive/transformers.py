"""Transformers of the sizes that phones run: vision, text encoder, and decoder."""

from __future__ import annotations

from itertools import starmap

import torch
from torch import Tensor, nn
from torch.nn import functional

from latency_nas.kernel import Kernel

__all__ = ["Transformer", "activations", "transformers"]

Transformer = tuple[nn.Module, tuple[int, ...]]

_DEPTH = 2


class _Attention(nn.Module):
    """Attention over heads (arXiv 1706.03762, eq. 1), with rotary positions (arXiv 2104.09864) where they are given."""

    def __init__(self, width: int, n_heads: int, *, bias: bool = True, causal: bool = False) -> None:
        super().__init__()
        self.n_heads, self.causal = n_heads, causal
        self.q, self.k, self.v, self.out = (nn.Linear(width, width, bias=bias) for _ in range(4))

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor] | None = None) -> Tensor:
        n, steps, width = x.shape
        q, k, v = (each(x).reshape(n, steps, self.n_heads, -1).transpose(1, 2) for each in (self.q, self.k, self.v))
        if angles is not None:
            q, k = (_rotated(each, *angles) for each in (q, k))
        attended = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(attended.transpose(1, 2).reshape(n, steps, width))


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return x * cosine + torch.cat([-second, first], -1) * sine


class _Block(nn.Module):
    """Pre-norm block with GELU (arXiv 2010.11929, eq. 2 and 3)."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = _Attention(width, n_heads)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        return x + self.feed_forward(self.second(x))


class _GatedBlock(nn.Module):
    """Pre-norm block with RMSNorm (arXiv 1910.07467) and SwiGLU (arXiv 2002.05202, eq. 6)."""

    def __init__(self, width: int, hidden: int, n_heads: int) -> None:
        super().__init__()
        self.first, self.second = nn.RMSNorm(width), nn.RMSNorm(width)
        self.attention = _Attention(width, n_heads, bias=False, causal=True)
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.attention(self.first(x), angles)
        normed = self.second(x)
        return x + self.down(functional.silu(self.gate(normed)) * self.up(normed))


class _Vit(nn.Module):
    def __init__(self, width: int, n_heads: int, depth: int, size: int = 224, patch: int = 16) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (size // patch) ** 2 + 1, width))
        self.blocks = nn.Sequential(*[_Block(width, n_heads) for _ in range(depth)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 1000)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.head(self.norm(self.blocks(x))[:, 0])


class _TextEncoder(nn.Module):
    def __init__(self, width: int, n_heads: int, depth: int, steps: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(1, steps, width))
        self.blocks = nn.Sequential(*[_Block(width, n_heads) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)

    def forward(self, embedded: Tensor) -> Tensor:
        return self.norm(self.blocks(embedded + self.positions))


class _Decoder(nn.Module):
    def __init__(self, width: int, hidden: int, n_heads: int, depth: int, steps: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_GatedBlock(width, hidden, n_heads) for _ in range(depth))
        self.norm = nn.RMSNorm(width)
        size = width // n_heads
        angles = torch.outer(torch.arange(steps).float(), 10000 ** (-torch.arange(0, size, 2).float() / size))
        self.cosine, self.sine = (nn.Buffer(f(torch.cat([angles, angles], -1))) for f in (torch.cos, torch.sin))

    def forward(self, embedded: Tensor) -> Tensor:
        x = embedded
        for block in self.blocks:
            x = block(x, (self.cosine, self.sine))
        return self.norm(x)


def _small(width: int, n_heads: int, size: int, patch: int) -> Transformer:
    return _Vit(width, n_heads, _DEPTH, size, patch), (1, 3, size, size)


def _encoder(width: int, n_heads: int, steps: int) -> Transformer:
    return _TextEncoder(width, n_heads, _DEPTH, steps), (1, steps, width)


def _decoder(width: int, hidden: int, n_heads: int, steps: int) -> Transformer:
    return _Decoder(width, hidden, n_heads, _DEPTH, steps), (1, steps, width)


def transformers() -> list[Transformer]:
    """The transformers, each with the shape of its input: many widths and lengths, two blocks each."""
    return [
        *starmap(_small, ((192, 3, 224, 16), (256, 4, 224, 16), (128, 2, 224, 32), (320, 5, 128, 16), (96, 2, 128, 8))),
        *starmap(_encoder, ((312, 12, 128), (128, 2, 64), (256, 4, 32), (384, 6, 16), (192, 12, 256))),
        *starmap(_decoder, ((256, 688, 4, 64), (128, 344, 4, 128), (384, 1024, 6, 24), (512, 1376, 8, 12))),
    ]


def activations() -> list[Kernel]:
    """Activations of transformers on images, where convolutional networks have them; and RMS norms."""
    sizes = ((16, 112), (24, 56), (48, 28), (96, 14), (200, 28), (320, 7), (672, 14), (960, 7), (1280, 1))
    shapes = [(1, channels, size, size) for channels, size in sizes]
    classes = [(1, n) for n in (10, 100, 365, 1000, 4000)]
    tokens = [(1, n, width) for n, width in ((8, 1024), (16, 128), (32, 256), (48, 64), (64, 512), (196, 192))]
    return [
        *(Kernel.of(op, [shape], [shape]) for op in ("gelu", "swish", "sigmoid", "neg") for shape in shapes),
        *(Kernel.of("softmax", [shape], [shape], axis=1) for shape in classes),
        *(Kernel.of("rms_norm", [shape], [shape]) for shape in tokens),
    ]
