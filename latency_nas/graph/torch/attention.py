"""Takes attention apart: torch's ops for whole layers, which scripts call, are the ops of its modules."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["encoder_layer", "multi_head_attention", "scaled_attention"]

_MASKS_KEYS = 1  # kind of a mask that hides keys of a row of the batch; other kinds hide them for each query


def scaled_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0, causal: bool = False,
    *, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor:  # fmt: skip
    """Attention as products and a softmax. Both factors are scaled by the root, so half precision does not overflow."""
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = (x.repeat_interleave(repeats, -3) for x in (key, value))
    root = math.sqrt(1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    scores = (query * root) @ (key.transpose(-2, -1) * root)
    if causal:
        mask = torch.zeros(scores.shape[-2:], device=query.device, dtype=query.dtype)
    if mask is not None:
        mask = torch.where(mask, 0.0, -math.inf) if mask.dtype == torch.bool else mask
        scores = scores + mask
    return torch.softmax(scores, -1) @ value


def multi_head_attention(
    query: Tensor, key: Tensor, value: Tensor, width: int, heads: int, weight: Tensor, bias: Tensor,
    out_weight: Tensor, out_bias: Tensor, mask: Tensor | None = None, need_weights: bool = True, average: bool = True,
    mask_kind: int | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``_native_multi_head_attention`` as `torch.nn.MultiheadAttention` computes it for the batch first."""
    given = {id(x): x for x in (query, key, value)}  # in self-attention all are one
    steps_first = {which: x.transpose(1, 0) for which, x in given.items()}
    first, second, third = (steps_first[id(x)] for x in (query, key, value))
    hides_keys = mask_kind == _MASKS_KEYS
    result, weights = functional.multi_head_attention_forward(
        first, second, third, width, heads, weight, bias, None, None, False, 0.0, out_weight, out_bias, False,
        mask if hides_keys else None, need_weights, None if hides_keys else _of_heads(mask),
        average_attn_weights=average,
    )  # fmt: skip
    return result.transpose(1, 0), query.new_empty(0) if weights is None else weights


def _of_heads(mask: Tensor | None) -> Tensor | None:
    """A mask for each head of each row of the batch as one of three axes."""
    return mask.flatten(0, 1) if mask is not None and mask.dim() == 4 else mask


def encoder_layer(
    x: Tensor, width: int, heads: int, weight: Tensor, bias: Tensor, out_weight: Tensor, out_bias: Tensor,
    use_gelu: bool, norm_first: bool, eps: float, first: Tensor, first_bias: Tensor, second: Tensor,
    second_bias: Tensor, up: Tensor, up_bias: Tensor, down: Tensor, down_bias: Tensor, mask: Tensor | None = None,
    mask_kind: int | None = None,
) -> Tensor:  # fmt: skip
    """``_transformer_encoder_layer_fwd`` as `torch.nn.TransformerEncoderLayer` computes it."""

    def norm(y: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        return functional.layer_norm(y, (width,), scale, shift, eps)

    def attend(y: Tensor) -> Tensor:
        qkv = weight, bias, out_weight, out_bias
        return multi_head_attention(y, y, y, width, heads, *qkv, mask, False, True, mask_kind)[0]

    def feed(y: Tensor) -> Tensor:
        made = functional.linear(y, up, up_bias)
        return functional.linear(functional.gelu(made) if use_gelu else functional.relu(made), down, down_bias)

    if norm_first:
        x = x + attend(norm(x, first, first_bias))
        return x + feed(norm(x, second, second_bias))
    x = norm(x + attend(x), first, first_bias)
    return norm(x + feed(x), second, second_bias)
