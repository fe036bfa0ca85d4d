"""Reads ONNX's ops with weights or windows: convolutions, products, pools."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from latency_nas.errors import InputMismatchError
from latency_nas.graph.onnx.call import Attrs, Call, Step
from latency_nas.kernel import Shape

__all__ = ["LAYERS"]


def _window(call: Call, kernel: Shape, *, transposed: bool = False) -> Attrs:
    """Kernel, stride, dilation and padding. The padding is computed where the node only says that the size is kept."""
    n_axes, get = len(kernel), call.attrs.get
    stride, dilation = tuple(get("strides", (1,) * n_axes)), tuple(get("dilations", (1,) * n_axes))
    pad = tuple(get("pads", (0,) * 2 * n_axes))
    auto, fixed = get("auto_pad", "NOTSET"), get("output_shape")
    if auto in {"SAME_UPPER", "SAME_LOWER"} or fixed:
        source, target = call.shape()[2:], call.outputs[0][2:]
        large, small = (target, source) if transposed else (source, target)
        extra = tuple(call.attrs.get("output_padding", (0,) * n_axes)) if transposed else (0,) * n_axes
        total = [
            max(0, (n - 1) * s + (k - 1) * d + 1 + e - m)
            for n, s, k, d, e, m in zip(small, stride, kernel, dilation, extra, large, strict=True)
        ]
        smaller, larger = [size // 2 for size in total], [size - size // 2 for size in total]
        pad = (*larger, *smaller) if auto == "SAME_LOWER" else (*smaller, *larger)
    return {"kernel": kernel, "stride": stride, "dilation": dilation, "pad": pad}


# op -> positions of weights and bias
_PLACES: dict[str, tuple[int, int | None]] = {"QLinearConv": (3, 8), "ConvInteger": (1, None)}


def _check_width(given: int, taken: int) -> None:
    if given != taken:
        raise InputMismatchError(f"its weights take {taken} channels and it is given {given}")


def _conv(call: Call) -> Step:
    group, (weight, bias) = int(call.attrs.get("group", 1)), _PLACES.get(call.op, (1, 2))
    kernel = call.shape(weight)[2:]
    transposed = call.op == "ConvTranspose"
    _check_width(call.shape()[1], call.shape(weight)[0 if transposed else 1] * (1 if transposed else group))
    attrs = _window(call, kernel, transposed=transposed)
    attrs |= {"group": group, "bias": int(bias is not None and call.has(bias))}
    if transposed:
        attrs["output_pad"] = tuple(call.attrs.get("output_padding", (0,) * len(kernel)))
    inputs = (0, 1) if call.op == "ConvInteger" else None  # the zero points are part of the kernel
    return Step(f"conv{'_transpose' if transposed else ''}{len(kernel)}d", attrs, inputs)


def _pool(call: Call) -> Step:
    kind = "max" if "Max" in call.op else "avg"
    spatial = call.shape()[2:]
    if call.op.startswith("Global"):
        ones: Attrs = {"stride": (1,) * len(spatial), "pad": (0,) * 2 * len(spatial)}
        return Step(f"pool{len(spatial)}d", {"type": kind, "kernel": spatial, **ones, "global": 1})
    attrs = _window(call, tuple(call.attrs["kernel_shape"]))
    if set(attrs["dilation"]) == {1}:  # type: ignore[arg-type]
        del attrs["dilation"]
    if call.attrs.get("ceil_mode"):
        attrs["ceil"] = 1
    return Step(f"pool{len(spatial)}d", {"type": kind, **attrs})


def _matmul(call: Call) -> Step | list[Step]:
    """Read a product: linear if weights are a matrix on the right, a matmul of one input if a factor is constant."""
    left, right = (0, 3) if call.op == "QLinearMatMul" else (0, 1)
    read = (0, 1) if call.op == "MatMulInteger" else None  # the zero points are part of the kernel
    ranks = len(call.shape(left)), len(call.shape(right))
    if ranks[0] < 2 or ranks[1] < 1:
        return Step(f"onnx.{call.op}", {})
    if ranks[1] == 1:  # a vector, as a matrix of one column
        column = (*call.outputs[0], 1)
        return [Step("linear" if call.constant(right) else "matmul", {"bias": 0} if call.constant(right) else {}, read,
                     column), Step("reshape", {})]  # fmt: skip
    if call.constant(left) and call.constant(right):
        raise ValueError("both of its factors are constants")
    if call.constant(right):
        _check_width(call.shape(left)[-1], call.shape(right)[-2])
        return Step("linear", {"bias": 0}, read) if ranks[1] == 2 else Step("matmul", {"constant": "right"}, read)
    return Step("matmul", {}, read)


def _gemm(call: Call) -> list[Step]:
    """Read a product of matrices and the addition of a bias, with a transposition of the first matrix if it asks so."""
    _check_width(
        call.shape()[-2 if call.attrs.get("transA") else -1], call.shape(1)[-1 if call.attrs.get("transB") else -2]
    )
    if call.constant(0) and call.constant(1):  # the product is known before the model runs
        return [Step("add", {}, (0, 2))]
    n_given, has_bias = sum(shape is not None for shape in call.shapes), call.has(2)
    before = [Step("transpose", {"perm": (1, 0)}, (0,), call.shape()[::-1])] if call.attrs.get("transA") else []
    left = n_given if before else 0  # what a step makes is counted after the inputs
    if call.constant(1) and (not has_bias or call.constant(2)):
        return [*before, Step("linear", {"bias": int(has_bias)}, (left, *range(1, n_given)))]
    attrs: Attrs = {"bias": 0} if call.constant(1) else {}
    product = Step("linear" if call.constant(1) else "matmul", attrs, (left, 1), call.outputs[0])
    return [*before, product, *([Step("add", {}, (n_given + len(before), 2))] if has_bias else [])]


LAYERS: Mapping[str, Callable[[Call], Step | list[Step]]] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "QLinearConv", "ConvInteger"), _conv),
    **dict.fromkeys(("MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool"), _pool),
    **dict.fromkeys(("MatMul", "QLinearMatMul", "MatMulInteger"), _matmul),
    "Gemm": _gemm,
}
