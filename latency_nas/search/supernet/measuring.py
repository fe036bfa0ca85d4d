"""`measure_supernet`: the latency table of a supernet's own candidates."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from latency_nas.engine import Engine
from latency_nas.graph.architectures import covering_architectures
from latency_nas.measure.device.runner import Runner
from latency_nas.measure.meter import measure_table
from latency_nas.measure.repetition import Progress
from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.supernet import read_supernet
from latency_nas.table import LatencyTable

__all__ = ["measure_supernet"]


def measure_supernet(
    supernet: nn.Module,
    example_input: Tensor | tuple[Tensor, ...],
    *,
    choices: Sequence[Choice] | None = None,
    times: int = 6,
    engine: Engine | str | None = None,
    device: str = "",
    threads: int = 1,
    precision: str = "fp32",
    rounds: int = 6,
    seed: int = 0,
    runner: Runner | None = None,
    on_progress: Progress | None = None,
) -> LatencyTable:
    """Measure, inside whole networks, what every candidate of a supernet costs. The supernet is not changed.

    Random architectures in which each candidate stands `times` times are profiled op by op.

    Args:
        supernet: Network that is searched.
        example_input: What its forward takes.
        choices: Where it chooses; by default what `find_choices` recognises.
        times: Number of architectures in which each candidate stands.
        engine: Engine, or its name; the registry's default for None.
        device: What the datasheet calls the device.
        threads: Number of threads of the engine.
        precision: Precision of the arithmetic.
        rounds: Repetitions of each architecture.
        seed: Seed of the architectures, the order and the weights.
        runner: Where the networks run; this machine by default.
        on_progress: Called after each repetition with the repetitions so far and in all.

    Returns:
        The table, its datasheet filled in.

    Raises:
        SearchError: if the choices are not recognised, or one does not run.
        InputMismatchError: if the input does not fit a layer.
        MeasureError: as `measure_table`.

    Example:
        >>> table = measure_supernet(supernet, torch.randn(1, 3, 32, 32))    # doctest: +SKIP
        >>> latency = LatencyLoss(table, target_ms=2.0)                      # doctest: +SKIP
    """
    graph, _ = read_supernet(supernet, example_input, choices)
    architectures = covering_architectures(graph.choices, times=times, seed=seed)
    return measure_table(
        [graph.extract(architecture) for architecture in architectures],
        engine=engine, device=device, threads=threads, precision=precision, rounds=rounds, seed=seed, runner=runner,
        on_progress=on_progress,
    )  # fmt: skip
