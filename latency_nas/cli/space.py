"""``latency-nas space``: the size of an op space, the op space of a model, and the space of a plan at a glance."""

from __future__ import annotations

from dataclasses import replace
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from latency_nas.cli.options import Allow, Budgets, EngineName, parse_budget

if TYPE_CHECKING:
    from latency_nas.search.select.distribution import Distribution

__all__ = ["app"]

app = typer.Typer(
    name="space",
    help="Op spaces: lists of ops to meter; and spaces of architectures at a glance.",
    no_args_is_help=True,
)


@app.command("show")
def show(
    file: Annotated[Path, typer.Argument(help="An op space: MMT's ops.yaml, or one in this library's grammar.")],
    engine: EngineName = "",
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine, for the estimate of the time.")] = 1,
    reasons: Annotated[int, typer.Option(min=0, help="Illegal combinations and failures to list.")] = 10,
    allow: Allow = None,
) -> None:
    """Count ops and distinct kernels, list illegal combinations with reasons, and estimate the time of a session."""
    from latency_nas.measure.session.options import SessionOptions
    from latency_nas.measure.session.survey import session_seconds, survey_space, yardstick_flops_per_s
    from latency_nas.measure.space import read_space
    from latency_nas.report.progress import progress_bar

    console = Console(highlight=False, soft_wrap=True)
    space = read_space(file)
    with progress_bar("reading", Console(stderr=True)) as on_progress:
        survey = survey_space(space, on_progress, engine=engine or None, allow=tuple(allow or ()))
    n_legal = survey.n_ops - len(survey.illegal) - len(survey.failures)
    console.print(
        f"{survey.n_ops} combinations: {n_legal} ops, {len(survey.illegal)} illegal, {len(survey.failures)} that fail"
    )
    console.print(f"{len(survey.kernels)} distinct kernels, all of them in {survey.n_metered} of the ops")
    if survey.kernels:
        min_s, max_s = session_seconds(survey, SessionOptions(), yardstick_flops_per_s(threads, engine or None))
        console.print(f"a session on this machine takes {_duration(min_s)} to {_duration(max_s)}")
    for title, items in (("illegal", survey.illegal), ("fails", survey.failures)):
        for label, reason in list(items.items())[:reasons]:
            console.print(f"{title}: {label}: {reason}", markup=False)
        if len(items) > reasons:
            console.print(f"{title}: and {len(items) - reasons} more (--reasons {len(items)} lists them)")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


@app.command("from")
def from_model(
    model: Annotated[str, typer.Argument(help="package.module:callable that returns a torch model or supernet.")],
    input_shape: Annotated[str, typer.Option(help="Shape of the model's input: 1,3,224,224.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The op space to write.")],
    engine: EngineName = "",
) -> None:
    """Write the op space of a model or supernet: all kernels that the engine runs for any of its candidates."""
    from latency_nas.cli.model_source import architectures_of
    from latency_nas.engine import Target, get_engine
    from latency_nas.graph.input_shapes import parse_shape
    from latency_nas.measure.compose import own_kernels
    from latency_nas.measure.space.space_file import kernels_yaml

    rules = (get_engine(engine or None), Target())
    graphs = architectures_of(model, parse_shape(input_shape), times=2)
    kernels = list(dict.fromkeys(kernel for graph in graphs for kernel in sorted(own_kernels(graph, *rules), key=str)))
    title = f"{model} on [{input_shape}], as {rules[0].title} runs it"
    output.write_text(
        kernels_yaml(kernels, f"{title}; copies between layouts occur in every network and are not listed")
    )
    Console(highlight=False, soft_wrap=True).print(f"{output}: {len(kernels)} kernels")


@app.command("profile")
def profile(
    plan: Annotated[Path, typer.Argument(help="A plan that `CostPlan.save` wrote.")],
    max_ms: Annotated[float | None, typer.Option(help="Upper limit of the plan's latency.")] = None,
    min_ms: Annotated[float | None, typer.Option(help="Lower limit of the plan's latency.")] = None,
    budget: Budgets = None,
    confidence: Annotated[
        float | None,
        typer.Option(help="Probability with which each limit has to be kept; without it the estimates are compared."),
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="SVG file to write: the distribution, with the limits.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random architectures.")] = 0,
) -> None:
    """Size of a plan's space, costs of its architectures, the share within budgets, and whether these can be met."""
    from latency_nas.search.plan.plan import CostPlan
    from latency_nas.search.select.budget import Budget
    from latency_nas.search.select.space_profile import profile_space

    loaded = CostPlan.load(plan)
    budgets = [parse_budget(text) for text in budget or ()]
    if max_ms is not None or min_ms is not None:
        loaded.quantity.check_latency("--max-ms", f"--budget {plan}:max=NUMBER")
        limits = {"max_cost": inf if max_ms is None else max_ms, "min_cost": -inf if min_ms is None else min_ms}
        budgets.insert(0, Budget(loaded, **limits))
    budgets = [item if item.confidence is not None else replace(item, confidence=confidence) for item in budgets]
    found = profile_space(loaded, budgets, seed=seed)
    Console(highlight=False, soft_wrap=True, markup=False).print(str(found))
    if figure is not None:
        own = [limit for item in budgets if item.plan == loaded for limit in (item.min_cost, item.max_cost)]
        _write_figure(figure, found.distributions[0], [limit for limit in own if isfinite(limit)])


def _write_figure(path: Path, distribution: Distribution, limits: list[float]) -> None:
    from latency_nas.report.figure import distribution_figure
    from latency_nas.table.whole_file import whole_file

    with whole_file(path) as partial:
        partial.write_text(distribution_figure(distribution, limits), encoding="utf-8")
