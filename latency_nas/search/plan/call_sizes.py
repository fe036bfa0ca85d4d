"""Kernels as a structure and the sizes in it: each size depends on fewer choices than the kernels as a whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from latency_nas.kernel import AttrValue, Kernel, Shape
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["Structure", "joined", "split"]


class Structure(NamedTuple):
    """All of a call's kernel that is no integer.

    Args:
        op: Name of the op.
        dtype: Type that the engine computes in.
        inputs: Number of sizes of each input.
        outputs: Number of sizes of each output.
        attrs: Names and values; for integers their number, with True, and -1 for one that stands alone.
        has_params: Whether the number of parameters is known.
    """

    op: str
    dtype: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    attrs: tuple[tuple[str, AttrValue, bool], ...]
    has_params: bool


def split(calls: Sequence[KernelCall]) -> tuple[tuple[Structure, ...], tuple[int, ...]]:
    """The structures of calls, and all integers in them, in order."""
    structures, sizes = list[Structure](), list[int]()
    for call in calls:
        kernel = call.kernel
        attrs = list[tuple[str, AttrValue, bool]]()
        for shape in (*kernel.inputs, *kernel.outputs):
            sizes += shape
        for name, value in kernel.attrs:
            if isinstance(value, tuple):
                attrs.append((name, len(value), True))
                sizes += value
            elif isinstance(value, int):
                attrs.append((name, -1, True))
                sizes.append(value)
            else:
                attrs.append((name, value, False))
        sizes += [] if call.n_params is None else [call.n_params]
        ranks = (tuple(map(len, kernel.inputs)), tuple(map(len, kernel.outputs)))
        structures.append(Structure(kernel.op, kernel.dtype, *ranks, tuple(attrs), call.n_params is not None))
    return tuple(structures), tuple(sizes)


def joined(structures: Sequence[Structure], sizes: Sequence[int]) -> list[KernelCall]:
    """The calls that `split` took apart, without their names.

    Raises:
        KernelError: if the sizes do not fit each other.
    """
    rest = iter(sizes)
    return [_call(structure, rest) for structure in structures]


def _call(structure: Structure, sizes: Iterator[int]) -> KernelCall:
    def some(n: int) -> Shape:
        return tuple([next(sizes) for _ in range(n)])

    kernel = Kernel(
        op=structure.op,
        inputs=tuple([some(rank) for rank in structure.inputs]),
        outputs=tuple([some(rank) for rank in structure.outputs]),
        attrs=tuple([
            (name, value if not is_size else next(sizes) if value == -1 else some(int(value)))  # type: ignore[arg-type]
            for name, value, is_size in structure.attrs
        ]),
        dtype=structure.dtype,
    )  # fmt: skip
    return KernelCall(kernel=kernel, layer="", nodes=(), n_params=next(sizes) if structure.has_params else None)
