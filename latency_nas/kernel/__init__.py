"""Kernels: what an engine runs after fusion."""

from latency_nas.kernel.cost import n_bytes, n_flops, n_macs, n_params
from latency_nas.kernel.kernel import OPS, AttrValue, Kernel, Shape

__all__ = ["OPS", "AttrValue", "Kernel", "Shape", "n_bytes", "n_flops", "n_macs", "n_params"]
