"""``latency-nas filter`` and ``latency-nas sample``: candidates files within budgets, and random ones."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from latency_nas.cli.options import Budgets, parse_budget, parse_number

if TYPE_CHECKING:
    from latency_nas.search.plan.plan import CostPlan

__all__ = ["filter_candidates", "sample"]

_METHODS = {"backward": "backward sampling", "rejection": "rejection: rare intervals may have fewer"}
_GROUP_ROWS = 1 << 20  # rows of a row group

_Plan = Annotated[Path, typer.Option("--plan", help="Plan that CostPlan.save wrote: NAME.npz.")]
_Limit = Annotated[float | None, typer.Option(help="Limit of the plan's latency, in milliseconds.")]
_CostLimit = Annotated[float | None, typer.Option(help="Limit of the plan's cost, in its unit: MACs, parameters ...")]


def filter_candidates(
    candidates: Annotated[Path, typer.Argument(help="Parquet file or folder, a column a choice.")],
    plan: _Plan,
    max_ms: _Limit = None,
    min_ms: _Limit = None,
    max_cost: _CostLimit = None,
    min_cost: _CostLimit = None,
    budget: Budgets = None,
    confidence: Annotated[
        str, typer.Option(help="Probability of keeping, or breaking, each limit; none compares the estimates alone.")
    ] = "0.9",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Parquet file for the rows that passed.")
    ] = None,
    keep_uncertain: Annotated[
        bool, typer.Option("--keep-uncertain", help="Write uncertain rows, too, and a column `outcome`.")
    ] = False,
    threads: Annotated[int, typer.Option(min=0, help="Number of threads; 0 for one for each core.")] = 0,
    ray: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster that filters; auto is the one of this machine.")
    ] = None,
) -> None:
    """Filter a candidates file by budgets. The same command resumes what was interrupted."""
    from latency_nas.report.progress import progress_bar
    from latency_nas.search.plan.plan import CostPlan
    from latency_nas.search.select.budget import Budget
    from latency_nas.search.select.filter import filter_by_budget

    loaded = CostPlan.load(plan)
    _check_output(output, plan)
    budgets = [parse_budget(text) for text in budget or ()]
    if max_cost is not None or min_cost is not None:
        limits = (inf if max_cost is None else max_cost, -inf if min_cost is None else min_cost)
        budgets.insert(0, Budget(loaded, *limits))
    with progress_bar("filtering", Console(stderr=True)) as on_progress:
        filtered = filter_by_budget(
            candidates, loaded, max_ms=max_ms, min_ms=min_ms, confidence=_confidence(confidence, "--confidence"),
            budgets=budgets, output=output, keep_uncertain=keep_uncertain, threads=threads or None,
            ray_address=ray, on_progress=on_progress,
        )  # fmt: skip
    console = Console(highlight=False, soft_wrap=True)
    console.print(str(filtered), markup=False)
    if output is not None:
        n_written = filtered.n_passed + filtered.n_uncertain * keep_uncertain
        console.print(f"{output}: {n_written:,} rows", markup=False)


def sample(
    plan: _Plan,
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    n: Annotated[int, typer.Option("-n", "--number", min=0, help="Number of architectures.")] = 1_000_000,
    bins: Annotated[
        int, typer.Option(min=0, help="Equal intervals of the cost to draw equally from; 0 draws from the whole space.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers.")] = 0,
) -> None:
    """Draw architectures, uniformly or by intervals of the cost, and write them as a candidates file."""
    from latency_nas.report.progress import progress_bar
    from latency_nas.search.plan.plan import CostPlan
    from latency_nas.search.select.candidates_file import write_candidates

    loaded = CostPlan.load(plan)
    _check_output(output, plan)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    if bins:
        _sample_by_intervals(loaded, output, -(-n // bins), bins, seed, console)
        return
    with progress_bar("drawing", Console(stderr=True)) as on_progress:
        write_candidates(output, loaded, _drawn(loaded, n, seed, on_progress))
    console.print(f"{output}: {n:,} architectures")


def _check_output(output: Path | None, plan: Path) -> None:
    if output is not None and (output.is_dir() or output.resolve() == plan.resolve()):
        raise typer.BadParameter(f"Expected a Parquet file to write, but got {output}.", param_hint="--output")


def _sample_by_intervals(plan: CostPlan, output: Path, n: int, bins: int, seed: int, console: Console) -> None:
    """Write `n` architectures of each interval of the cost."""
    from latency_nas.search.select.candidates_file import write_candidates
    from latency_nas.search.select.stratified import stratified_architectures

    drawn = stratified_architectures(plan, n, bins=bins, seed=seed)
    write_candidates(output, plan, drawn.rows)
    console.print(f"{output}: {len(drawn.rows):,} architectures, drawn by {_METHODS[drawn.method]}")
    for low, high, count in zip(drawn.edges, drawn.edges[1:], drawn.counts, strict=False):
        unit = plan.quantity.unit
        console.print(f"{plan.quantity.rounded(low)} to {plan.quantity.rounded(high)} {unit}: {count:,}")


def _drawn(plan: CostPlan, n: int, seed: int, on_progress: Any) -> Iterator[Any]:
    """Random architectures in parts, each from a seed of its own; those of the first part are from `seed` itself."""
    import numpy as np

    from latency_nas.search.select.sampling import sample_architectures

    further = np.random.SeedSequence(seed).generate_state(n // _GROUP_ROWS, np.uint64)
    for begin, own in zip(range(0, n, _GROUP_ROWS), [seed, *map(int, further)], strict=False):
        size = min(_GROUP_ROWS, n - begin)
        yield sample_architectures(plan, size, seed=own)
        on_progress(begin + size, n)


def _confidence(text: str, option: str) -> float | None:
    return None if text == "none" else parse_number(text, option)
