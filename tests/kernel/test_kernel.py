"""Kernels and their keys: one text for each kernel, and one kernel for each text."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_nas.errors import KernelError
from latency_nas.kernel import DTYPES, OPS, AttrValue, Kernel, Shape

CONV: dict[str, Any] = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1, 1, 1), "dilation": (1, 1), "group": 1}


def window(n_axes: int) -> dict[str, Any]:
    """The attributes of a convolution over so many axes."""
    each = {"kernel": 3, "stride": 2, "dilation": 1}
    return {**{name: (value,) * n_axes for name, value in each.items()}, "pad": (1,) * 2 * n_axes, "group": 1}


LARGEST, MAX_SIZES, HUGE = 2**31, 8, 2**63
all_sizes = st.integers(0, 4096) | st.integers(0, LARGEST)
shapes = st.lists(all_sizes, max_size=MAX_SIZES).map(tuple)
names = st.from_regex(r"[A-Za-z_][\w.:/+-]{0,8}", fullmatch=True)
identifiers = names.filter(lambda name: name.isidentifier() and name != "dtype")
integers = st.integers(1 - HUGE, HUGE - 1)
floats = st.floats(allow_nan=False, allow_infinity=False)
values: st.SearchStrategy[AttrValue] = st.one_of(
    integers, st.booleans(), floats, names, st.lists(integers, max_size=4).map(tuple)
)


# Ops whose first input and first output must have a minimum rank.
MIN_SIZES = {
    "linear": 1, "matmul": 2, "batch_norm": 2, "layer_norm": 1, "rms_norm": 1, "group_norm": 2, "instance_norm": 2,
    "prelu": 1, "lstm": 3, "gru": 3, "rnn": 3,
}  # fmt: skip
# Ops whose shapes and windows are checked, and their number of spatial axes.
WINDOWED = {f"{op}{n}d": n for op in ("conv", "conv_transpose", "pool") for n in (1, 2, 3)}


def windows(n_axes: int) -> dict[str, st.SearchStrategy[AttrValue]]:
    single, both = st.tuples(*[integers] * n_axes), st.tuples(*[integers] * 2 * n_axes)
    return {"kernel": single, "stride": single, "dilation": single, "pad": both}


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    """Ops of the library with shapes and attributes that belong to them, and foreign ops with any."""
    known = draw(st.booleans())
    op = draw(st.sampled_from(sorted(OPS)) if known else names.filter(lambda name: name not in OPS))
    if known:
        required, optional = OPS[op]
        present = (*required, *draw(st.lists(st.sampled_from(optional), unique=True) if optional else st.just([])))
    else:
        present = tuple(draw(st.lists(identifiers, unique=True, max_size=4)))
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    if op in WINDOWED:
        group, sizes = draw(st.integers(1, 64)), st.integers(0, 4096)
        strategies = windows(WINDOWED[op]) | {"group": st.sampled_from([group, float(group)])}
        inputs, outputs = (
            (draw(st.tuples(sizes, sizes.map(lambda count: count * group), *[sizes] * WINDOWED[op])),) for _ in range(2)
        )
    else:
        strategies = {}
        inputs, outputs = (tuple(draw(st.lists(shapes, max_size=3))) for _ in range(2))
        if op in MIN_SIZES:
            first = st.lists(all_sizes, min_size=MIN_SIZES[op], max_size=MAX_SIZES).map(tuple)
            inputs, outputs = (draw(first), *inputs), (draw(first), *outputs)
            size = st.integers(1, 4096)
            strategies = dict.fromkeys(("hidden", "directions", "projection"), size)
            strategies["axis"] = st.integers(0, len(inputs[0]) - 1)
    attrs = tuple((name, draw(strategies.get(name, values))) for name in draw(st.permutations(present)))
    return Kernel(op=op, inputs=inputs, outputs=outputs, attrs=attrs, dtype=draw(st.sampled_from(list(DTYPES))))


# Few enough values that two draws are often equal, with each spelling of one and of zero among them.
raw_kernels = st.tuples(
    st.sampled_from(["foo", "bar"]),
    st.sampled_from([(), ((),), ((1,),), ((1,), ()), ((1, 1),)]),
    st.sampled_from([(), ((),), ((1,),)]),
    st.dictionaries(
        st.sampled_from("ab"),
        st.sampled_from([0, False, -0.0, 1, True, 1.0, 1.5, "x", "x1", (), (1,), (True,), (1, 1)]),
    ),
    st.sampled_from(["fp32", "int8"]),
)


@given(kernels())
@settings(deadline=None)
def test_parse_is_the_inverse_of_key(kernel: Kernel) -> None:
    parsed = Kernel.parse(kernel.key)
    assert parsed == kernel
    assert hash(parsed) == hash(kernel)
    assert parsed.key == kernel.key == str(kernel)
    assert [type(value) for _, value in parsed.attrs] == [type(value) for _, value in kernel.attrs]


@given(raw_kernels, raw_kernels)
@settings(deadline=None, max_examples=300)
def test_equal_kernels_are_those_with_equal_keys(first: tuple[Any, ...], second: tuple[Any, ...]) -> None:
    one, other = (
        Kernel(op=op, inputs=inputs, outputs=outputs, attrs=tuple(attrs.items()), dtype=dtype)
        for op, inputs, outputs, attrs, dtype in (first, second)
    )
    assert (one == other) == (one.key == other.key) == (first == second)  # Python's own True == 1 == 1.0


@pytest.mark.parametrize(
    ("kernel", "key"),
    [
        (Kernel.of("relu", [()], [()]), "relu [] -> [] dtype=fp32"),
        (Kernel.of("aten.arange", [], [(8,)], dtype="int64"), "aten.arange -> [8] dtype=int64"),
        (Kernel.of("foo", [], []), "foo -> dtype=fp32"),
        (
            Kernel.of("conv2d", [(1, 3, 8, 8)], [(1, 4, 4, 4)], act="relu6", bias=True, **CONV),
            (
                "conv2d [1,3,8,8] -> [1,4,4,4] act=relu6 bias=1 dilation=[1,1] group=1 kernel=[3,3] pad=[1,1,1,1] "
                "stride=[2,2] dtype=fp32"
            ),
        ),
        (
            Kernel.of("foo", [(1, 2), (3,)], [(4,), ()], z=-2, y=[], x=(7,), w=1e-7, v=2.0, u="a.b/c", dtype="bf16"),
            "foo [1,2] [3] -> [4] [] u=a.b/c v=2 w=1e-07 x=[7] y=[] z=-2 dtype=bf16",
        ),
    ],
)
def test_key_as_written_by_hand(kernel: Kernel, key: str) -> None:
    assert kernel.key == key
    assert Kernel.parse(key) == kernel


@pytest.mark.parametrize(
    ("given_key", "canonical"),
    [
        ("relu [01] -> [1] dtype=fp32", "relu [1] -> [1] dtype=fp32"),
        ("relu [٣] -> [3] dtype=fp32", "relu [3] -> [3] dtype=fp32"),
        ("foo -> b=1 a=2 dtype=fp32", "foo -> a=2 b=1 dtype=fp32"),
        ("foo -> a=1.0 dtype=fp32", "foo -> a=1 dtype=fp32"),
        ("foo -> a=5e-1 dtype=fp32", "foo -> a=0.5 dtype=fp32"),
        ("foo -> a=-0 dtype=fp32", "foo -> a=0 dtype=fp32"),
        ("foo -> a=[1,+2] dtype=fp32", "foo -> a=[1,2] dtype=fp32"),
        ("foo -> a=[1 dtype=fp32", "foo -> a=[] dtype=fp32"),
    ],
)
def test_other_spelling_of_a_key_is_refused(given_key: str, canonical: str) -> None:
    with pytest.raises(KernelError) as caught:
        Kernel.parse(given_key)
    assert str(caught.value) == f"Expected a canonical kernel key, {canonical!r}, but got {given_key!r}."


@pytest.mark.parametrize(
    "key",
    [
        "",
        "relu",
        "relu [1] [1] dtype=fp32",
        "relu [1] -> [1]",
        "relu [1]  -> [1] dtype=fp32",
        " relu [1] -> [1] dtype=fp32",
        "relu [1] -> [1] dtype=fp32\n",
        "relu (1,) -> (1,) dtype=fp32",
        "relu [1] -> [1] dtype=fp32 bias=1",
        "relu [1.5] -> [1] dtype=fp32",
        "foo -> flag dtype=fp32",
    ],
)
def test_text_that_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(KernelError) as caught:
        Kernel.parse(key)
    assert str(caught.value) == (
        f"Expected a kernel key such as 'linear [1,128] -> [1,10] bias=1 dtype=fp32', but got {key!r}."
    )


@pytest.mark.parametrize(
    "key", ["relu [1-2] -> [1] dtype=fp32", "relu [,] -> [1] dtype=fp32", "foo -> a=[x] dtype=fp32"]
)
def test_brackets_hold_integers_alone(key: str) -> None:
    with pytest.raises(KernelError) as caught:
        Kernel.parse(key)
    assert str(caught.value) == f"Expected integers in the brackets of the kernel key, but got {key!r}."


@pytest.mark.parametrize(
    ("op", "attrs", "message"),
    [
        (
            "conv2d",
            {"kernel": (1, 1), "pad": (0,) * 4, "stride": (1, 1), "dilation": (1, 1)},
            (
                "Expected the attributes of conv2d to be dilation, group, kernel, pad, stride, act, bias, "
                "but group is missing and none does not belong."
            ),
        ),
        (
            "pool2d",
            {"kernel": (2, 2), "stride": (2, 2), "kind": "max"},
            (
                "Expected the attributes of pool2d to be kernel, pad, stride, type, ceil, dilation, global, "
                "but pad, type is missing and kind does not belong."
            ),
        ),
        (
            "relu",
            {"slope": 0.1},
            "Expected the attributes of relu to be none, but none is missing and slope does not belong.",
        ),
    ],
)
def test_attributes_are_those_of_the_op(op: str, attrs: dict[str, Any], message: str) -> None:
    with pytest.raises(KernelError) as caught:
        Kernel.of(op, [(1, 8, 4, 4)], [(1, 8, 4, 4)], **attrs)
    assert str(caught.value) == message


SIZES = "Expected sizes of foo to be integers from 0 to 2^31"
ATTRIBUTE = "Expected attribute `a` to be a finite number, a name or integers"


@pytest.mark.parametrize("size", [-1, 2.0, None, "N", LARGEST + 1])
def test_sizes_must_be_known(size: object) -> None:
    with pytest.raises(KernelError) as caught:
        Kernel.of("relu", [(1, 8)], [(size, 8)])  # type: ignore[list-item]
    assert str(caught.value) == f"Expected sizes of relu to be integers from 0 to 2^31, but got ({size!r}, 8)."


@pytest.mark.parametrize("size", [0, LARGEST])
def test_smallest_and_largest_size(size: int) -> None:
    assert Kernel.of("relu", [(size,)], []).key == f"relu [{size}] -> dtype=fp32"


def test_huge_size_is_refused_shortly() -> None:
    with pytest.raises(KernelError) as caught:
        Kernel.parse(f"relu [{'9' * 4000}] -> dtype=fp32")
    assert str(caught.value).startswith("Expected sizes of relu to be integers from 0 to 2^31, but got (99")
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("shape", "attrs", "what"),
    [
        ((10**5000,), {}, SIZES),
        ((1,), {"a": 10**5000}, ATTRIBUTE),
        ((1,), {"a": (10**5000,)}, ATTRIBUTE),
        ((1,), {"a": [[10**5000]]}, ATTRIBUTE),
    ],
    ids=["size", "attribute", "attributes", "no attribute"],
)
def test_number_that_python_cannot_write_is_refused(shape: Shape, attrs: dict[str, Any], what: str) -> None:
    with pytest.raises(KernelError) as caught:
        Kernel.of("foo", [shape], [], **attrs)
    assert str(caught.value) == f"{what}, but got a value with more digits than can be written."


def test_shape_has_at_most_eight_sizes() -> None:
    full = (1,) * MAX_SIZES
    assert Kernel.of("foo", [full], [full]).inputs == (full,)
    shapes: list[Shape] = [(*full, 1)]
    for inputs, outputs in ((shapes, []), ([], shapes)):
        with pytest.raises(KernelError) as caught:
            Kernel.of("foo", inputs, outputs)
        assert str(caught.value) == "Expected at most 8 sizes in a shape of foo, but got 9."


@pytest.mark.parametrize("value", [HUGE, -HUGE, 2**64, (1, HUGE), (-HUGE,)])
def test_integer_of_an_attribute_has_64_bits(value: object) -> None:
    with pytest.raises(KernelError) as caught:
        Kernel.of("foo", [], [], a=value)
    assert str(caught.value) == f"{ATTRIBUTE}, but got {value!r}."


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (HUGE - 1, "9223372036854775807"),
        (1 - HUGE, "-9223372036854775807"),
        ((HUGE - 1, 1 - HUGE), "[9223372036854775807,-9223372036854775807]"),
        (float(HUGE - 1024), "9223372036854774784"),
        (float(HUGE), "9.223372036854776e+18"),
        (float(-HUGE), "-9.223372036854776e+18"),
        (1e300, "1e+300"),
    ],
)
def test_largest_integers_and_whole_floats_beyond(value: object, text: str) -> None:
    kernel = Kernel.of("foo", [], [], a=value)
    assert kernel.key == f"foo -> a={text} dtype=fp32"
    assert Kernel.parse(kernel.key) == kernel
    assert type(kernel.attributes["a"]) is type(Kernel.parse(kernel.key).attributes["a"])


@pytest.mark.parametrize("op", MIN_SIZES)
@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_op_whose_sizes_are_read_has_enough_of_them(op: str, side: str) -> None:
    min_rank, attrs = MIN_SIZES[op], dict.fromkeys(OPS[op][0], 3)
    enough: list[Shape] = [(3,) * min_rank]
    for other in ([], [(3,) * (min_rank - 1)], [(3,) * (min_rank - 1), (3,) * 4]):
        inputs, outputs = (other, enough) if side == "inputs" else (enough, other)
        with pytest.raises(KernelError) as caught:
            Kernel.of(op, inputs, outputs, **attrs)
        assert str(caught.value) == (
            f"Expected {op} to have an input and an output of {min_rank} sizes or more, "
            f"but got {tuple(inputs)} -> {tuple(outputs)}."
        )
    assert Kernel.of(op, enough, enough, **attrs).family == op


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), None, "", "two words", "1x", (1, 2.5), ((1,),), {"a": 1}, 1j]
)
def test_value_that_no_key_can_hold_is_refused(value: object) -> None:
    with pytest.raises(KernelError) as caught:
        Kernel.of("foo", [], [], a=value)
    assert str(caught.value) == (
        f"Expected attribute `a` to be a finite number, a name or integers, but got {value!r}."
    )


def test_op_and_dtype_must_be_known_names() -> None:
    with pytest.raises(KernelError) as caught:
        Kernel.of("2d conv", [], [])
    assert str(caught.value) == "Expected `op` to be a name such as 'conv2d', but got '2d conv'."
    with pytest.raises(KernelError) as caught:
        Kernel.of("relu", [], [], dtype="fp64")
    assert str(caught.value) == (
        "Expected `dtype` to be one of fp32, fp16, bf16, int8, int64, int32, int16, bool, but got 'fp64'."
    )


@given(st.one_of(st.text(), st.text(alphabet="relu []->,=.-019aBdtypefp32\n")))
@settings(deadline=None, max_examples=300)
def test_parse_of_any_text_gives_its_kernel_or_a_kernel_error(text: str) -> None:
    with contextlib.suppress(KernelError):
        assert Kernel.parse(text).key == text


@given(kernels(), st.data())
@settings(deadline=None)
def test_parse_of_a_damaged_key_gives_its_kernel_or_a_kernel_error(kernel: Kernel, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(kernel.key)))
    end = data.draw(st.integers(start, min(start + 2, len(kernel.key))))
    text = kernel.key[:start] + data.draw(st.text(alphabet="[], =->x1.", max_size=2)) + kernel.key[end:]
    with contextlib.suppress(KernelError):
        assert Kernel.parse(text).key == text


@pytest.mark.parametrize(
    ("op", "channels", "group", "family"),
    [
        ("conv2d", 8, 8, "depthwise_conv2d"),
        ("conv2d", 8, 4, "conv2d"),
        ("conv2d", 8, 1, "conv2d"),
        ("conv2d", 1, 1, "conv2d"),
        ("conv_transpose2d", 8, 8, "conv_transpose2d"),
    ],
)
def test_family_tells_depthwise_from_other_convolutions(op: str, channels: int, group: int, family: str) -> None:
    shape = (1, channels, 4, 4)
    assert Kernel.of(op, [shape], [shape], **{**CONV, "group": group}).family == family


@pytest.mark.parametrize("op", sorted(OPS.keys() - {"conv2d"}))
def test_family_of_every_other_op_is_the_op(op: str) -> None:
    attrs = {name: window(WINDOWED.get(op, 2)).get(name, 8) for name in OPS[op][0]}
    shape = (1, 8, *[4] * WINDOWED.get(op, 2))
    assert Kernel.of(op, [shape], [shape], **attrs).family == op


def test_without_drops_attributes() -> None:
    conv = Kernel.of("conv2d", [(1, 3, 8, 8)], [(1, 4, 4, 4)], act="relu", bias=1, **CONV)
    assert conv.without(("act", "bias")) == Kernel.of("conv2d", [(1, 3, 8, 8)], [(1, 4, 4, 4)], **CONV)
    assert conv.without(("axis",)) is conv
    assert conv.attributes == {**CONV, "act": "relu", "bias": 1}
    with pytest.raises(KernelError) as caught:
        conv.without(("pad",))
    assert str(caught.value) == (
        "Expected the attributes of conv2d to be dilation, group, kernel, pad, stride, act, bias, "
        "but pad is missing and none does not belong."
    )


def test_kernel_cannot_be_changed() -> None:
    kernel = Kernel.of("relu", [(1,)], [(1,)])
    with pytest.raises(dataclasses.FrozenInstanceError):
        kernel.op = "gelu"  # type: ignore[misc]


def test_numpy_float_is_written_as_a_float() -> None:
    assert Kernel.of("foo", [], [], a=np.float64(0.5)).key == "foo -> a=0.5 dtype=fp32"


def test_size_of_true_is_written_as_one() -> None:
    assert Kernel.of("foo", [(True,)], []).key == Kernel.of("foo", [(1,)], []).key


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "foo -> a-zoom=1 dtype=fp32",
            "Expected attributes of foo to be named by identifiers, but got 'a-zoom'.",
        ),
        (
            "relu -> a-zoom=1 dtype=fp32",
            "Expected attributes of relu to be named by identifiers, but got 'a-zoom'.",
        ),
        (
            "foo -> dtype=fp16 dtype=fp32",
            "Expected attributes of foo to be named by identifiers, but got 'dtype'.",
        ),
        ("foo -> zoom=1 zoom=2 dtype=fp32", "Expected each attribute of foo once, but got `zoom` again."),
        ("relu -> zoom=1 zoom=2 dtype=fp32", "Expected each attribute of relu once, but got `zoom` again."),
    ],
)
def test_refused_attribute_is_named_once(key: str, message: str) -> None:
    with pytest.raises(KernelError) as caught:
        Kernel.parse(key)
    assert str(caught.value) == message


@pytest.mark.parametrize("op", [op for op, n_axes in WINDOWED.items() if n_axes == 2])
@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        ([], []),
        ([(5,)], [(5,)]),
        ([(1, 8, 4)], [(1, 8, 4, 4)]),
        ([(1, 8, 4, 4)], [(1, 8, 4, 4, 4)]),
        ([(1, 8, 4, 4)], []),
        ([(1, 8, 4, 4), (1, 8, 4, 4)], [(1, 8, 4, 4)]),
        ([(1, 8, 4, 4)], [(1, 8, 4, 4), (1, 8, 4, 4)]),
    ],
)
def test_windowed_ops_read_one_image_and_write_one(
    op: str, inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]]
) -> None:
    attrs = {name: CONV.get(name, "max") for name in OPS[op][0]}
    with pytest.raises(KernelError) as caught:
        Kernel.of(op, inputs, outputs, **attrs)
    assert str(caught.value) == (
        f"Expected {op} to have one input and one output of 4 sizes, but got {tuple(inputs)} -> {tuple(outputs)}."
    )


@pytest.mark.parametrize(
    ("op", "name", "n_values"),
    [
        (op, name, n_values * n_axes)
        for op, n_axes in WINDOWED.items()
        for name, n_values in (("kernel", 1), ("stride", 1), ("dilation", 1), ("pad", 2))
        if name in OPS[op][0]
    ],
)
@pytest.mark.parametrize("value", [3, "same", (), (3,) * 5, (3,) * 7])
def test_window_has_a_number_for_each_side(op: str, name: str, n_values: int, value: object) -> None:
    attrs = {name: window(WINDOWED[op]).get(name, "max") for name in OPS[op][0]}
    shape = (1, 8, *[4] * WINDOWED[op])
    with pytest.raises(KernelError) as caught:
        Kernel.of(op, [shape], [shape], **attrs | {name: value})
    assert str(caught.value) == f"Expected `{name}` of {op} to be {n_values} integers, but got {value!r}."


@pytest.mark.parametrize("op", ["conv2d", "conv_transpose2d"])
@pytest.mark.parametrize("group", [0, -1, 1.5, "all", (1,), 3, 8, 12])
def test_group_divides_both_numbers_of_channels(op: str, group: object) -> None:
    with pytest.raises(KernelError) as caught:
        Kernel.of(op, [(1, 8, 4, 4)], [(1, 12, 4, 4)], **CONV | {"group": group})
    assert str(caught.value) == f"Expected `group` of {op} to divide its 8 and 12 channels, but got {group!r}."


@pytest.mark.parametrize("axis", [-1, 2, 0.5, "last", (1,)])
def test_axis_of_a_norm_is_one_of_its_axes(axis: object) -> None:
    with pytest.raises(KernelError) as caught:
        Kernel.of("layer_norm", [(1, 8)], [(1, 8)], axis=axis)
    assert str(caught.value) == f"Expected `axis` of layer_norm to be an integer from 0 to 1, but got {axis!r}."


def test_a_long_key_is_refused_at_once() -> None:
    """Where each attribute could be read in two ways, one of 2,000 would never end."""
    with pytest.raises(KernelError):
        Kernel.parse("foo ->" + " a=b=c" * 2000)
