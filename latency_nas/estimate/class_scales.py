"""The scale of each class of kernels, fitted to the times of a few whole networks.

A network's price is a sum over classes of kernels: the source table's price t_nc of a class times the class's scale.
So log T_n = log(sum_c exp(a + d_c) t_nc) + error. The logarithm `a` of the common scale is free. The penalty
(d_c / strength)^2 shrinks the classes' deviations d_c to 0, where they keep the ratios of the source. Errors count by
Huber's loss, so that one badly measured network does not decide the result. The strength is the one with the smallest
leave-one-network-out error; with fewer than five networks it is 0: one scale for all classes.

References:
    P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics 35 (1964), 73-101.
    A. E. Hoerl, R. W. Kennard, "Ridge regression: biased estimation for nonorthogonal problems", Technometrics 12
    (1970), 55-67, eq. 2.1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from latency_nas.kernel import Kernel

__all__ = ["CLASSES", "choose_strength", "fit_scales", "kernel_class", "leave_one_out"]

CLASSES = ("pointwise", "3x3", "convolution", "depthwise", "product", "exponential", "memory")
_PRODUCTS = frozenset({"linear", "matmul"})
_EXPONENTIALS = frozenset(
    {"swish", "sigmoid", "softmax", "log_softmax", "gelu", "tanh", "mish", "softplus", "exp", "erf"}
)
_STRENGTHS = (0.0, 0.05, 0.1, 0.2, 0.4)
_MIN_NETWORKS = 5  # fewer networks: one scale for all classes
_NOISE = 0.04  # relative standard deviation of a published or well-measured time
_HUBER = 1.345 * _NOISE  # 95 % efficient under normal errors
_STEPS = 12

_Array = NDArray[np.float64]


def kernel_class(kernel: Kernel) -> str:
    """The one of `CLASSES` that a kernel belongs to: an engine runs each class by code of its own.

    Example:
        >>> kernel_class(Kernel.of("relu", [(1, 8)], [(1, 8)]))
        'memory'
    """
    if kernel.family == "depthwise_conv2d":
        return "depthwise"
    if kernel.op.startswith("conv"):
        size = kernel.attributes.get("kernel")
        if kernel.op == "conv2d" and size == (1, 1):
            return "pointwise"
        winograd = kernel.op == "conv2d" and size == (3, 3) and kernel.attributes["stride"] == (1, 1)
        return "3x3" if winograd else "convolution"
    if kernel.op in _PRODUCTS:
        return "product"
    return "exponential" if kernel.op in _EXPONENTIALS else "memory"


def fit_scales(parts_ms: _Array, measured_ms: _Array, strength: float, start: _Array | None = None) -> _Array:
    """The scale of each class, by Gauss-Newton steps on the penalised Huber loss.

    Several sets of networks are fitted at once: the shapes may begin with further sizes.

    Args:
        parts_ms: Source's price of each class in each network, of shape ``(..., networks, classes)``.
        measured_ms: Time of each network, of shape ``(..., networks)``.
        strength: Standard deviation of the logarithm of the classes' scales about their common one; 0 for one scale.
        start: Logarithms to start from, of the common scale and of the deviations, of shape ``(1 + classes,)``.

    Returns:
        Logarithms of the common scale and of the deviations, of shape ``(..., 1 + classes)``.
    """
    n_classes = parts_ms.shape[-1]
    logs = np.zeros((*measured_ms.shape[:-1], 1 + n_classes))
    if start is None:
        logs[..., 0] = np.median(np.log(measured_ms / parts_ms.sum(axis=-1)), axis=-1)
    else:
        logs += start
    free = 1 + n_classes if strength > 0 else 1
    penalty = np.array([0.0, *[(_NOISE / strength) ** 2 if strength > 0 else 0.0] * n_classes])[:free]
    for _ in range(_STEPS):
        scaled = parts_ms * np.exp(logs[..., None, :1] + logs[..., None, 1:])
        total = scaled.sum(axis=-1, keepdims=True)
        residual = np.log(measured_ms[..., None] / total)
        weight = np.minimum(1.0, _HUBER / np.maximum(np.abs(residual), 1e-12))
        slope = np.concatenate([np.ones_like(total), scaled / total], axis=-1)[..., :free]
        weighted = np.swapaxes(weight * slope, -1, -2)
        gradient = weighted @ residual - (penalty * logs[..., :free])[..., None]
        step = np.linalg.solve(weighted @ slope + np.diag(penalty + 1e-12), gradient)[..., 0]
        logs[..., :free] += step
        if np.abs(step).max() < 1e-9:
            break
    return logs


def _predict(parts_ms: _Array, logs: _Array) -> _Array:
    return np.asarray(parts_ms @ np.exp(logs[0] + logs[1:]))


def _left_out(parts_ms: _Array, measured_ms: _Array, strength: float) -> _Array:
    """Each network's price by scales that were fitted to the others."""
    rows = np.arange(len(measured_ms))
    others = np.array([rows[rows != row] for row in rows])
    start = fit_scales(parts_ms, measured_ms, strength)
    logs = fit_scales(parts_ms[others], measured_ms[others], strength, start)
    return np.array([_predict(parts_ms[row], logs[row]) for row in rows])


def choose_strength(parts_ms: _Array, measured_ms: _Array) -> float:
    """The strength with the smallest leave-one-network-out error; 0 for fewer than five networks.

    Args:
        parts_ms: Source's price of each class in each network, of shape ``(networks, classes)``.
        measured_ms: Time of each network, of shape ``(networks,)``.
    """
    if len(measured_ms) < _MIN_NETWORKS:
        return 0.0

    def error(strength: float) -> float:
        return float(np.abs(np.log(_left_out(parts_ms, measured_ms, strength) / measured_ms)).mean())

    return min(_STRENGTHS, key=error)


def leave_one_out(parts_ms: _Array, measured_ms: _Array) -> _Array:
    """Each network's price when it was left out, both of the fit of the scales and of the choice of their strength.

    Args:
        parts_ms: Source's price of each class in each network, of shape ``(networks, classes)``.
        measured_ms: Time of each network, of shape ``(networks,)``; two networks or more.

    Returns:
        Milliseconds, of shape ``(networks,)``.
    """
    predicted = []
    for row in range(len(measured_ms)):
        others = np.arange(len(measured_ms)) != row
        strength = choose_strength(parts_ms[others], measured_ms[others])
        predicted.append(_predict(parts_ms[row], fit_scales(parts_ms[others], measured_ms[others], strength)))
    return np.array(predicted)
