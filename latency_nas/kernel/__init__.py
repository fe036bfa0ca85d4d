"""Kernels: what an engine runs after fusion."""

from latency_nas.kernel.cost import is_known, is_memory_bound, n_bytes, n_flops, n_macs, n_params
from latency_nas.kernel.kernel import AttrValue, Kernel, Shape, shared_kernel
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.kernel.quantity import LATENCY, QUANTITIES, Quantity
from latency_nas.kernel.vocabulary import DTYPES, OPS, WITH_SIDE_OUTPUTS

__all__ = [
    "DTYPES",
    "LATENCY",
    "OPS",
    "QUANTITIES",
    "WITH_SIDE_OUTPUTS",
    "AttrValue",
    "Kernel",
    "KernelCall",
    "Quantity",
    "Shape",
    "is_known",
    "is_memory_bound",
    "n_bytes",
    "n_flops",
    "n_macs",
    "n_params",
    "shared_kernel",
]
