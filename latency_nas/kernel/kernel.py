"""`Kernel`: a unit of work that an engine runs after fusion, and its canonical text key."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache

from latency_nas.errors import KernelError, short_repr
from latency_nas.kernel.vocabulary import DTYPES, MIN_RANKS, OPS, SPATIAL_AXES

__all__ = ["AttrValue", "Kernel", "Shape", "shared_kernel"]

Shape = tuple[int, ...]
AttrValue = int | float | str | tuple[int, ...]

_LARGEST, _MAX_SIZES, _HUGE = 2**31, 8, 2**63
_MAX_SHOWN = 2000  # characters of a key in a message
_WINDOW = {"kernel": 1, "stride": 1, "dilation": 1, "pad": 2}  # attribute -> number of values for each spatial axis

_NAME = re.compile(r"[A-Za-z_][\w.:/+-]*")
_INT = re.compile(r"-?\d+")
_FLOAT = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_SHAPES = r"(?: \[[-\d,]*\])*"
_KEY = re.compile(
    rf"(?P<op>\S+)(?P<inputs>{_SHAPES}) ->(?P<outputs>{_SHAPES})(?P<attrs>(?: [^\s=]+=\S+)*) dtype=(?P<dtype>\w+)"
)


def _format(value: AttrValue) -> str:
    if isinstance(value, tuple):
        return "[" + ",".join(map(str, value)) + "]"
    return repr(value) if isinstance(value, float) else str(value)


def _parse_shape(text: str) -> Shape:
    body = text.strip()[1:-1]
    return tuple(int(part) for part in body.split(",")) if body else ()


def _parse_value(text: str) -> AttrValue:
    if text.startswith("["):
        return _parse_shape(text)
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


def _canonicalize(name: str, value: object) -> AttrValue:
    """Give each value one spelling: 1.0, True and 1 describe the same kernel, so they must give the same key."""
    if type(value) is int and -_HUGE < value < _HUGE:
        return value
    if isinstance(value, list | tuple) and all(isinstance(item, int) and abs(item) < _HUGE for item in value):
        return tuple(map(int, value))
    if (isinstance(value, int) or (isinstance(value, float) and value.is_integer())) and abs(value) < _HUGE:
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise KernelError(
        f"Expected attribute `{name}` to be a finite number, a name or integers, but got {short_repr(value)}."
    )


def _shown(key: str) -> str:
    """A key for messages; one that is far longer than any kernel's is shortened."""
    return repr(key) if len(key) <= _MAX_SHOWN else short_repr(key)


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A unit of work that an engine runs after fusion. Tables, meters and regressors identify their rows by it.

    Two kernels are equal exactly when their keys are equal. `Kernel.parse` is the inverse of `Kernel.key`.

    Args:
        op: Name of the op: one of `OPS`, or the reader's own name of an op that is not listed there (``"aten.roll"``).
        inputs: Shapes of the activations that are read. Weights are not among them.
        outputs: Shapes of the activations that are written.
        attrs: Pairs of ``(name, value)``. Values are integers, floats, names or tuples of integers.
        dtype: Type that the engine computes in, one of ``DTYPES``.

    Raises:
        KernelError: if a field cannot be written into a key, or does not belong to the op.

    Example:
        >>> k = Kernel.of("linear", [(1, 128)], [(1, 10)], bias=True)
        >>> k.key
        'linear [1,128] -> [1,10] bias=1 dtype=fp32'
        >>> Kernel.parse(k.key) == k
        True
    """

    op: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    attrs: tuple[tuple[str, AttrValue], ...] = ()
    dtype: str = "fp32"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.op):
            raise KernelError(f"Expected `op` to be a name such as 'conv2d', but got {self.op!r}.")
        if self.dtype not in DTYPES:
            raise KernelError(f"Expected `dtype` to be one of {', '.join(DTYPES)}, but got {self.dtype!r}.")
        for side in ("inputs", "outputs"):
            object.__setattr__(self, side, tuple(self._sizes(shape) for shape in getattr(self, side)))
        self._check_names()
        attrs = tuple(sorted((name, _canonicalize(name, value)) for name, value in self.attrs))
        object.__setattr__(self, "attrs", attrs)
        if self.op in SPATIAL_AXES:
            self._check_shapes()
        if self.op in MIN_RANKS:
            self._check_ranks()

    def _sizes(self, shape: Shape) -> Shape:
        """The shape as a tuple of plain integers, checked."""
        if len(shape) > _MAX_SIZES:
            raise KernelError(f"Expected at most {_MAX_SIZES} sizes in a shape of {self.op}, but got {len(shape)}.")
        # The usual case first: this runs for each shape of each kernel of each architecture that a search prices.
        if {*map(type, shape)} == {int} and min(shape) >= 0 and max(shape) <= _LARGEST:
            return tuple(shape)
        if not all(isinstance(size, int) and 0 <= size <= _LARGEST for size in shape):
            raise KernelError(
                f"Expected sizes of {self.op} to be integers from 0 to 2^31, but got {short_repr(shape)}."
            )
        return tuple(map(int, shape))

    def _check_names(self) -> None:
        names = [name for name, _ in self.attrs]
        for name in names:
            if not name.isidentifier() or name == "dtype":
                raise KernelError(f"Expected attributes of {self.op} to be named by identifiers, but got {name!r}.")
            if names.count(name) > 1:
                raise KernelError(f"Expected each attribute of {self.op} once, but got `{name}` again.")
        required, optional = OPS.get(self.op, ((), tuple(names)))
        unknown = [name for name in names if name not in required + optional]
        missing = [name for name in required if name not in names]
        if unknown or missing:
            raise KernelError(
                f"Expected the attributes of {self.op} to be {', '.join(required + optional) or 'none'}, "
                f"but {', '.join(missing) or 'none'} is missing and {', '.join(unknown) or 'none'} does not belong."
            )

    def _check_ranks(self) -> None:
        """Check the ranks of the other ops whose work `cost` computes from their shapes."""
        min_rank = MIN_RANKS[self.op]
        if not self.inputs or not self.outputs or min(len(self.inputs[0]), len(self.outputs[0])) < min_rank:
            shapes = f"{self.inputs} -> {self.outputs}"
            raise KernelError(
                f"Expected {self.op} to have an input and an output of {min_rank} sizes or more, but got {shapes}."
            )
        attributes = dict(self.attrs)
        for name in ("hidden", "directions", "projection"):
            size = attributes.get(name, 1)
            if not isinstance(size, int) or size < 1:
                raise KernelError(
                    f"Expected `{name}` of {self.op} to be a positive integer, but got {short_repr(size)}."
                )
        axis, rank = attributes.get("axis", 0), len(self.inputs[0])
        if not isinstance(axis, int) or not 0 <= axis < rank:
            raise KernelError(
                f"Expected `axis` of {self.op} to be an integer from 0 to {rank - 1}, but got {short_repr(axis)}."
            )

    def _check_shapes(self) -> None:
        """Check the shapes and windows of convolutions and poolings: `cost` computes their work from them."""
        attributes, rank = dict(self.attrs), SPATIAL_AXES[self.op] + 2
        if len(self.inputs) != 1 or len(self.outputs) != 1 or {len(*self.inputs), len(*self.outputs)} != {rank}:
            shapes = f"{self.inputs} -> {self.outputs}"
            raise KernelError(f"Expected {self.op} to have one input and one output of {rank} sizes, but got {shapes}.")
        for name, n_for_each_axis in _WINDOW.items():
            n_values = n_for_each_axis * SPATIAL_AXES[self.op]
            value = attributes.get(name, (1,) * n_values)
            if not isinstance(value, tuple) or len(value) != n_values:
                raise KernelError(
                    f"Expected `{name}` of {self.op} to be {n_values} integers, but got {short_repr(value)}."
                )
        group = attributes.get("group", 1)
        if not isinstance(group, int) or group < 1 or self.inputs[0][1] % group or self.outputs[0][1] % group:
            raise KernelError(
                f"Expected `group` of {self.op} to divide its {self.inputs[0][1]} and {self.outputs[0][1]} channels, "
                f"but got {short_repr(group)}."
            )

    @classmethod
    def of(
        cls,
        op: str,
        inputs: list[Shape] | tuple[Shape, ...],
        outputs: list[Shape] | tuple[Shape, ...],
        *,
        dtype: str = "fp32",
        **attrs: object,
    ) -> Kernel:
        """Make a kernel; its attributes are keyword arguments."""
        shapes = [tuple(tuple(shape) for shape in group) for group in (inputs, outputs)]
        return cls(op=op, inputs=shapes[0], outputs=shapes[1], attrs=tuple(attrs.items()), dtype=dtype)  # type: ignore[arg-type]

    @classmethod
    def parse(cls, key: str) -> Kernel:
        """Read a key that `Kernel.key` wrote.

        Raises:
            KernelError: if the text is not such a key.
        """
        match = _KEY.fullmatch(key)
        if match is None:
            raise KernelError(
                f"Expected a kernel key such as 'linear [1,128] -> [1,10] bias=1 dtype=fp32', but got {_shown(key)}."
            )
        try:
            shapes = [tuple(map(_parse_shape, match[side].split())) for side in ("inputs", "outputs")]
            pairs = (pair.split("=", 1) for pair in match["attrs"].split())
            attrs = tuple((name, _parse_value(value)) for name, value in pairs)
        except ValueError as error:
            raise KernelError(f"Expected integers in the brackets of the kernel key, but got {_shown(key)}.") from error
        kernel = cls(op=match["op"], inputs=shapes[0], outputs=shapes[1], attrs=attrs, dtype=match["dtype"])
        if kernel.key != key:
            raise KernelError(f"Expected a canonical kernel key, {kernel.key!r}, but got {key!r}.")
        return kernel

    @cached_property
    def key(self) -> str:
        """The canonical text: ``op inputs -> outputs attributes dtype``."""
        shapes = [_format(shape) for shape in self.inputs], [_format(shape) for shape in self.outputs]
        attrs = [f"{name}={_format(value)}" for name, value in self.attrs]
        return " ".join([self.op, *shapes[0], "->", *shapes[1], *attrs, f"dtype={self.dtype}"])

    def __str__(self) -> str:
        return self.key

    @cached_property
    def attributes(self) -> Mapping[str, AttrValue]:
        """The attributes by name."""
        return dict(self.attrs)

    def without(self, names: tuple[str, ...]) -> Kernel:
        """The same kernel without the attributes in `names`, such as those that a table does not record."""
        kept = tuple(pair for pair in self.attrs if pair[0] not in names)
        if len(kept) == len(self.attrs):
            return self
        return Kernel(op=self.op, inputs=self.inputs, outputs=self.outputs, attrs=kept, dtype=self.dtype)

    @property
    def family(self) -> str:
        """The family of kernels that one regressor covers: ``depthwise_conv2d``, otherwise the name of the op."""
        if self.op == "conv2d" and self.attributes["group"] == self.inputs[0][1] > 1:
            return "depthwise_conv2d"
        return self.op


@lru_cache(maxsize=16_384)  # a search fuses thousands of networks that are made of the same few hundred kernels
def shared_kernel(
    op: str,
    inputs: tuple[Shape, ...],
    outputs: tuple[Shape, ...],
    attrs: tuple[tuple[str, AttrValue], ...],
    dtype: str,
) -> Kernel:
    """A `Kernel` of these fields from a cache: equal fields are checked once and give the same object.

    Raises:
        KernelError: as `Kernel`.

    Example:
        >>> shape = ((1, 8, 4, 4),)
        >>> shared_kernel("relu", shape, shape, (), "fp32") is shared_kernel("relu", shape, shape, (), "fp32")
        True
    """
    return Kernel(op=op, inputs=inputs, outputs=outputs, attrs=attrs, dtype=dtype)
