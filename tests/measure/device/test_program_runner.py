"""MNN's and Paddle-Lite's own programs: their texts are quoted from the programs' sources and from runs of them.

No such program can be installed: a stand-in of the same name runs the real engine and prints what ``MNNV2Basic.cpp``
and ``Profiler.cpp`` print. Where ``MNN_PROGRAMS`` names the folder of a build of MNN with its tools (``cmake
-DMNN_BUILD_TOOLS=ON -DMNN_SEP_BUILD=OFF``), the programs themselves are run as well.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from latency_nas.engine import OpTimes, get_engine
from latency_nas.engine.mnn.programs import parse_mnn_basic, parse_time_profile
from latency_nas.engine.paddle_lite.programs import parse_benchmark_bin
from latency_nas.errors import MeasureError
from latency_nas.measure.device import Here, ProgramRunner
from latency_nas.measure.device.address import open_runner
from latency_nas.measure.device.program_runner import time_network
from latency_nas.measure.session.result import build_table
from latency_nas.measure.session.run import run_session
from tests.measure.session.test_session import KERNELS, new_session

BASIC = (
    "Use extra forward type: 0\n\nOpen Model a.mnn\n"
    "Session Info: memory use 1.500000 MB, flops is 16.000000 M, backendType is 0\n"
    f"{'/conv/Add_output':>50} \t[BinaryOp] run 10 average cost 0.100000 ms, 1.069 %, FlopsRate: 0.002 %\n"
    f"{'y':>50} \t[Convolution] run 10 average cost 3.143200 ms, 33.595 %, FlopsRate: 39.156 %\n"
)
OLD = "Avg= 9.356200 ms, min= 8.972000 ms, max= 11.289000 ms\n"
NEW = "Avg= 9.356200 ms, OpSum = 9.141600 ms min= 8.972000 ms, max= 11.289000 ms\n"
PROFILE = (
    "Open Model a.mnn\nSort by node name !\n"
    "Node Name \tOp Type     \tAvg(ms)  \t%         \tFlops Rate \t\n"
    "a         \tConvolution \t3.143200 \t32.930000 \t39.156000  \t\n"
    "b c       \tPooling     \t0.250000 \t2.619000  \t0.000000   \t\n"
    "Print <=20 slowest Op for Convolution, larger than 3.00\na -  5.000000 GFlops, 32.93 rate\n\n"
    "Sort by time cost !\nNode Type   \tAvg(ms)  \t%         \tCalled times \tFlops Rate \t\n"
    "Convolution \t3.143200 \t32.930000 \t1.000000     \t39.156000  \t\n"
    "total time : 9.545199 ms, total mflops : 12.000000 \n"
)
LITE = (
    "\n======= Perf Info =======\nTime(unit: ms):\n"
    "init  = 10.118      \nfirst = 40.500      \nmin   = 33.100      \nmax   = 35.000      \navg   = 33.812      \n"
    "\nMemory Usage(unit: MB):\ninit  = 5.000       \npeak  = 20.500      \n\n"
)
STAND_IN = """#!{python}
import runpy, sys
side = runpy.run_path({side!r}, run_name="device_runner")
basic = sys.argv[0].endswith("MNNV2Basic.out")
model, loops = sys.argv[1], int(sys.argv[2])
threads, precision = int(sys.argv[5]), dict(zip("12", ("fp32", "fp16")))[sys.argv[6]]
network = side["Network"](model, threads, precision)
if not basic:
    assert sys.argv[4] == "x".join(map(str, network.input_shape)), sys.argv
ops = network.executed()
runs = network.profile_ms(loops)
costs = [sum(run[i] for run in runs) / loops for i in range(len(ops))]
total = sum(costs)
if basic:
    print("Session Info: memory use %f MB, flops is %f M, backendType is %d" % (network.memory_mb, 1.0, 0))
    for cost, op in sorted(zip(costs, ops)):
        print("%50s \\t[%s] run %d average cost %f ms, %.3f %%, FlopsRate: %.3f %%" % (*op[:2], loops, cost, 1.0, 1.0))
    print("Avg= %f ms, OpSum = %f ms min= %f ms, max= %f ms" % (total, total, total, total))
else:
    print("Sort by node name !\\nNode Name \\tOp Type \\tAvg(ms) \\t% \\tFlops Rate \\t")
    for cost, op in sorted(zip(costs, ops), key=lambda pair: pair[1][0]):
        print("%s \\t%s \\t%f \\t%f \\t%f \\t" % (*op[:2], cost, 1.0, 1.0))
    print("total time : %f ms, total mflops : %f " % (total, 1.0))
