"""Block tables that are texts or pickles: NNI's, FBNet's, TF-NAS's."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from latency_nas import load_block_table, load_table, plan_of_candidates
from latency_nas.errors import TableFileError, UnsafePickleError
from latency_nas.table import import_blocks

LUT = """{'op_name': 'mb_k3', 'op_data_shape': (56, 56, 24, 24, 1), 'op_dtype': 'float', 'op_latency': 500}
{'op_name': 'mb_k3', 'op_data_shape': [56, 56, 24, 24, 1], 'op_dtype': 'int8', 'op_latency': 125.5}

{"op_name": "skip", "op_data_shape": (56, 56, 24, 24, 1), "op_dtype": "float", "op_latency": 0.0}
{'op_name': 'mb_k3', 'op_data_shape': (56, 56, 24, 24, 1), 'op_dtype': 'float', 'op_latency': 500}
"""
BLOCK = "MBInvertedResBlock_112_16_0_24_k3_s2_relu"
TF_NAS = OrderedDict(base=1.5, **{BLOCK: OrderedDict({1: -0.25, 2: 0.5, 3: 0.75})})


def written(folder: Path, content: str, name: str = "t.txt") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def test_lines_of_nni(tmp_path: Path) -> None:
    table, report = import_blocks(written(tmp_path, LUT), unit="us")
    assert dict(table.latencies_ms) == {
        "mb_k3-input:56x56x24-output:24-stride:1": 0.5,
        "mb_k3-input:56x56x24-output:24-stride:1-dtype:int8": pytest.approx(0.1255),
        "skip-input:56x56x24-output:24-stride:1": 0.0,
    }
    assert (report.n_keys, report.n_used) == (4, 4)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("__import__('os').system('true')", "to be a dict with op_name, op_data_shape, op_dtype, op_latency, but got"),
        ("{'op_name': 'a'}", "to be a dict with op_name, op_data_shape, op_dtype, op_latency, but got"),
        ("[" * 1900, "to be a dict with"),
        ("-" * 1900 + "1", "to be a dict with"),
        ("{" + "x" * 100_000, "to be a dict with"),
        (
            LUT.splitlines()[0].replace("56, 56, ", ""),
            "to be width, height, input channels, output channels and stride",
        ),
        (LUT.splitlines()[0].replace("500", "501"), "Expected one latency of each block in"),
    ],
)
def test_lines_that_are_not_nnis_are_refused(tmp_path: Path, line: str, problem: str) -> None:
    path = written(tmp_path, LUT + line + "\n")
    with pytest.raises(TableFileError) as caught:
        load_block_table(path, unit="us")
    assert problem in str(caught.value)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 700


def test_rows_of_fbnet_are_layers(tmp_path: Path) -> None:
    content = "ir_k3_e1 ir_k3_s2 skip\n5129.75 3028.5 1.5\n2449.25 4480.0 847.0\n"
    table = load_block_table(written(tmp_path, content), unit="us")
    assert dict(table.groups["layer 1"]) == pytest.approx({"ir_k3_e1": 2.44925, "ir_k3_s2": 4.48, "skip": 0.847})
    plan = plan_of_candidates(table.groups)
    assert plan.latency_ms({"layer 0": "ir_k3_s2", "layer 1": "skip"}) == pytest.approx(3.0285 + 0.847, abs=1e-12)
    numbered = written(tmp_path, "0.25 0.5\n0.125 1 2e-1\n", "speed.txt")
    ragged = load_block_table(numbered, unit="ms", file_format="fbnet-text")
    assert [dict(group) for group in ragged.groups.values()] == [
        {"0": 0.25, "1": 0.5},
        {"0": 0.125, "1": 1.0, "2": 0.2},
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("1.0", "Expected 2 numbers for layer 1 in {path}, one for each name, but got 1."),
        ("1.0 nan", "Expected a latency of each candidate in {path}, but layer 1/b: Expected a number, but got 'nan'."),
        ("1.0 x", "Expected a latency of each candidate in {path}, but layer 1/b: Expected a number, but got 'x'."),
    ],
)
def test_no_layer_is_skipped(tmp_path: Path, row: str, problem: str) -> None:
    path = written(tmp_path, f"a b\n1.0 2.0\n{row}\n")
    with pytest.raises(TableFileError) as caught:
        load_block_table(path, unit="us")
    assert str(caught.value) == problem.format(path=path)


def test_pickles_of_tf_nas(tmp_path: Path) -> None:
    path = tmp_path / "latency_gpu.pkl"
    for protocol in (2, 3, 4, 5):
        path.write_bytes(pickle.dumps(TF_NAS, protocol=protocol))
        table, report = import_blocks(path, batch=32, device="Titan RTX", backend="GPU")
        assert dict(table.latencies_ms) == {"base": 1.5, f"{BLOCK}/2": 0.5, f"{BLOCK}/3": 0.75}
        assert dict(report.skipped) == {f"{BLOCK}/1": "Expected `latency` to be a finite number >= 0, but got -0.25."}
        assert (table.datasheet.batch, table.datasheet.backend) == (32, "GPU")
    plan = plan_of_candidates({"block 1": table.groups[BLOCK]}, fixed=table["base"])
    assert plan.bounds_ms() == (2.0, 2.25)
    with pytest.raises(TableFileError) as caught:
        load_table(path)
    assert str(caught.value) == (
        f"Expected a table of kernels, but {path} is a pickle of TF-NAS's blocks: load_block_table reads it, and "
        f"plan_of_candidates makes a plan of its blocks."
    )


def test_pickles_with_objects_say_how_to_convert_them(tmp_path: Path) -> None:
    path = tmp_path / "latency.pkl"
    path.write_bytes(pickle.dumps({BLOCK: {1: np.float64(0.5)}}))
    with pytest.raises(UnsafePickleError) as caught:
        load_block_table(path)
    assert str(caught.value).endswith(
        "and only numbers, text, lists and dicts are read. Nothing of the file was run. If you trust it, write its "
        "data as JSON where it was made."
    )


@pytest.mark.parametrize("content", [LUT, "a b\n1 2\n"], ids=["nni", "fbnet"])
def test_the_unit_is_asked_for(tmp_path: Path, content: str) -> None:
    with pytest.raises(TableFileError) as caught:
        load_block_table(written(tmp_path, content))
    assert str(caught.value).startswith("Expected the unit of the latencies in ")
