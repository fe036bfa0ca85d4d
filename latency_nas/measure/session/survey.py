"""A survey of an op space before it is measured: its ops, its kernels, and an estimate of the session's time."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from latency_nas.engine import Engine, Target, get_engine
from latency_nas.errors import GraphError, IllegalOpError, KernelError, MeasureError
from latency_nas.kernel import Kernel, n_flops, n_params
from latency_nas.measure.compose import cover, own_kernels
from latency_nas.measure.device.runner import LocalRunner, RepetitionOptions
from latency_nas.measure.session.options import SessionOptions
from latency_nas.measure.session.work_item import WorkItem
from latency_nas.measure.space.space_file import OpSpace
from latency_nas.measure.yardstick import write_yardstick

__all__ = ["Survey", "session_seconds", "survey_space", "yardstick_flops_per_s"]

# Costs of building on an old x86 core; used only for the estimate of a session's time.
_YARDSTICK_FLOPS = 32_956_416  # in a run
_OVERHEAD_S, _BUILD_S, _BUILD_S_PER_BYTE, _OP_S = 1.5, 0.05, 6e-9, 4e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """An op space that was read but not measured.

    Args:
        n_ops: Number of all combinations.
        illegal: Combination that is no op -> the reason.
        failures: Op that cannot be metered -> the reason.
        kernels: Distinct kernels, without copies between layouts.
        n_metered: Number of ops that are enough to meter every kernel.
        n_flops: Floating-point operations of these ops, each run once.
        size_bytes: Size of their weights.
    """

    n_ops: int
    illegal: Mapping[str, str]
    failures: Mapping[str, str]
    kernels: frozenset[Kernel]
    n_metered: int
    n_flops: int
    size_bytes: int


def survey_space(
    space: OpSpace,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    engine: Engine | str | None = None,
    allow: Sequence[str] = (),
) -> Survey:
    """Construct and read every op of a space.

    Args:
        space: Op space.
        on_progress: Called after each op with the number of ops so far, and of all.
        engine: Engine whose kernels are counted, or its name; the registry's default for None.
        allow: Packages that may be imported beside `ALLOWED_PACKAGES`.

    Raises:
        UnsafeOpError: if a class is of a package that is not allowed.
        OpSpaceError: if a class does not import.
    """
    space.check_imports(allow=allow)
    rules = (get_engine(engine), Target())
    illegal: dict[str, str] = {}
    failures: dict[str, str] = {}
    kernels: dict[int, set[Kernel]] = {}
    for number, item in enumerate(space.items):
        try:
            kernels[number] = own_kernels(WorkItem.of(item).graph(*rules, allow=allow), *rules)
        except IllegalOpError as error:
            illegal[str(item)] = str(error).removeprefix(f"{item}: ")
        except (GraphError, KernelError, MeasureError) as error:
            failures[str(item)] = str(error).removeprefix(f"{item}: ")
        if on_progress:
            on_progress(number + 1, len(space))
    metered = cover(kernels, set())
    run = [kernel for number in metered for kernel in kernels[number]]
    return Survey(
        n_ops=len(space),
        illegal=illegal,
        failures=failures,
        kernels=frozenset().union(*kernels.values()),
        n_metered=len(metered),
        n_flops=sum(map(n_flops, run)),
        size_bytes=4 * sum(map(n_params, run)),
    )


def session_seconds(survey: Survey, options: SessionOptions, flops_per_s: float) -> tuple[float, float]:
    """Estimate how long a session over a space takes, without repetitions that are made again.

    Args:
        survey: Survey of the space.
        options: Options of the session.
        flops_per_s: Speed of the device; `yardstick_flops_per_s` measures it.

    Returns:
        Shortest and longest time in seconds: with the fewest rounds of every network, and with all rounds.
    """
    repetition = options.repetition
    contexts = options.contexts if options.context == "composed" else 1
    n_items = options.items_per_network if options.context == "composed" else 1
    n_networks = contexts * -(-survey.n_metered // n_items)
    runs = repetition.n_warmup + repetition.n_runs + (repetition.n_whole if repetition.profile else 0)
    a_run = contexts * (survey.n_flops / flops_per_s + _OP_S * len(survey.kernels))
    yardsticks = n_networks * 2 * repetition.n_yardstick * _YARDSTICK_FLOPS / flops_per_s
    a_round = runs * a_run + yardsticks
    build = _OVERHEAD_S + n_networks * _BUILD_S + contexts * survey.size_bytes * _BUILD_S_PER_BYTE
    min_rounds = options.rounds if options.stop_at is None else min(options.min_rounds, options.rounds)
    return build + min_rounds * a_round, build + options.rounds * a_round


def yardstick_flops_per_s(threads: int, engine: Engine | str | None = None) -> float:
    """Floating-point operations per second of this machine, from the yardstick."""
    found = get_engine(engine)
    with tempfile.TemporaryDirectory() as name, LocalRunner(found) as runner:
        file = write_yardstick(found, Path(name))
        raw = runner.repeat(file, file, RepetitionOptions(threads=threads, n_runs=30, profile=False), describe=False)
    return float(_YARDSTICK_FLOPS / (sorted(raw["whole_ms"])[15] / 1e3))
