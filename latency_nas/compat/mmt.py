"""MMT's three functions (mnn-meter 2.2.0), implemented by this library's meter and tables.

    from latency_nas.compat.mmt import generate_ops_list, meter_ops, predict_latency

    generate_ops_list("ops.yaml", "ops")
    meter_ops("ops", times=100)
    predict_latency(model, "ops/meta_latency.pkl", [1, 3, 224, 224])

Differences: no GPU is needed; no two ops share a file; the number of threads can be set; ops are timed inside
networks, relative to a yardstick; the model is not changed; and an op that the table lacks is estimated with a warning,
or is an error, but never counts as 0 ms. A folder that MMT itself has metered can be read, too.

An ``ops.yaml`` may come from a stranger, so only classes of `ALLOWED_PACKAGES` are constructed. To meter your own
classes, pass their package to both calls: ``generate_ops_list("ops.yaml", "ops", allow=["my_package"])``, then
`meter_ops`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from math import ceil, fsum
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from latency_nas.errors import MissingKernelError, SessionError
from latency_nas.estimate import Estimate, LatencyEstimator
from latency_nas.graph import OpGraph
from latency_nas.graph.torch.reader import read_torch
from latency_nas.graph.torch.unchanged import unchanged
from latency_nas.measure.device.runner import LocalRunner, RepetitionOptions
from latency_nas.measure.session.options import SessionOptions
from latency_nas.measure.session.result import build_table
from latency_nas.measure.session.run import run_session
from latency_nas.measure.session.session import Session
from latency_nas.measure.session.work_item import WorkItem
from latency_nas.measure.space import read_space
from latency_nas.table import LatencyTable, load_table, save_table
from latency_nas.table.formats.mmt import MMTOp, import_mmt

__all__ = ["generate_ops_list", "meter_ops", "predict_latency"]

logger = logging.getLogger(__name__)

_SESSION, _TABLE, _PICKLE = "session.sqlite", "latency.parquet", "meta_latency.pkl"
_CONTEXTS, _RUNS = 3, 10  # networks that contain an op, and timed runs per repetition
_N_NAMED = 10
_ENGINE = "mnn"


def generate_ops_list(
    path: str | os.PathLike[str], fp: str | os.PathLike[str], verbose: bool = False, *, allow: Sequence[str] = ()
) -> None:
    """Read an op space, and create a session for it in a folder.

    Args:
        path: MMT's ``ops.yaml``, or an op space in this library's grammar.
        fp: Folder of the session. It is created if it does not exist. A session for the same ops is left unchanged.
        verbose: Whether to log each op.
        allow: Packages whose classes ops may name, besides `ALLOWED_PACKAGES`.

    Raises:
        UnsafeOpError: if a class is in a package that is not allowed.
        OpSpaceError: if the file does not follow the grammar, or a module does not import.
        SessionError: if the folder holds a session for other ops.
    """
    space = read_space(path)
    space.check_imports(allow=allow)
    work_items = [WorkItem.of(item) for item in space.items]
    for work_item in work_items if verbose else ():
        logger.info("%s", work_item.label)
    target = Path(fp, _SESSION)
    if target.exists():
        with Session.open(target, read_only=True) as session:
            if list(session.work_items()) != work_items:
                raise SessionError(
                    f"Expected {target} to be over the ops of {path}, but it is over others: name another folder, or "
                    f"delete this one."
                )
        return
    Session.create(target, work_items, SessionOptions(engine=_ENGINE, source=space.source)).close()
    logger.info("%s: %d combinations to meter", target, len(work_items))


def meter_ops(
    fp: str | os.PathLike[str],
    times: int = 30,
    verbose: bool = False,
    *,
    threads: int = 1,
    precision: str = "fp32",
    allow: Sequence[str] = (),
) -> LatencyTable:
    """Meter the ops of a folder, and save their table in it. An interrupted session is continued.

    Args:
        fp: Folder that `generate_ops_list` has written.
        times: Approximate number of timed runs of each op, summed over all networks that contain it.
        verbose: Whether to log each row.
        threads: Number of threads of the engine. MMT always uses 4.
        precision: Precision of the engine's arithmetic.
        allow: Packages whose classes ops may name, besides `ALLOWED_PACKAGES`. It is not kept in the folder.

    Returns:
        The table. The folder has it as ``latency.parquet``.

    Raises:
        UnsafeOpError: if a class is in a package that is not allowed.
        SessionError: as `Session.open`.
        MeasureError: if nothing can be metered.
    """
    path = Path(fp, _SESSION)
    with Session.open(path) as session, LocalRunner(_ENGINE) as runner:
        if not session.n_repetitions and not session.is_composed(0):
            session.set_options(_options(times, threads, precision, session.options.source))
        run_session(session, runner, allow=allow)
        table = build_table(session)
        problems = session.problems()
    illegal = [label for label, problem in problems.items() if problem.startswith("IllegalOpError")]
    logger.info("%d combinations are no ops and %d could not be metered", len(illegal), len(problems) - len(illegal))
    save_table(table, Path(fp, _TABLE))
    logger.info("%s: %d kernels; %s", Path(fp, _TABLE), len(table), table.datasheet.notes)
    for kernel, row in table.items() if verbose else ():
        logger.info("%.4f ms  %s", row.latency_ms, kernel)
    return table


def _options(times: int, threads: int, precision: str, source: str) -> SessionOptions:
    """Options that give about `times` timed runs of each op, over all networks and repetitions."""
    contexts = min(_CONTEXTS, max(1, times))
    rounds = max(1, round(times / (contexts * _RUNS)))
    n_runs = ceil(max(1, times) / (contexts * rounds))
    repetition = RepetitionOptions(n_runs=n_runs, n_whole=1, n_warmup=1, threads=threads, precision=precision)
    return SessionOptions(
        repetition=repetition,
        engine=_ENGINE,
        contexts=contexts,
        rounds=rounds,
        min_rounds=rounds,
        stop_at=None,
        source=source,
    )


def predict_latency(
    module: nn.Module, ops_path: str | os.PathLike[str], input_shape: Sequence[int], verbose: bool = False
) -> float:
    """Predict the latency of a model, in milliseconds. The model is not changed.

    Args:
        module: Model to price.
        ops_path: Folder that was metered, a table's file or name, or a ``meta_latency.pkl`` that MMT itself wrote.
        input_shape: Shape of the model's input.
        verbose: Whether to log the latency of each kernel or module.

    Raises:
        MissingKernelError: if the table lacks an op and it cannot be estimated from the others.
    """
    found = _find(Path(ops_path))
    if isinstance(found, tuple):
        return _sum_of_modules(module, found, tuple(input_shape), str(ops_path), verbose=verbose)
    estimate = _estimate(found, read_torch(module, input_shape=tuple(input_shape)))
    for item in estimate.kernels if verbose else ():
        logger.info("%.4f ms  %s  %s", item.latency_ms, item.layer, item.kernel)
    return float(estimate.latency_ms)


def _estimate(table: LatencyTable, graph: OpGraph) -> Estimate:
    """Price a network. A kernel without a row gets the row of its twin with another activation, or is regressed."""
    kernels = {call.kernel for call in LatencyEstimator(table, on_missing="regress").fuse(graph)}
    missing = sorted((kernel for kernel in kernels if kernel not in table), key=str)
    twins = {kernel.without(("act",)).key: row for kernel, row in table.items()}
    alike = {kernel.key: row for kernel in missing if (row := twins.get(kernel.without(("act",)).key))}
    if missing:
        logger.warning(
            "%s has no row for %d of the %d kernels: %d are priced as the same kernel of another activation, the "
            "others are estimated: %s",
            table.name, len(missing), len(kernels), len(alike), "; ".join(map(str, missing[:_N_NAMED])),
        )  # fmt: skip
    extended = LatencyTable({**table.entries, **alike}, table.datasheet, table.name)
    return LatencyEstimator(extended, on_missing="regress").predict(graph)


def _find(path: Path) -> LatencyTable | tuple[MMTOp, ...]:
    """Load the table, or MMT's own ops, that a path names. In a folder, our table has precedence."""
    folder = path if path.is_dir() else path.parent
    if path.suffix == ".pkl" and path.is_file():
        return import_mmt(path)
    if path.is_dir() or path.name == _PICKLE:
        ours, theirs = folder / _TABLE, folder / _PICKLE
        return load_table(str(ours)) if ours.is_file() or not theirs.is_file() else import_mmt(theirs)
    return load_table(str(path))


