"""``latency-nas measure``: begin a metering session, or continue one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from latency_nas.cli.options import Allow, EngineName

if TYPE_CHECKING:
    from latency_nas.measure.device.runner import Runner
    from latency_nas.measure.session.work_item import WorkItem

__all__ = ["measure"]


def measure(
    source: Annotated[
        str, typer.Argument(help="An op space (a YAML file), or package.module:callable of a model or supernet.")
    ],
    session: Annotated[
        Path, typer.Option("--session", "-s", help="The session's file; an existing session is continued.")
    ],
    input_shape: Annotated[str, typer.Option(help="Shape of a model's input: 1,3,224,224.")] = "",
    device: Annotated[str, typer.Option(help="Name of the device in the datasheet.")] = "",
    on: Annotated[
        str,
        typer.Option(
            help="Where to measure: local, ssh://user@host:port, adb[:serial], prefix:command or ray:resource."
        ),
    ] = "local",
    engine: EngineName = "",
    python: Annotated[str, typer.Option(help="Command on the device that starts a Python with the engine.")] = "",
    program: Annotated[
        str, typer.Option(help="The engine's own benchmark program on the device, instead of Python.")
    ] = "",
    bundle: Annotated[
        Path | None,
        typer.Option(help="Measure nothing; write a file that measures when `python3 FILE` runs on a device."),
    ] = None,
    samples: Annotated[
        Path | None, typer.Option(help="Measure nothing; read the samples that such a file has written on the device.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads of the engine.")] = 1,
    precision: Annotated[str, typer.Option(help="fp32, or fp16 where the chip has it.")] = "fp32",
    power_mode: Annotated[str, typer.Option(help="Cores to prefer: normal, high or low.")] = "normal",
    batch: Annotated[int, typer.Option(min=1, help="Images per run; it multiplies every first size.")] = 1,
    context: Annotated[str, typer.Option(help="composed: inside networks; alone: each op by itself.")] = "composed",
    contexts: Annotated[int, typer.Option(min=1, help="Networks that contain each op.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="Maximum number of repetitions of each network.")] = 5,
    runs: Annotated[int, typer.Option(min=1, help="Timed runs per repetition.")] = 6,
    stop_at: Annotated[
        float, typer.Option(min=0.0, help="Stop a network once its kernels are known to this relative error; 0: never.")
    ] = 0.02,
    max_drift: Annotated[
        float, typer.Option(min=0.0, help="Maximum relative change of the yardstick's time in a repetition.")
    ] = 0.1,
    allow: Allow = None,
) -> None:
    """Meter an op space, a model or a supernet on a device. Run it again to continue an interrupted session."""
    from latency_nas.engine import get_engine
    from latency_nas.errors import MeasureError
    from latency_nas.measure.device import open_runner
    from latency_nas.measure.device.ray_runner import RayRunner
    from latency_nas.measure.device.runner import RepetitionOptions
    from latency_nas.measure.session.bundle import add_samples, write_bundle
    from latency_nas.measure.session.options import SessionOptions
    from latency_nas.measure.session.result import session_result
    from latency_nas.measure.session.run import run_session
    from latency_nas.measure.session.session import Session
    from latency_nas.report.progress import progress_bar

    console = Console(stderr=True, highlight=False, soft_wrap=True)
    allowed = tuple(allow or ())
    if session.exists():
        opened = Session.open(session)
        if engine and get_engine(engine) is not opened.engine:
            opened.close()
            raise MeasureError(f"Expected {session} to go on with {opened.engine.title}, but got --engine {engine}.")
        if not _same_source(source, opened.options.source):
            opened.close()
            raise MeasureError(
                f"Expected {session} to go on with {opened.options.source}, which it was begun for, but got {source}: "
                f"name another session."
            )
        console.print(
            f"going on with {session} after {opened.n_repetitions} repetitions, with the options that it began with"
        )
    else:
        if context not in ("composed", "alone"):
            raise MeasureError(f"Expected --context to be composed or alone, but got {context!r}.")
        known_context: Literal["composed", "alone"] = "alone" if context == "alone" else "composed"
        repetition = RepetitionOptions(threads=threads, precision=precision, power_mode=power_mode, n_runs=runs)
        options = SessionOptions(
            repetition=repetition, engine=get_engine(engine or None).name, context=known_context, contexts=contexts,
            rounds=rounds, stop_at=stop_at or None, max_drift=max_drift, source=source,
            device=device or on.removeprefix("local"),
        )  # fmt: skip
        opened = Session.create(session, _work_items(source, input_shape, batch, contexts, allowed), options)
    if on.startswith("ray:"):
        runner: Runner = RayRunner(on[4:], engine=opened.engine, python=python)
    else:
        runner = open_runner(on, opened.engine, python=python, program=program)
    with opened, runner:
        if bundle:
            console.print(f"{bundle}: {write_bundle(opened, bundle, allow=allowed)} networks")
            brought = "bring samples.jsonl here, and go on by --samples samples.jsonl"
            console.print(f"next: python3 {bundle.name} on the device; {brought}")
            return
        if samples:
            console.print(f"{samples}: {add_samples(opened, samples, allow=allowed)} repetitions")
        else:
            with progress_bar("metering", console) as on_progress:
                run_session(opened, runner, on_progress=on_progress, allow=allowed)
        for label, problem in opened.problems().items():
            console.print(f"put aside: {label}: {problem}", markup=False)
        result = session_result(opened)
        peaks_mb = [times.memory_mb for times in result.times if times.memory_mb is not None]
        console.print(f"{len(set().union(*result.kernels))} kernels in {len(result.times)} networks; {result.drift}")
        if peaks_mb:
            console.print(f"the largest network used {max(peaks_mb):.1f} MB at its peak")
        console.print(f"next: latency-nas table build {session} -o TABLE")


def _same_source(one: str, other: str) -> bool:
    """Whether both name the same op space or model."""
    return one == other or Path(one).resolve() == Path(other).resolve()


def _work_items(source: str, input_shape: str, batch: int, contexts: int, allow: tuple[str, ...]) -> list[WorkItem]:
    """The work items of a new session."""
    from latency_nas.cli.model_source import architectures_of
    from latency_nas.errors import GraphError
    from latency_nas.graph.input_shapes import parse_shape
    from latency_nas.measure.session.work_item import WorkItem
    from latency_nas.measure.space import read_space
    from latency_nas.measure.space.space_file import with_batch

    if ":" not in source or Path(source).is_file():
        space = with_batch(read_space(source), batch)
        space.check_imports(allow=allow)
        return [WorkItem.of(item) for item in space.items]
    if not input_shape:
        raise GraphError("Expected --input-shape beside a model, such as --input-shape 1,3,224,224.")
    first, *rest = parse_shape(input_shape)
    graphs = architectures_of(source, (first * batch, *rest), contexts)
    return [WorkItem.of(graph, f"architecture {number}") for number, graph in enumerate(graphs)]
