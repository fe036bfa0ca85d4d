"""This library's meter beside mnn-meter 2.2.0: how fast each makes a table, and how well the tables predict.

    python benchmarks/metering.py demo
    python benchmarks/metering.py speed --mmt-python ENV/bin/python
    python benchmarks/metering.py accuracy --mmt-python ENV/bin/python [--space resnet18]

ENV is an environment with ``mnn-meter==2.2.0`` and ``tabulate`` beside this library's own packages. Both tools run the
same ops, repeats and threads, one after the other on the same machine. The machine must be idle: a network that takes
longer than the scheduler's slice shares the processor with other processes, which shows in the repeat noise. Networks
are measured before and after the table is made, so that this noise includes changes in between. ``demo`` needs no such
environment: it measures the table of ``make demo`` and checks it on 20 networks that were not metered.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from metering_spaces import CHOICES, DEMO, SHAPES, network, ops_yaml

HERE = Path(__file__).parent


def peer(options: argparse.Namespace, ops: Path, folder: Path, networks: Path | None = None) -> dict[str, Any]:
    """The result of mnn-meter for an op space."""
    command = [options.mmt_python, str(HERE / "metering_peer.py"), str(ops), str(folder), str(options.times)]
    command += [str(options.threads), *([str(networks)] if networks else [])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(f"mnn-meter failed:\n{done.stderr[-3000:]}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def inference_s(folder: Path) -> tuple[float, float, int]:
    """Seconds that our session ran networks, seconds that it ran the yardstick, and the minimum runs of a kernel."""
    from latency_nas.measure.session.session import Session

    networks = yardsticks = 0.0
    with Session.open(folder / "session.sqlite", read_only=True) as session:
        warmup = session.options.repetition.n_warmup
        for item in session.networks():
            for number, raw in enumerate(session.repetitions(item.id)):
                networks += raw["whole_ms"].sum() + raw["ops_ms"].sum()
                networks += (warmup + (number == 0)) * np.median(raw["whole_ms"])
                yardsticks += raw["yardstick_before_ms"].sum() + raw["yardstick_after_ms"].sum()
    from latency_nas.table import load_table

    runs = min(
        row.n_samples for kernel, row in load_table(str(folder / "latency.parquet")).items() if kernel.op != "raster"
    )
    return networks / 1e3, yardsticks / 1e3, runs


def ours(options: argparse.Namespace, ops: Path, folder: Path) -> dict[str, Any]:
    """The same two steps by this library's drop-in. As for the other tool, the process is new; imports are untimed."""
    program = (
        "import time; from latency_nas.compat.mmt import generate_ops_list, meter_ops; start = time.perf_counter()\n"
        f"generate_ops_list({str(ops)!r}, {str(folder)!r})\n"
        f"meter_ops({str(folder)!r}, times={options.times}, threads={options.threads})\n"
        "print(time.perf_counter() - start)"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=HERE)  # noqa: S603
    wall_s = float(done.stdout)
    networks_s, yardsticks_s, runs = inference_s(folder)
    return {"wall_s": wall_s, "inference_s": networks_s, "yardstick_s": yardsticks_s, "runs": runs}


def speed(options: argparse.Namespace, folder: Path) -> None:
    """From an op list to a table, both sides."""
    ops = folder / "ops.yaml"
    ops.write_text(DEMO)
    mine = ours(options, ops, folder / "ours")
    theirs = peer(options, ops, folder / "theirs")
    n_ops, wall_s = theirs["n_ops"], theirs["generate_s"] + theirs["meter_s"]
    inside_s = mine["inference_s"] + mine["yardstick_s"]
    print(f"{n_ops} ops of 80 combinations, {options.times} runs of each, {options.threads} thread(s)")
    print(f"mnn-meter 2.2.0: {wall_s:.1f} s ({theirs['generate_s']:.1f} converting, {theirs['meter_s']:.1f} metering), "
          f"of which {theirs['inference_s']:.1f} s inside inference")  # fmt: skip
    print(f"latency_nas:     {mine['wall_s']:.1f} s, of which {mine['inference_s']:.1f} s inside inference of networks "
          f"and {mine['yardstick_s']:.1f} s of the yardstick; a kernel ran {mine['runs']} or more times")  # fmt: skip
    outside = wall_s - theirs["inference_s"], mine["wall_s"] - inside_s
    print(f"ops per second, from op list to table: {wall_s / mine['wall_s']:.1f} x mnn-meter's")
    print(f"the same, what runs inside the engine left out: {outside[0] / outside[1]:.1f} x "
          f"({outside[0]:.1f} s against {outside[1]:.1f} s)")  # fmt: skip
    print(f"wall time over time inside inference: {mine['wall_s'] / inside_s:.2f} "
          f"(yardstick not counted: {mine['wall_s'] / mine['inference_s']:.2f}); mnn-meter's: "
          f"{wall_s / theirs['inference_s']:.2f}")  # fmt: skip


