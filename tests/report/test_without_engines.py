"""Reading a table, a finished session or a report needs no engine's package, and no onnx."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from latency_nas import Kernel
from latency_nas.measure.device.runner import RepetitionOptions
from latency_nas.measure.session.options import SessionOptions
from latency_nas.measure.session.session import Session
from latency_nas.measure.session.work_item import WorkItem

RELU, GELU = (Kernel.of(op, [(1, 8, 4, 4)], [(1, 8, 4, 4)]) for op in ("relu", "gelu"))
ENGINES = ("MNN", "onnx", "onnxscript", "paddlelite", "onnxruntime", "openvino")
BLOCKED = f"""
import sys
for name in {ENGINES!r}:
    sys.modules[name] = None
"""
READ = """
from latency_nas import Kernel, LatencyEstimator, load_table, save_table
from latency_nas.estimate.accuracy import Accuracy
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.measure.session.result import build_table, session_result
from latency_nas.measure.session.session import Session
from latency_nas.report.page import write_page
from latency_nas.search.plan.cost import Cost
from latency_nas.search.plan.plan import CostPlan
from latency_nas.verdict.verdict import Verdict
from pathlib import Path

folder = Path(sys.argv[1])
with Session.open(folder / "s.sqlite", read_only=True) as session:
    result = session_result(session)
    table = load_table(save_table(build_table(session), folder / "t.parquet"))
estimate = LatencyEstimator(table).price([KernelCall(kernel=kernel, layer="head", nodes=()) for kernel in table])
verdict = Verdict(target_ms=1.0, estimate=estimate, measured=result.times[0], drift=result.drift)
write_page(
    folder / "report.html", title="Report", verdict=verdict, architecture={"block": 0}, labels={"block": ["relu"]},
    plan=CostPlan(choices=("block",), candidates=(("relu",),), costs=((Cost(value=0.5),),), fixed=Cost(value=0.25)),
    history=[{"epoch": 0, "latency/expected_ms": 0.75, "latency/argmax_ms": 0.75}], table=table,
    accuracy=Accuracy(predicted_ms=(1.0, 2.0), measured_ms=(1.1, 2.0)), test_accuracy=0.9, n_test=100,
)
print(table)
"""
HEAVY = ("MNN", "onnx", "torch")


def run(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def imported_by(module: str) -> set[str]:
    """Which of `HEAVY` a fresh process holds that has imported a module."""
    return set(
        json.loads(run(f"import json, sys, {module}; print(json.dumps([n for n in {HEAVY} if n in sys.modules]))"))
    )


def test_a_progress_bar_needs_neither_onnx_nor_torch() -> None:
    assert imported_by("latency_nas.report.progress") == set()
    assert "torch" in imported_by("latency_nas.verdict.verdict"), "this check can fail"


def finished_session(path: Path) -> None:
    """A session of one network of two kernels, as the meter leaves it."""
    options = SessionOptions(
        repetition=RepetitionOptions(n_runs=2, n_yardstick=3), rounds=2, min_rounds=1, device="Board"
    )
    facts = {
        "engine": "MNN", "engine_version": "3.6.1", "machine": "aarch64", "processor": "Example chip",
        "emulated": "False",
    }  # fmt: skip
    with Session.create(path, [WorkItem.of(RELU), WorkItem.of(GELU)], options) as session:
        session.add_networks(0, [(((1,), (2,)), [RELU, GELU])])
        for _ in range(2):
            raw = {
                "yardstick_before_ms": [1.0] * 3, "yardstick_after_ms": [1.0] * 3, "whole_ms": [0.75, 0.75],
                "ops_ms": [[0.5, 0.25], [0.5, 0.25]], "memory_mb": None,
            }  # fmt: skip
            session.add_repetition(1, raw, facts)


def test_a_table_a_session_and_a_report_are_read_without_any_engine(tmp_path: Path) -> None:
    finished_session(tmp_path / "s.sqlite")
    output = run(BLOCKED + READ, tmp_path)
    assert output == (
        f"<LatencyTable {tmp_path / 't.parquet'}: 2 kernels. Board: MNN 3.6.1 on CPU, fp32, 1 thread, batch 1, "
        f"measured>\n"
    )
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "0.750" in page
    assert page.count("<svg") == 3
