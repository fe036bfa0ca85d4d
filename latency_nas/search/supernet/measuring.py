"""`measure_supernet`: the latency table of a supernet's candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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
    supernet: Any,
    example_input: Any,
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
    """Measure what every candidate of a supernet costs inside whole networks. The supernet is not changed.

    Random architectures are profiled op by op; each candidate occurs in `times` of them.

    Args:
        supernet: Network that is searched, a module of torch or a layer of Paddle.
        example_input: Input of its forward, or several.
        choices: Choices of the supernet; by default those that `find_choices` recognises.
        times: Number of architectures in which each candidate occurs.
        engine: Engine, or its name; None for the registry's default.
        device: Name of the device for the datasheet.
        threads: Number of threads of the engine.
        precision: Precision of the arithmetic.
        rounds: Number of repetitions of each architecture.
        seed: Seed of the architectures, the order and the weights.
        runner: Runner of the networks; by default one on this machine.
        on_progress: Function that is called after each repetition, with the number of repetitions so far and in all.

    Returns:
        The table, with its datasheet.

    Raises:
        SearchError: if the choices are not recognised, or one does not run.
        InputMismatchError: if the input does not fit a layer.
        MeasureError: in the cases of `measure_table`.

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
