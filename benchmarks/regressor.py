"""Prints the errors of regressed latencies, for kernels that the regressor has not seen.

    python benchmarks/regressor.py [--data ../shared/data/paddleslim_optables] [--only "depthwise"]

Each row also has the errors of a forest as PaddleSlim trains it (PaddleSlim PR 1054: its features, milliseconds, depth
70), on the same rows. A kernel with several measurements counts as one row, its first, so that no kernel is on both
sides of a split. The splits leave out: `random`, a fifth of the rows; `channels`, a fifth of the blocks of kernels
whose channels are in the same quarter of an octave and whose other attributes except padding are equal; `shape`, a
fifth of the shapes, which kernels share that differ only in channels. `channels` and `shape` leave each row out once.
`In 90 %` is the share of rows in their 90 % interval. `By group` is the mean of this share over the groups that were
left out together; intervals are made for such groups.

The last columns of a random split are limits due to noise: the mean error of an ideal prediction, and its share within
10 %. Rows whose channels differ by at most 5 % are assumed to have the same error from a smooth curve, except for their
noise. So the difference of two such errors, divided by sqrt(2), is distributed like the noise of one.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.model_selection import GroupKFold

from latency_nas import Datasheet, LatencyTable
from latency_nas.estimate.regressor.accuracy import forest_of_paddleslim
from latency_nas.estimate.regressor.fitted_family import shape_of
from latency_nas.estimate.regressor.regressor import KernelRegressor
from latency_nas.estimate.regressor.selecting import mean_of_groups
from latency_nas.kernel import Kernel
from latency_nas.table import Entry, import_paddleslim
from latency_nas.table.formats.paddleslim.importer import parse_paddleslim_key

Ints, Floats = NDArray[np.intp], NDArray[np.float64]
Split = tuple[Ints, Ints]  # rows to fit, rows left out

SHEET = Datasheet(device="SD710 (inferred)", engine="Paddle-Lite 2.11", method="imported", threads=4)
DATA = Path(__file__).parents[2] / "shared/data/paddleslim_optables"
FEW = 200
SEEDS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The measured kernels of one family on one device."""

    name: str
    kernels: list[Kernel]
    latency_ms: Floats

    def table(self, rows: Ints) -> LatencyTable:
        """A table of some of the rows."""
        return LatencyTable.of(
            {self.kernels[row]: Entry(latency_ms=float(self.latency_ms[row])) for row in rows}, SHEET
        )


def samples(path: Path) -> dict[str, Family]:
    """The families of the op samples, batch 1."""
    table = pq.read_table(path, columns=["key", "n", "latency_ms"])  # type: ignore[no-untyped-call]
    rows: dict[str, dict[Kernel, float]] = {}
    for item in table.to_pylist():
        if item["n"] == 1:
            kernel = parse_paddleslim_key(item["key"])
            rows.setdefault(kernel.family, {}).setdefault(kernel, item["latency_ms"])
    return {name: _family(f"SD710 {name}", part) for name, part in rows.items()}


def published(path: Path) -> dict[str, Family]:
    """The families of a table that PaddleSlim publishes."""
    rows: dict[str, dict[Kernel, float]] = {}
    for kernel, entry in import_paddleslim(path)[0].items():
        rows.setdefault(kernel.family, {})[kernel] = entry.latency_ms
    return {name: _family(f"RK3288 {name}", part) for name, part in rows.items()}


def _family(name: str, rows: dict[Kernel, float]) -> Family:
    return Family(name=name, kernels=list(rows), latency_ms=np.array(list(rows.values())))


