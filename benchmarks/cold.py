"""Times a first prediction as a user experiences it: a whole process, from start to end.

    python benchmarks/cold.py [--onnx FILE.onnx --input-shape 1,3,48,320] [--table SD865] [--rounds 5]

Prints the processor time (user and system) of ``latency-nas predict``, divided by that of ``import torch``, and the
peak memory. All alternate, and the times are medians. Then the same for a process that attaches a loss to the
MobileNetV3-sized supernet of `speed.py`, with regressed kernels and with a table that holds every kernel.
MobileNetV2 is exported by torch first. ``--onnx`` adds a file of your own, such as the recogniser in the package
rapidocr-onnxruntime.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]

_EXPORT = """
import sys, torch
from tests.zoo import ZOO
model, size = ZOO["MobileNetV2"][0]().eval(), (1, 3, 64, 64)
torch.onnx.export(model, (torch.zeros(size),), sys.argv[1], dynamo=True, external_data=False, verbose=False)
"""
_ATTACH = """
import logging, sys, torch
logging.disable()
from latency_nas import LatencyLoss
from speed import CandidateNet
latency = LatencyLoss(sys.argv[1], on_missing="regress")
plan = latency.attach(CandidateNet(), torch.zeros(1, 3, 224, 224))
if sys.argv[2:]:
    from dataclasses import replace
    from itertools import chain
    from latency_nas import LatencyTable, save_table
    from latency_nas.table import Entry
    parts = chain([plan.fixed], chain.from_iterable(plan.costs), (term.cost for term in plan.terms))
    rows = {item.kernel: Entry(latency_ms=item.value, std_ms=item.std) for part in parts for item in part.kernels}
    sheet = replace(latency.estimator.table.datasheet, method="imported", unrecorded=())
    save_table(LatencyTable.of(rows, sheet), sys.argv[2])
"""
_REGRESSED, _IN_TABLE = "attach, regressed", "attach, every kernel in the table"
_BOUNDS = {"torch module": 2.5}  # of files: 1.0


def _run(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Processor seconds and peak MB of a Python process."""
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    }
    output = os.open(folder / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    actions = [(os.POSIX_SPAWN_DUP2, output, 1), (os.POSIX_SPAWN_DUP2, output, 2)]
    child = os.posix_spawn(sys.executable, [sys.executable, *arguments], environment, file_actions=actions)
    os.close(output)
    _, status, usage = os.wait4(child, 0)
    if status:
        raise RuntimeError((folder / "output.txt").read_text()[-2000:])
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Time every side in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--onnx", help="another model's file")
    parser.add_argument("--input-shape", default="", help="shape of its input")
    parser.add_argument("--table", default="SD865")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "net.onnx"
        _run(
            ["-c", _EXPORT, str(file)], folder
        )  # in a process of its own, since a child's peak is at least its parent's
        (folder / "cold_model.py").write_text("from tests.zoo import ZOO\nmake = ZOO['MobileNetV2'][0]\n")
        os.chdir(folder)
        predict = ["-c", "from latency_nas.cli.main import main; main()", "predict", "--table", args.table]
        sides = {
            "import torch": ["-c", "import torch"],
            "MobileNetV2, ONNX": [*predict, str(file)],
            "torch module": [*predict, "cold_model:make", "--input-shape", "1,3,64,64"],
        }
        if args.onnx:
            shape = ["--input-shape", args.input_shape] if args.input_shape else []
            sides[Path(args.onnx).name] = [*predict, args.onnx, *shape]
        full = folder / "full.parquet"
        _run(["-c", _ATTACH, args.table, str(full)], folder)
        sides |= {_REGRESSED: ["-c", _ATTACH, args.table], _IN_TABLE: ["-c", _ATTACH, str(full)]}
        runs: dict[str, list[tuple[float, float]]] = {side: [] for side in sides}
        for number in range(args.rounds + 1):
            for side, arguments in sides.items():
                run = _run(arguments, folder)
                if number:  # the first round only fills the caches of the disk
                    runs[side].append(run)
    torch_s = median(seconds for seconds, _ in runs["import torch"])
    for side, found in runs.items():
        seconds, peak = median(s for s, _ in found), max(megabytes for _, megabytes in found)
        is_free = side == "import torch" or side.startswith("attach")
        bound = "" if is_free else f" (at most {_BOUNDS.get(side, 1.0)})"
        print(f"{side}: {seconds:.2f} s, {seconds / torch_s:.2f} x import torch{bound}, {peak:.0f} MB")
    more_s = [one[0] - other[0] for one, other in zip(runs[_REGRESSED], runs[_IN_TABLE], strict=True)]
    print(f"attach with regressed kernels: {median(more_s):.2f} s more (at most 3)")


if __name__ == "__main__":
    main()