"""


def test_mnn_basic() -> None:
    ops = {"/conv/Add_output": 0.1, "y": 3.1432}
    assert parse_mnn_basic(BASIC + NEW) == OpTimes(whole_ms=9.3562, ops_ms=ops, memory_mb=1.5)
    assert parse_mnn_basic(BASIC + OLD) == OpTimes(whole_ms=9.3562, ops_ms=ops, memory_mb=1.5)
    with pytest.raises(MeasureError) as caught:
        parse_mnn_basic("Open Model a.mnn\n")
    assert str(caught.value) == (
        "Expected the times that MNNV2Basic.out prints, but its output ends in 'Open Model a.mnn'."
    )


def test_time_profile() -> None:
    assert parse_time_profile(PROFILE) == OpTimes(whole_ms=9.545199, ops_ms={"a": 3.1432, "b c": 0.25})
    with pytest.raises(MeasureError) as caught:
        parse_time_profile("")
    assert str(caught.value) == "Expected the times that timeProfile.out prints, but its output ends in 'nothing'."


def test_benchmark_bin() -> None:
    assert parse_benchmark_bin(LITE) == OpTimes(whole_ms=33.812, ops_ms={}, memory_mb=20.5)
    with pytest.raises(MeasureError) as caught:
        parse_benchmark_bin(LITE.replace("33.812", "0.000"))  # an ARM model on x86
    assert str(caught.value) == "Expected a network to take time, but got 0 ms: it did not run."


def test_lite_on_a_device(tmp_path: Path) -> None:
    program = tmp_path / "benchmark_bin"
    seen = f"open({str(tmp_path / 'seen')!r}, 'w').write(' '.join(sys.argv[1:]))"
    program.write_text(f"#!{sys.executable}\nimport sys\nprint({LITE!r})\n{seen}\n")
    program.chmod(0o755)
    (tmp_path / "m.nb").write_bytes(b"nb")
    (tmp_path / "there").mkdir()
    times = time_network(
        Here(), str(program), tmp_path / "m.nb", (1, 3, 8, 8), engine="paddle-lite", folder=str(tmp_path / "there")
    )
    assert times.whole_ms == 33.812
    assert (tmp_path / "seen").read_text() == (
        f"--optimized_model_file={tmp_path}/there/m.nb --input_shape=1,3,8,8 --threads=1 --repeats=30 --warmup=5"
    )


@pytest.fixture
def there(tmp_path: Path) -> Path:
    folder = tmp_path / "there"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("name", ["MNNV2Basic.out", "timeProfile.out"])
def test_a_session_by_a_program(name: str, there: Path) -> None:
    program = there / name
    program.write_text(STAND_IN.format(python=sys.executable, side=str(get_engine("mnn").device_side)))
    program.chmod(0o755)
    assert measure(program) == {name}  # networks were taken away


@pytest.mark.skipif("MNN_PROGRAMS" not in os.environ, reason="needs MNN_PROGRAMS, a folder of MNN's own programs")
@pytest.mark.parametrize("name", ["MNNV2Basic.out", "timeProfile.out"])
def test_a_session_by_the_programs_themselves(name: str, there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = Path(os.environ["MNN_PROGRAMS"])
    monkeypatch.setenv("LD_LIBRARY_PATH", str(built))
    monkeypatch.chdir(there)  # where MNNV2Basic.out leaves notes
    shutil.copy(built / name, there)
    assert measure(there / name) - {"output.txt", ".order"} == {name}  # those are MNNV2Basic.out's own


def measure(program: Path) -> set[str]:
    """A session by that program, and what must come of it; what then lies in its folder."""
    with (
        new_session(program.parent.parent / "s.sqlite", KERNELS[:2], rounds=1, min_rounds=1) as session,
        open_runner("local", program=str(program)) as runner,
    ):
        run_session(session, runner)
        assert session.problems() == {}
        table = build_table(session)
        assert len(list(program.parent.iterdir())) > 1
    assert set(KERNELS[:2]) <= set(table)
    assert f"of the median of the runs (each the mean over 5 runs of {program.name}), at" in table.datasheet.statistic
    return {path.name for path in program.parent.iterdir()}


def test_other_programs_are_refused() -> None:
    with pytest.raises(MeasureError) as caught:
        ProgramRunner(Here(), "/data/a.out")
    assert str(caught.value) == (
        "Expected a program that is called MNNV2Basic.out or timeProfile.out, but got '/data/a.out'."
    )