def splits(family: Family) -> Iterator[tuple[str, list[Split], NDArray[Any]]]:
    """The ways to leave rows out, each with a name, the splits, and the group of each row."""
    rows = np.arange(len(family.kernels))
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(rows)
        yield f"random {seed}", [(order[len(rows) // 5 :], order[: len(rows) // 5])], rows
    for name, key in (("channels", _channel_block), ("shape", shape_of)):
        groups = np.array([key(kernel) for kernel in family.kernels])
        folds = GroupKFold(5, shuffle=True, random_state=0).split(rows, groups=groups)
        yield name, list(folds), groups
    if len(rows) > 10 * FEW:
        orders = [np.random.default_rng(seed).permutation(rows) for seed in range(5)]
        yield f"{FEW} rows", [(order[:FEW], order[FEW : FEW + 3000]) for order in orders], rows


def _channel_block(kernel: Kernel) -> str:
    return f"{shape_of(kernel)} {[int(4 * np.log2(shape[1])) for shape in (kernel.inputs[0], kernel.outputs[0])]}"


def score(family: Family, name: str, parts: list[Split], groups: NDArray[Any]) -> str:
    """The line of a family and a split."""
    measured, ours, std, theirs = [], [], [], []
    start = time.perf_counter()
    for kept, left_out in parts:
        regressor = KernelRegressor(family.table(kept))
        guesses = regressor.predict_many([family.kernels[row] for row in left_out])
        measured.append(family.latency_ms[left_out])
        ours.append([guess.latency_ms for guess in guesses if guess])
        std.append([guess.std_ms for guess in guesses if guess])
        theirs.append(
            forest_of_paddleslim(
                [family.kernels[row] for row in kept],
                family.latency_ms[kept],
                [family.kernels[row] for row in left_out],
            )
        )
    seconds = time.perf_counter() - start
    truth, ms, deviation, forest = (np.concatenate(part) for part in (measured, ours, std, theirs))
    inside = np.abs(np.log(truth / ms)) <= 1.645 * deviation / ms
    by_group = mean_of_groups(inside, groups[np.concatenate([left_out for _, left_out in parts])])
    text = f"{len(truth):6} {_error(ms, truth)} {inside.mean():8.1%} {by_group:8.1%}    {_error(forest, truth)}"
    allowed = f" {noise_allows(family, parts[0][1], ms):>13}" if name.startswith("random") else ""
    return f"{text} {seconds:7.0f} s{allowed}"


def noise_allows(family: Family, left_out: Ints, guess_ms: Floats) -> str:
    """The error, and the share within 10 %, of an ideal prediction for the left-out rows, if known."""
    errors = np.log(family.latency_ms[left_out] / guess_ms)
    lines: dict[str, list[tuple[int, float, float]]] = {}
    for row, error, ms in zip(left_out, errors, guess_ms, strict=True):
        kernel = family.kernels[row]
        sources = kernel.inputs[0][1] if kernel.attributes["group"] == 1 else 0  # of a depthwise one all channels move
        line = f"{shape_of(kernel)} {kernel.attributes['pad']} {sources}"
        lines.setdefault(line, []).append((kernel.outputs[0][1], error, ms))
    pairs = [
        (np.sqrt(one[2] * two[2]), abs(one[1] - two[1]) / np.sqrt(2))
        for line in map(sorted, lines.values())
        for one, two in pairwise(line)
        if two[0] <= 1.05 * one[0]
    ]
    if not pairs:
        return "?"
    ms, width = np.array(pairs).T
    edges = np.quantile(guess_ms, np.linspace(0, 1, 11)[1:-1])  # noise is of the time: each tenth of the rows by itself
    tenth, errors = np.searchsorted(edges, ms), np.array([np.sinh(width), width <= np.log(1.1)])
    error, within = np.mean([errors[:, tenth == i].mean(axis=1) for i in range(10) if (tenth == i).any()], axis=0)
    return f"{error:.2%} {within:.1%}"


def _error(guess: Floats, truth: Floats) -> str:
    relative = np.abs(guess / truth - 1)
    return f"{relative.mean():7.2%} {np.median(relative):7.2%} {(relative <= 0.1).mean():7.1%}"


def speed(families: dict[str, Family]) -> str:
    """Seconds to fit 20,000 rows of convolutions, and to price 10,000 other ones."""
    rows = {
        kernel: ms
        for name in ("conv2d", "depthwise_conv2d")
        for kernel, ms in zip(families[name].kernels, families[name].latency_ms, strict=True)
    }
    kernels = list(rows)
    order = np.random.default_rng(0).permutation(len(kernels))
    fitted = {kernels[row]: Entry(latency_ms=float(rows[kernels[row]])) for row in order[:20_000]}
    # unseen: the rows left over, and such with other channels
    unseen = [kernels[row] for row in order[20_000:]]
    unseen += [_wider(kernels[row]) for row in order[: 10_000 - len(unseen)]]
    regressor = KernelRegressor(LatencyTable.of(fitted, SHEET))
    start = time.perf_counter()
    import_module("torch")  # what the processes compute with; it is there already where a torch module is priced
    imported = time.perf_counter() - start
    start = time.perf_counter()
    regressor.fit()
    fit = time.perf_counter() - start
    start = time.perf_counter()
    regressor.predict_many(unseen)
    priced = time.perf_counter() - start
    return (
        f"20,000 rows fitted in {fit:.1f} s, after {imported:.1f} s in which torch was imported; "
        f"{len(unseen):,} kernels priced in {priced:.2f} s"
    )


def _wider(kernel: Kernel) -> Kernel:
    (batch, c_in, *source), (_, c_out, *target) = kernel.inputs[0], kernel.outputs[0]
    attrs = dict(kernel.attributes)
    if attrs["group"] != 1:
        c_in = c_out = attrs["group"] = c_out + 1
        return Kernel.of(kernel.op, [(batch, c_in, *source)], [(batch, c_out, *target)], dtype=kernel.dtype, **attrs)
    return Kernel.of(kernel.op, [(batch, c_in, *source)], [(batch, c_out + 1, *target)], dtype=kernel.dtype, **attrs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of PaddleSlim's op tables")
    parser.add_argument("--only", default="", help="a part of the name of a family or a split")
    options = parser.parse_args()
    measured = samples(options.data / "op_samples_fp32_threads4_SD710inferred_unique.parquet")
    rk3288 = published(options.data / "rk3288_threads_4_power_mode_0.pkl")
    names = ("conv2d", "depthwise_conv2d")
    heads = (
        f"{'rows':>5}    MAPE  median within 10 % in 90 % by group    MAPE  median within 10 % by PaddleSlim's forest"
    )
    print(f"{'':36} {heads}")
    for family in [*(measured[name] for name in names), *(rk3288[name] for name in names)]:
        for split, parts, groups in splits(family):
            if options.only in f"{family.name}, {split}":
                print(f"{family.name + ', ' + split:36}{score(family, split, parts, groups)}")
                sys.stdout.flush()
    if options.only in "speed":
        print(speed(measured))


if __name__ == "__main__":
    main()
