"""Attention of the domain ``com.microsoft``, as the products, reshapes and softmax that it is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import onnx

from latency_nas.graph.onnx.rewrite import NotRewrittenError, Rewrite

__all__ = ["ATTENTION"]

_MASKED = -10_000.0  # what is added where a mask hides a token


def _heads(r: Rewrite, source: str, batch: int, n_heads: int, size: int, *, for_keys: bool = False) -> str:
    """Split features into heads: ``(batch, steps, features)`` -> ``(batch, heads, steps, features of a head)``."""
    split = r.reshape(source, (batch, -1, n_heads, size))
    return r.one("Transpose", split, perm=(0, 2, 3, 1) if for_keys else (0, 2, 1, 3))


def _attend(r: Rewrite, query: str, transposed_key: str, value: str, added: list[str], scale: float) -> str:
    """Softmax of the scaled products of queries and keys, times the values; of each head."""
    scores = r.one("Mul", r.one("MatMul", query, transposed_key), r.number(scale))
    for name in added:
        scores = r.one("Add", scores, name)
    return r.one("MatMul", r.one("Softmax", scores, axis=-1), value)


def _joined(r: Rewrite, heads: str, batch: int, features: int) -> str:
    return r.reshape(r.one("Transpose", heads, perm=(0, 2, 1, 3)), (batch, -1, features))


def _bias_of_mask(r: Rewrite, name: str, rank: int) -> str:
    """What a mask of 0 and 1 adds to the scores."""
    if rank not in (2, 3):
        raise NotRewrittenError
    hidden = r.one("Sub", r.number(1.0), r.one("Cast", name, to=onnx.TensorProto.FLOAT))
    return r.one("Unsqueeze", r.one("Mul", hidden, r.number(_MASKED)), axes=[1, 2] if rank == 2 else [1])


def _causal(r: Rewrite, steps: int) -> str:
    """What hides later tokens: a constant that an engine keeps."""
    ones = r.one("ConstantOfShape", r.integers((1, 1, steps, steps)))
    return r.one("Trilu", ones, upper=1)


def _attention(r: Rewrite) -> None:
    """Rewrite self-attention whose queries, keys and values are one product of the input."""
    r.needs(without=[4], do_rotary=0)
    n_heads = int(r.attrs["num_heads"])
    batch, steps, _ = r.shape(0)
    total = r.shape(1)[1]
    sizes = [int(size) for size in r.attrs.get("qkv_hidden_sizes", (total // 3,) * 3)]
    product = r.one("MatMul", r.name(0), r.name(1))
    product = r.one("Add", product, r.name(2)) if r.name(2) else product
    ends = [0, sizes[0], sizes[0] + sizes[1], sum(sizes)]
    axis = r.integers([2])
    query, key, value = (
        r.one("Slice", product, r.integers([first]), r.integers([end]), axis) for first, end in pairwise(ends)
    )
    added = [_bias_of_mask(r, r.name(3), len(r.shape(3)))] if r.name(3) else []
    added += [r.name(5)] if r.name(5) else []
    added += [_causal(r, steps)] if r.attrs.get("unidirectional") else []
    size = sizes[0] // n_heads
    heads = _attend(
        r, _heads(r, query, batch, n_heads, size), _heads(r, key, batch, n_heads, size, for_keys=True),
        _heads(r, value, batch, n_heads, sizes[2] // n_heads), added, float(r.attrs.get("scale") or size**-0.5),
    )  # fmt: skip
    r.give(_joined(r, heads, batch, sizes[2]))


def _multi_head_attention(r: Rewrite) -> None:
    """Rewrite attention whose queries, keys and values are given, the latter also split into heads or with a past."""
    n_heads = int(r.attrs["num_heads"])
    batch, _, features = r.shape(0)
    size, values = features // n_heads, r.shape(2)[-1]
    is_split = len(r.shape(1)) == 4
    values = values * n_heads if is_split else values
    query, key, value = r.name(0), r.name(1), r.name(2)
    if r.name(3):
        ends = [0, features, 2 * features, 2 * features + values]
        parts = [
            r.one("Slice", r.name(3), r.integers([first]), r.integers([end]), r.integers([0]))
            for first, end in pairwise(ends)
        ]
        query = r.one("Add", query, parts[0])
        key, value = (key, value) if is_split else (r.one("Add", key, parts[1]), r.one("Add", value, parts[2]))
    key = key if is_split else _heads(r, key, batch, n_heads, size)
    value = value if is_split else _heads(r, value, batch, n_heads, values // n_heads)
    if r.name(6) and r.name(7):
        key, value = r.one("Concat", r.name(6), key, axis=2), r.one("Concat", r.name(7), value, axis=2)
    added = [_bias_of_mask(r, r.name(4), len(r.shape(4)))] if r.name(4) else []
    added += [r.name(5)] if r.name(5) else []
    if r.attrs.get("unidirectional"):
        added.append(_causal(r, r.shape(0)[1]))
    turned = r.one("Transpose", key, perm=(0, 1, 3, 2))
    scale = float(r.attrs.get("scale") or size**-0.5)
    heads = _attend(r, _heads(r, query, batch, n_heads, size), turned, value, added, scale)
    r.give(_joined(r, heads, batch, values))
    r.give(key, 1)
    r.give(value, 2)


ATTENTION: Mapping[str, Callable[[Rewrite], None]] = {
    "Attention": _attention,
    "MultiHeadAttention": _multi_head_attention,
}
