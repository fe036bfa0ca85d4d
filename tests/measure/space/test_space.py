"""Op spaces: MMT's grammar with its traps, our own, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from latency_nas.errors import IllegalOpError, MeasureError, OpSpaceError
from latency_nas.kernel import Kernel
from latency_nas.measure.device.runner import RepetitionOptions
from latency_nas.measure.session.options import SessionOptions
from latency_nas.measure.session.survey import session_seconds, survey_space
from latency_nas.measure.space import Op, read_space
from latency_nas.measure.space.space_file import kernels_yaml, with_batch


def space_of(tmp_path: Path, text: str) -> list[tuple[dict[str, object], tuple[int, ...]]]:
    path = tmp_path / "ops.yaml"
    path.write_text(text)
    return [(dict(item.arguments), item.input_shape) for item in read_space(path).items if isinstance(item, Op)]


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(OpSpaceError) as caught:
        space_of(tmp_path, text)
    return str(caught.value).replace(str(tmp_path / "ops.yaml"), "ops.yaml")


def test_mmts_shapes_go_with_the_first_key_alone(tmp_path: Path) -> None:
    text = """
m:
  A:
    width: [8, 16]
    stride: [1, [2, 1]]
    input_shape: [[1, 8], [1, 16], [1, 99]]
  B: {no_params: true, input_shape: [[1, 2], [3]]}
other: "None"
"""
    assert space_of(tmp_path, text) == [
        ({"width": 8, "stride": 1}, (1, 8)),
        ({"width": 8, "stride": [2, 1]}, (1, 8)),
        ({"width": 16, "stride": 1}, (1, 16)),
        ({"width": 16, "stride": [2, 1]}, (1, 16)),
        ({}, (1, 2)),
        ({}, (3,)),
    ]


def test_mmts_keys_after_the_shape_are_none(tmp_path: Path) -> None:
    text = "m:\n  A: {width: [8], input_shape: [[1, 8]], late: [5, 6]}\n"
    assert space_of(tmp_path, text) == [({"width": 8, "late": None}, (1, 8))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expected ops.yaml to be a mapping of Python modules to classes, but got an empty file."),
        ("[1]", "Expected ops.yaml to be a mapping of Python modules to classes, but got list."),
        ("m: [1]", "ops.yaml: m: Expected a mapping, but got [1]."),
        ("m:\n  A: {w: 3, input_shape: [[1]]}", "ops.yaml: m.A.w: Expected a list, but got 3."),
        ("m:\n  A: {w: [3]}", "ops.yaml: m.A: Expected a key `input_shape` with a list of shapes."),
        (
            "m:\n  A: {w: [3], input_shape: [1, 3]}",
            "ops.yaml: m.A.input_shape.0: Expected a list, but got 1.",
        ),
        (
            "m:\n  A: {w: [3], input_shape: [[1, x]]}",
            "ops.yaml: m.A.input_shape.0.1: Expected an integer, but got 'x'.",
        ),
        (
            "m:\n  A: {w: [3], input_shape: [[1, 0]]}",
            "ops.yaml: m.A.input_shape.0.1: Expected at least 1, but got 0.",
        ),
        (
            "m:\n  A: {w: [3, 4], input_shape: [[1]]}",
            "ops.yaml: m.A.input_shape: Expected a shape for each of the 2 values of `w`, the first key, but got 1.",
        ),
        (
            "m:\n  A: {input_shape: [[1]]}",
            ("ops.yaml: m.A: Expected `input_shape` to follow the parameters that it goes with, but it is first. "
            "For a class without parameters write `no_params: true`."),
        ),
        (
            "m: !!python/object/apply:os.system [true]",
            ("Expected ops.yaml to be YAML of plain data, but in line 1: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system'."),
        ),
        ("m: [", "Expected ops.yaml to be YAML of plain data, but in line 2: did not find expected node content."),
        ("m: &a\n  b: *a", "Expected ops.yaml to be a tree, but an alias in line 1 holds itself."),
        ("latency_nas: 2", "ops.yaml: latency_nas: Expected 1, but got 2."),
        ("{latency_nas: 1, op: []}", "ops.yaml: op: Expected no key of this name, but got []."),
        (
            "{latency_nas: 1, ops: [{class: torch.nn.ReLU}]}",
            (
                "ops.yaml: ops.0: Expected `input`, a shape of numbers and names of parameters or sizes; it is derived "
                "only from `in_features`, or from one of in_channels, num_features, num_channels and a `size` in "
                "`sizes`."
            ),
        ),
        (
            "{latency_nas: 1, ops: [{class: a.B, input: [1, c]}]}",
            ("ops.yaml: ops.0.input: Expected positive integers, or names of parameters or sizes that are, but `c` is "
            "None."),
        ),
        (
            "{latency_nas: 1, ops: [{class: a.B, parameters: {c: {range: [9, 3]}}, input: [1, c]}]}",
            ("ops.yaml: ops.0.parameters.c: Expected `range` to be [first, last] or [first, last, step] that rises in "
            "steps of at least 1 to at most 100,000 values, but got [9, 3]."),
        ),
        (
            "{latency_nas: 1, ops: [{class: a.B, parameters: {c: [1, 2], d: {tied_to: c, values: [1]}}, input: [1]}]}",
            "ops.yaml: ops.0.d: Expected a value for each of the 2 of `c`, but got 1.",
        ),
        (
            "{latency_nas: 1, ops: [{class: a.B, parameters: {c: 1, d: {same_as: e}}, input: [1]}]}",
            "ops.yaml: ops.0.d: Expected to be tied to a free parameter or size (c), but got 'e'.",
        ),
        (
            "{latency_nas: 1, kernels: [relu]}",
            ("ops.yaml: kernels.0: Expected a kernel key such as 'linear [1,128] -> [1,10] bias=1 dtype=fp32', "
            "but got 'relu'."),
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    assert refusal(tmp_path, text) == message


def test_a_yaml_bomb_is_refused_at_once(tmp_path: Path) -> None:
    """Nine levels of nine aliases: 400 million values in 300 bytes."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    assert refusal(tmp_path, "\n".join(lines)) == (
        "Expected at most 2,000,000 values in ops.yaml once its aliases are written out, but those of line 7 are more."
    )
    for deep in ("[" * 40 + "]" * 40, "[" * 100_000, "\n" + "- " * 100_000):
        assert refusal(tmp_path, "m: " + deep) == "Expected at most 32 levels in ops.yaml, but there are more."


