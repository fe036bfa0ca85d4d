"""ONNX ops that are read as the ops that they are made of: of ONNX itself, and of the domain ``com.microsoft``.

ONNX Runtime writes the latter when it optimises or quantises a model. An op of this domain that is not in the tables,
or that has a form which is not known, keeps its own name, and has no price.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import onnx

from latency_nas.graph.onnx.attention import ATTENTION
from latency_nas.graph.onnx.einsum import rewrite_einsum
from latency_nas.graph.onnx.model import STANDARD, OnnxModel, take_parameters
from latency_nas.graph.onnx.rewrite import NotRewrittenError, Rewrite

__all__ = ["is_composite", "rewritten", "take_parameters_of"]

_MICROSOFT_DOMAIN = "com.microsoft"

# op of com.microsoft that is the standard one -> positions of its inputs; None for all
_SAME: dict[str, tuple[int, ...] | None] = {
    "Gelu": None, "Trilu": None, "GridSample": None, "Pad": None, "QuantizeLinear": None, "DequantizeLinear": None,
    "QLinearAdd": (0, 3), "QLinearMul": (0, 3), "QLinearSigmoid": (0,), "QLinearLeakyRelu": (0,),
    "QLinearSoftmax": (0,), "QLinearAveragePool": (0,), "QLinearGlobalAveragePool": (0,), "QLinearReduceMean": (0,),
    "QLinearWhere": (0, 1, 4), "QLinearConv": None,
}  # fmt: skip


def _same(r: Rewrite) -> None:
    """Rewrite to the standard op. A quantised one has its type: its scales and zero points are part of the kernel."""
    r.needs(channels_last=0)
    positions = _SAME[r.op]
    standard = r.op if positions is None else r.op.removeprefix("QLinear")
    inputs = r.names() if positions is None else [r.name(position) for position in positions]
    attrs = {name: value for name, value in r.attrs.items() if name not in ("channels_last", "opset")}
    r.give(r.one(standard, *inputs, **attrs))


def _quantised_concat(r: Rewrite) -> None:
    r.give(r.one("Concat", *r.names()[2::3], axis=r.attrs["axis"]))


def _quantised_gemm(r: Rewrite) -> None:
    """Rewrite to a product of integers; without a scale of the output it is not quantised again."""
    r.needs(transA=0)
    bias = [r.name(6)] if r.name(6) else []
    product = r.one("Gemm", r.name(0), r.name(3), *bias, transB=r.attrs.get("transB", 0))
    r.give(product if r.name(7) else r.one("Cast", product, to=onnx.TensorProto.FLOAT))


def _integer_product(r: Rewrite) -> None:
    """Rewrite a product of integers whose result is scaled to floats."""
    _scaled_product(r, r.name(0), r.name(1), r.name(6))


def _dynamic_product(r: Rewrite) -> None:
    """Rewrite a product of floats, which are quantised first, and integers."""
    quantised, _, _ = r.add("DynamicQuantizeLinear", [r.name(0)], n_outputs=3)
    _scaled_product(r, quantised, r.name(1), r.name(4))


def _scaled_product(r: Rewrite, left: str, right: str, bias: str) -> None:
    product = r.one("Cast", r.one("MatMulInteger", left, right), to=onnx.TensorProto.FLOAT)
    r.give(r.one("Add", product, bias) if bias else product)


def _fused_conv(r: Rewrite) -> None:
    made = r.one("Conv", *filter(None, r.names()[:3]), **_window(r))
    r.give(r.activate(r.one("Add", made, r.name(3)) if r.name(3) else made))


def _window(r: Rewrite) -> dict[str, object]:
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    return {name: r.attrs[name] for name in names if name in r.attrs}


def _nhwc_conv(r: Rewrite) -> None:
    """Rewrite a convolution of channels that come last to one between two transpositions."""
    channels, weight, group = r.shape(0)[-1], r.shape(1), int(r.attrs.get("group", 1))
    kernel = r.name(1)
    if weight[1] * group != channels:
        if weight[-1] * group != channels:
            raise NotRewrittenError
        kernel = r.one("Transpose", kernel, perm=(0, 3, 1, 2))
    made = r.one("Conv", r.one("Transpose", r.name(0), perm=(0, 3, 1, 2)), kernel, *r.names()[2:3], **_window(r))
    last = r.one("Transpose", made, perm=(0, 2, 3, 1))
    r.give(r.activate(r.one("Add", last, r.name(3)) if r.name(3) else last))


def _fused_matmul(r: Rewrite) -> None:
    r.needs(transBatchA=0, transBatchB=0)
    sides = []
    for position, name in enumerate(("transA", "transB")):
        rank = len(r.shape(position))
        swapped = (*range(rank - 2), rank - 1, rank - 2)
        source = r.name(position)
        sides.append(r.one("Transpose", source, perm=swapped) if r.attrs.get(name) and rank > 1 else source)
    product, alpha = r.one("MatMul", *sides), r.attrs.get("alpha", 1.0)
    r.give(r.activate(product if alpha == 1 else r.one("Mul", product, r.number(alpha))))


def _fused_gemm(r: Rewrite) -> None:
    attrs = {name: r.attrs[name] for name in ("alpha", "beta", "transA", "transB") if name in r.attrs}
    r.give(r.activate(r.one("Gemm", *r.names(), **attrs)))


def _gelu_of_sum(r: Rewrite) -> None:
    r.give(r.one("Gelu", r.one("Add", r.name(0), r.name(1)) if r.name(1) else r.name(0)))


def _quick_gelu(r: Rewrite) -> None:
    """Rewrite to x * sigmoid(alpha * x)."""
    gate = r.one("Sigmoid", r.one("Mul", r.name(0), r.number(r.attrs.get("alpha", 1.702))))
    r.give(r.one("Mul", r.name(0), gate))


def _sum(r: Rewrite) -> None:
    made = r.name(0)
    for name in filter(None, r.names()[1:3]):
        made = r.one("Add", made, name)
    r.give(made)


def _skip_norm(r: Rewrite) -> None:
    """Rewrite to the norm of a sum. The fourth output is the sum."""
    simple = r.op == "SkipSimplifiedLayerNormalization"
    bias = r.name(3 if simple else 4)
    total = r.one("Add", r.name(0), r.name(1))
    total = r.one("Add", total, bias) if bias else total
    weights = [r.name(2)] if simple else [r.name(2), *filter(None, [r.name(3)])]
    r.give(r.one("RMSNormalization" if simple else "LayerNormalization", total, *weights, axis=-1))
    r.give(total, 3)


def _embed_norm(r: Rewrite) -> None:
    """Rewrite to the norm of the sum of embeddings. The third output is the sum."""
    batch, steps = r.shape(0)
    total = r.one("Gather", r.name(2), r.name(0))
    positions = r.name(8) or r.constant(range(steps))
    total = r.one("Add", total, r.one("Gather", r.name(3), positions))
    if r.name(1) and r.name(4):
        total = r.one("Add", total, r.one("Gather", r.name(4), r.name(1)))
    r.give(r.one("LayerNormalization", total, r.name(5), r.name(6), axis=-1))
    mask = r.name(7)
    r.give(r.one("ReduceSum", mask, axes=[1], keepdims=0) if mask else r.constant([0] * batch), 1)
    r.give(total, 2)


def _reduced(before: tuple[str, ...], after: tuple[str, ...]) -> Callable[[Rewrite], None]:
    """Rewrite to a sum between other ops; ``"square"`` is a product with itself."""

    def rewrite(r: Rewrite) -> None:
        made = r.name(0)
        for op in before:
            made = r.one("Mul", made, made) if op == "square" else r.one(op, made)
        made = r.one("ReduceSum", made, *filter(None, [r.name(1)]), **r.attrs)
        for op in after:
            made = r.one(op, made)
        r.give(made)

    return rewrite


def _lp_norm(r: Rewrite) -> None:
    """Rewrite to the division by the root of a sum of squares, or by a sum of absolute values."""
    squares = r.attrs.get("p", 2) == 2
    parts = r.one("Mul", r.name(0), r.name(0)) if squares else r.one("Abs", r.name(0))
    total = r.one("ReduceSum", parts, axes=[r.attrs.get("axis", -1)], keepdims=1)
    r.give(r.one("Div", r.name(0), r.one("Sqrt", total) if squares else total))


def _mean(r: Rewrite) -> None:
    r.give(r.one("Div", r.one("Sum", *r.names()), r.number(len(r.names()))))


def _mean_variance_norm(r: Rewrite) -> None:
    axes = list(r.attrs.get("axes", (0, 2, 3)))
    centred = r.one("Sub", r.name(0), r.one("ReduceMean", r.name(0), axes=axes, keepdims=1))
    variance = r.one("ReduceMean", r.one("Mul", centred, centred), axes=list(axes), keepdims=1)
    r.give(r.one("Div", centred, r.one("Sqrt", r.one("Add", variance, r.number(1e-9)))))


def _like(r: Rewrite) -> None:
    r.give(r.one("Cast", r.name(0), to=r.type_of(1)))


def _quantised_lstm(r: Rewrite) -> None:
    """Rewrite to an LSTM whose weights are integers. Those of this op are transposed."""
    weights = [r.one("Transpose", r.name(position), perm=(0, 2, 1)) for position in (1, 2)]
    outputs = r.add("LSTM", [r.name(0), *weights, *r.names()[3:8]], n_outputs=3, **r.attrs)
    for position, output in enumerate(outputs):
        r.give(output, position)


_STANDARD: Mapping[str, Callable[[Rewrite], None]] = {
    "ReduceL1": _reduced(("Abs",), ()),
    "ReduceL2": _reduced(("square",), ("Sqrt",)),
    "ReduceSumSquare": _reduced(("square",), ()),
    "ReduceLogSum": _reduced((), ("Log",)),
    "ReduceLogSumExp": _reduced(("Exp",), ("Log",)),
    "LpNormalization": _lp_norm,
    "Mean": _mean,
    "MeanVarianceNormalization": _mean_variance_norm,
    "CastLike": _like,
    "Einsum": rewrite_einsum,
}

_MICROSOFT: Mapping[str, Callable[[Rewrite], None]] = {
    **dict.fromkeys(_SAME, _same),
    "QLinearConcat": _quantised_concat,
    "QGemm": _quantised_gemm,
    "MatMulIntegerToFloat": _integer_product,
    "DynamicQuantizeMatMul": _dynamic_product,
    "FusedConv": _fused_conv,
    **dict.fromkeys(("NhwcConv", "NhwcFusedConv"), _nhwc_conv),
    **dict.fromkeys(("FusedMatMul", "TransposeMatMul"), _fused_matmul),
    "FusedGemm": _fused_gemm,
    **dict.fromkeys(("FastGelu", "BiasGelu"), _gelu_of_sum),
    "QuickGelu": _quick_gelu,
    "BiasAdd": _sum,
    **dict.fromkeys(("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"), _skip_norm),
    "EmbedLayerNormalization": _embed_norm,
    "DynamicQuantizeLSTM": _quantised_lstm,
    **ATTENTION,
}


# domain -> type of a node -> its rule
_RULES = {_MICROSOFT_DOMAIN: _MICROSOFT, **dict.fromkeys(STANDARD, _STANDARD)}


def _rule(node: onnx.NodeProto) -> Callable[[Rewrite], None] | None:
    rules = _RULES.get(node.domain)
    return rules.get(node.op_type) if rules else None


def is_composite(node: onnx.NodeProto) -> bool:
    """Whether a node can be read as nodes of other ops."""
    return _rule(node) is not None


def take_parameters_of(model: OnnxModel, nodes: Iterable[onnx.NodeProto]) -> None:
    """Record the parameters that nodes read. Those of a composite follow from the nodes that it is made of."""
    take_parameters(model, [node for node in nodes if not is_composite(node)])


def rewritten(model: OnnxModel, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
    """The nodes that compute what a node does; None if it stays, since its form or a shape is not known."""
    rule = _rule(node)
    if rule is None:
        return None
    result = Rewrite(model, node)
    try:
        rule(result)
        result.take()
    except (
        NotRewrittenError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
    ):  # the latter where inputs or attributes do not fit
        return None
    take_parameters(model, result.nodes)
    return result.nodes
