"""Every file, however damaged, is read or ends in one error of this library, whichever reader it is given to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_nas import load_block_table, load_table
from latency_nas.errors import TableError
from latency_nas.table import read_network_runs
from tests.table.formats.blocks.test_block_texts import LUT
from tests.table.formats.networks.test_runs import GT, NEW, OLD
from tests.table.formats.test_paddle_texts import LITE
from tests.table.formats.test_registry import EVALUATOR

LOADERS: tuple[Callable[..., Any], ...] = (load_table, load_block_table, read_network_runs)
OFA = "expanded_conv-input:7x7x192-output:7x7x320-expand:6-kernel:5-stride:1-idskip:0: {count: 154, mean: 5.26}\n"
CSV = """# latency_nas: 1
# device: "a"
# engine: "MNN"
# method: "imported"
kernel,latency_ms
"relu [1,8] -> [1,8]",1
"""
FILES = {
    "ofa.yaml": OFA, "own.json": json.dumps({"layer 0": {"3x3": 1.0, "skip": 0.0}, "head": 2.5}), "lut.txt": LUT,
    "fbnet.txt": "ir_k3 skip\n5129.8 1.6\n2449.5 0\n", "perf.yaml": NEW, "old.yaml": OLD, "gt.txt": GT, "t.csv": CSV,
    "lite.txt": LITE, "evaluator.txt": EVALUATOR,
}  # fmt: skip
PIECES = [
    "", "{", "}", "[", "]", ":", ",", "\n", "\t", "&a ", "*a", "<<: *a", "- ", "? ", "'", '"', "#", "1e999", "-1",
    "nan", "null", "true", "\u2028", "\x00", "!!python/object/apply:os.system [x]", "9" * 5000,
]  # fmt: skip


def tried(path: Path) -> None:
    for load in LOADERS:
        for options in ({}, {"unit": "ms"}):
            with contextlib.suppress(TableError):
                assert load(path, **options)


@pytest.mark.parametrize("name", FILES)
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_damaged_text(tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject) -> None:
    path = tmp_path_factory.getbasetemp() / name
    content = FILES[name]
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(content)))
        removed = data.draw(st.integers(0, 12))
        content = content[:place] + data.draw(st.sampled_from(PIECES)) + content[place + removed :]
    path.write_text(content, encoding="utf-8")
    tried(path)


@given(
    content=st.binary(max_size=200), name=st.sampled_from(["t.yaml", "t.json", "t.csv", "t.pkl", "t.txt", "t.parquet"])
)
@settings(deadline=None, max_examples=100)
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    tried(path)