def demo(options: argparse.Namespace, folder: Path) -> None:
    """The table of ``make demo``: its error on networks that were not metered, beside the repeat noise."""
    del folder
    sys.path.append(str(HERE.parent / "examples"))
    import torch
    from search_digits import INPUT_SHAPE, build_table
    from supernet import Supernet

    from latency_nas.search.supernet.supernet import read_supernet

    graph, _ = read_supernet(Supernet(), torch.zeros(INPUT_SHAPE))
    table, found = build_table(graph, times=options.contexts, rounds=options.rounds)
    print(f"{found}\n{table.datasheet.notes}")


def accuracy(options: argparse.Namespace, folder: Path) -> None:
    """Networks that were not metered, predicted and measured, space by space."""
    errors: list[tuple[float, float]] = []
    for space in [options.space] if options.space else CHOICES:
        errors += space_accuracy(options, space, folder)
    if not options.space:
        print(summary("all", errors))


def space_accuracy(options: argparse.Namespace, space: str, folder: Path) -> list[tuple[float, float]]:
    """Errors of one space: ours and the peer's of each network."""
    from latency_nas.estimate import LatencyEstimator
    from latency_nas.graph.architectures import covering_architectures, random_architectures
    from latency_nas.graph.torch.reader import read_torch
    from latency_nas.measure.device.runner import LocalRunner, RepetitionOptions
    from latency_nas.measure.meter import measure_networks
    from latency_nas.measure.session.options import SessionOptions
    from latency_nas.measure.session.result import build_table
    from latency_nas.measure.session.run import run_session
    from latency_nas.measure.session.session import Session
    from latency_nas.measure.session.work_item import WorkItem

    choices = CHOICES[space]
    metered = covering_architectures(choices, times=options.contexts, seed=1)
    unmetered = random_architectures(choices, options.networks, seed=2, unlike=metered)
    request = folder / f"{space}.json"
    request.write_text(json.dumps({"space": space, "architectures": unmetered}))
    theirs = peer(options, ops_yaml(space, folder / f"{space}.yaml"), folder / f"{space}-theirs", request)
    held_out = [read_torch(network(space, item), input_shape=SHAPES[space]) for item in unmetered]
    before, drift = measure_networks(held_out, threads=options.threads, rounds=options.rounds, seed=0)
    start = time.perf_counter()
    graphs = [read_torch(network(space, item), input_shape=SHAPES[space]) for item in metered]
    session_options = SessionOptions(repetition=RepetitionOptions(threads=options.threads), source=space)
    with Session.create(folder / f"{space}.sqlite", map(WorkItem.of, graphs), session_options) as session:
        with LocalRunner() as runner:
            run_session(session, runner)
        table = build_table(session)
    took_s = time.perf_counter() - start
    unit_ms = table.datasheet.yardstick_ms
    after, _ = measure_networks(held_out, threads=options.threads, rounds=options.rounds, seed=1, yardstick_ms=unit_ms)
    estimator = LatencyEstimator(table)
    predicted = np.array([estimator.predict(graph).latency_ms for graph in held_out])
    first, second = (np.array([item.latency_ms for item in repeat]) for repeat in (before, after))
    first *= unit_ms / drift.yardstick_ms
    raw = np.array([(one.raw_ms + two.raw_ms) / 2 for one, two in zip(before, after, strict=True)])
    measured = (first + second) / 2
    noise = float(np.mean(np.abs(first / second - 1)))
    peers = np.array(theirs["predicted_ms"])
    print(f"\n{space}: {len(metered)} networks metered in {took_s:.0f} s ({table.datasheet.notes});\n"
          f"mnn-meter: {theirs['n_ops']} ops in {theirs['generate_s'] + theirs['meter_s']:.0f} s")  # fmt: skip
    for row in zip(measured, predicted, raw, peers, strict=True):
        print("measured {:8.3f}  predicted {:8.3f} ms | as clocked {:8.3f}  mnn-meter {:8.3f} ms".format(*row))
    errors = list(zip(np.abs(predicted / measured - 1), np.abs(peers / raw - 1), strict=True))
    print(f"repeat noise: {noise:.2%}; {drift}")
    print(summary(space, errors))
    return errors


def summary(name: str, errors: list[tuple[float, float]]) -> str:
    """Mean and worst error of both."""
    mine, theirs = np.array(errors).T
    return (
        f"{name}: {len(errors)} networks, mean error {mine.mean():.2%}, worst {mine.max():.2%}; "
        f"mnn-meter: mean {theirs.mean():.2%}, worst {theirs.max():.2%}"
    )


def main() -> None:
    """One of the two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["demo", "speed", "accuracy"])
    parser.add_argument("--mmt-python", default=sys.executable)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--space", choices=list(CHOICES))
    parser.add_argument("--networks", type=int, default=10)
    parser.add_argument("--contexts", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        {"demo": demo, "speed": speed, "accuracy": accuracy}[options.what](options, Path(folder))


if __name__ == "__main__":
    main()