def _sum_of_modules(
    model: nn.Module, ops: Sequence[MMTOp], input_shape: tuple[int, ...], name: str, *, verbose: bool
) -> float:
    """MMT's own estimate: the sum of the rows of all modules that run, found by class, input shape and ``repr``."""
    rows = {(op.class_name, op.input_shape, op.repr): op.latency_ms for op in ops}
    classes = {op.class_name for op in ops}
    costs_ms: list[float] = []
    missing: list[str] = []
    unpriced: list[str] = []
    for path, module, shape in _calls(model, classes, input_shape):
        # The first class with a row, from the module's own to its bases: the module may be a subclass of a metered one.
        names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(module).__mro__]
        cost_ms = next((rows[key] for kind in names if (key := (kind, shape, repr(module))) in rows), None)
        if cost_ms is not None:
            costs_ms.append(cost_ms)
            if verbose:
                logger.info("%.4f ms  %s  %r", cost_ms, path, module)
        elif classes.intersection(names) or next(module.parameters(), None) is not None:
            missing.append(f"{path}: {module!r} on {list(shape)}")
        else:
            unpriced.append(f"{path} ({type(module).__name__})")
    if missing:
        raise MissingKernelError(
            f"{name} has no row for {len(missing)} of the modules that run: {'; '.join(missing[:_N_NAMED])}. A row is "
            f"found by class, input shape (batch included) and repr. Meter them with generate_ops_list and meter_ops."
        )
    if unpriced:
        logger.warning("%s has no rows for modules without weights, which are left out: %s", name, ", ".join(unpriced))
    return fsum(costs_ms)


def _calls(
    model: nn.Module, classes: set[str], input_shape: tuple[int, ...]
) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """Path, module and input shape of each call of a module that is of these classes or has no children."""
    calls: list[tuple[str, nn.Module, tuple[int, ...]]] = []
    watched: dict[int, str] = {}

    def watch(parent: nn.Module, prefix: str) -> None:
        for name, child in parent.named_children():
            kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(child).__mro__}
            if kinds & classes or not list(child.children()):
                watched[id(child)] = prefix + name
            else:
                watch(child, f"{prefix}{name}.")

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if arguments and isinstance(arguments[0], torch.Tensor):
            calls.append((watched[id(module)], module, tuple(arguments[0].shape)))

    watch(model, "")
    modules = [module for module in model.modules() if id(module) in watched]
    handles = [module.register_forward_pre_hook(note) for module in modules]
    try:
        with unchanged(model), torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
            model(torch.ones(input_shape))
    finally:
        for handle in handles:
            handle.remove()
    return calls