def test_our_grammar_ties_ranges_and_derives(tmp_path: Path) -> None:
    text = """
latency_nas: 1
ops:
  - class: torch.nn.Conv2d
    parameters:
      in_channels: [16, 32]
      out_channels: {range: [8, 24, 8]}
      kernel_size: [3, 5]
      padding: {tied_to: kernel_size, values: [1, 2]}
      groups: {same_as: in_channels}
      stride: [[2, 1]]
    sizes: {size: [28, 14], batch: 2}
  - class: torch.nn.Linear
    parameters: {in_features: 64, out_features: 10}
kernels:
  - relu [1,16] -> [1,16] dtype=fp32
"""
    found = space_of(tmp_path, text)
    assert len(found) == 2 * 3 * 2 * 2 + 1
    for arguments, shape in found[:-1]:
        assert arguments["padding"] == {3: 1, 5: 2}[arguments["kernel_size"]]  # type: ignore[index]
        assert arguments["groups"] == arguments["in_channels"] == shape[1]
        assert (shape[0], shape[2], arguments["stride"]) == (2, shape[3], [2, 1])
    assert found[-1] == ({"in_features": 64, "out_features": 10}, (1, 64))
    assert read_space(tmp_path / "ops.yaml").items[-1] == Kernel.of("relu", [(1, 16)], [(1, 16)])


def test_modules_that_do_not_import_and_constructors_that_raise_have_different_errors(tmp_path: Path) -> None:
    path = tmp_path / "ops.yaml"
    path.write_text("no_such_module:\n  A: {no_params: true, input_shape: [[1]]}")
    with pytest.raises(OpSpaceError) as caught:
        read_space(path).check_imports(allow=["no_such_module"])
    assert str(caught.value) == (
        f"{path}: no_such_module.A: Expected a Python module that imports, but `import no_such_module` fails "
        f"(ModuleNotFoundError: No module named 'no_such_module'). Is the folder that holds it on the PYTHONPATH?"
    )
    with pytest.raises(OpSpaceError) as caught:
        Op(module="torch.nn", name="Conf2d", input_shape=(1,), origin="ops.yaml: torch.nn.Conf2d").read()
    assert str(caught.value) == (
        "ops.yaml: torch.nn.Conf2d: Expected torch.nn to have a class Conf2d, but it has none."
    )
    with pytest.raises(IllegalOpError) as illegal:
        Op(module="torch.nn", name="ReLU", input_shape=(1,), arguments={"wide": 3}).read()
    assert str(illegal.value) == (
        "torch.nn.ReLU(wide=3) on [1]: the constructor raises TypeError: ReLU.__init__() got an unexpected keyword "
        "argument 'wide'"
    )


def test_a_survey_counts_ops_kernels_and_what_is_illegal(tmp_path: Path) -> None:
    path = tmp_path / "ops.yaml"
    path.write_text(
        "torch.nn:\n  Conv2d: {in_channels: [8, 16], out_channels: [8, 12], kernel_size: [1], groups: [8], "
        "input_shape: [[1, 8, 9, 9], [1, 9, 9, 9]]}"
    )
    survey = survey_space(read_space(path))
    assert (survey.n_ops, len(survey.illegal), len(survey.failures), len(survey.kernels)) == (4, 3, 0, 1)
    assert (
        next(iter(survey.illegal.values()))
        == "the constructor raises ValueError: out_channels must be divisible by groups"
    )
    assert survey.n_flops == 2 * 8 * 81
    options = SessionOptions(repetition=RepetitionOptions(n_runs=10), rounds=4, min_rounds=2, contexts=1)
    min_s, max_s = session_seconds(survey, options, flops_per_s=1e3)
    a_run_s, yardstick_s = 2 * 8 * 81 / 1e3 + 4e-6, 32_956_416 / 1e3
    assert max_s - min_s == pytest.approx(2 * (14 * a_run_s + 14 * yardstick_s))


def test_a_batch_multiplies_every_first_size(tmp_path: Path) -> None:
    path = tmp_path / "ops.yaml"
    kernel = Kernel.of("relu", [(1, 16)], [(1, 16)])
    path.write_text(kernels_yaml([kernel], "of a test"))
    space = read_space(path)
    assert space.items == (kernel,)
    assert with_batch(space, 4).items == (Kernel.of("relu", [(4, 16)], [(4, 16)]),)
    with pytest.raises(MeasureError) as caught:
        with_batch(space, 0)
    assert str(caught.value) == "Expected `batch` to be a positive integer, but got 0."
