"""PaddleSlim's ``TableLatencyPredictor``, implemented by this library: the same calls, without Paddle's optimiser.

    from latency_nas.compat.paddleslim import TableLatencyPredictor

replaces ``from paddleslim.analysis import TableLatencyPredictor``. The differences are on purpose. An operator without
a row is an error or, with the predictor on, is estimated with a warning; it never counts as 0 ms. Nothing is installed
or downloaded, no files are left behind, and no pickle is executed. Paddle itself is not needed either.

References:
    PaddleSlim 2.6.0, ``paddleslim/analysis/latency_predictor.py``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from latency_nas.compat.opt_program import optimised_ops
from latency_nas.errors import GraphError, KernelError, MissingKernelError, TableError
from latency_nas.estimate import Estimate, LatencyEstimator
from latency_nas.graph.paddle.reader import program_shapes, read_paddle, read_program
from latency_nas.kernel import Kernel
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.table import LatencyTable, load_table
from latency_nas.table.formats.paddleslim.keys import parse_paddleslim_key
from latency_nas.table.formats.paddleslim.templates import Dialect, OptimisedOp, write_paddleslim_key

__all__ = ["TableLatencyPredictor", "paddleslim_program_keys"]

logger = logging.getLogger(__name__)

_Path = str | os.PathLike[str]

_DATA_TYPES = ("fp32", "int8", "fp16")
_ENGINE = ("paddle-lite", "2.11")  # with the dialect that PaddleSlim's keys follow
_N_LISTED = 5


class TableLatencyPredictor:
    """Predicts the latency of Paddle's inference models by a table of operators.

    Args:
        table_file: Name in `hardware_list`, or a path to a table. A name is looked up as
            ``{name}_threads_4_power_mode_0.pkl`` in the working folder, where PaddleSlim puts it, then among the named
            tables.

    Raises:
        UnknownTableError: if there is no such table.
        TableError: if its file is damaged or foreign.

    Example:
        >>> predictor = TableLatencyPredictor(table_file="SD710_threads_4_power_mode_0.pkl")  # doctest: +SKIP
        >>> predictor.predict("model.pdmodel", "model.pdiparams", data_type="fp32")  # doctest: +SKIP
        219.2
    """

    hardware_list: list[str] = ["SD625", "SD710", "RK3288"]  # noqa: RUF012 - PaddleSlim's users append to it

    def __init__(self, table_file: _Path = "SD710") -> None:
        self.hardware = str(table_file) if str(table_file) in self.hardware_list else None
        self.table: LatencyTable = _table(self.hardware) if self.hardware else load_table(str(table_file))
        self.set_predictor_state(self.hardware is not None)

    @classmethod
    def add_hardware(cls, hardware: str) -> None:
        """Add a name to `hardware_list`."""
        cls.hardware_list.append(hardware)

    def set_predictor_state(self, state: bool = True) -> None:
        """Turn the predictor on or off.

        Args:
            state: Whether a regressor estimates operators that the table lacks; if not, such an operator is an error.
        """
        self.predictor_state = bool(state)
        self._estimator = LatencyEstimator(self.table, on_missing="regress" if state else "error")

    def predict(
        self,
        model_file: _Path,
        param_file: _Path | None = None,
        data_type: str = "fp32",
        threads: int | None = None,
        input_shape: Sequence[int] | None = None,
    ) -> float:
        """The latency of a model in milliseconds.

        Args:
            model_file: Program, ``.pdmodel`` or PIR ``.json``.
            param_file: Weights, ``.pdiparams``. They are checked but not needed.
            data_type: ``"fp32"``. Others are refused.
            threads: Number of threads on the device; by default that of the table.
            input_shape: Shape of the model's input, where the program leaves sizes open.

        Raises:
            GraphError: if the model cannot be read, or the data type is not fp32.
            MissingKernelError: if operators have no price; the message lists their keys.
            TableError: if the table is for another number of threads.
        """
        estimate = self.estimate(model_file, param_file, data_type, threads, input_shape)
        if n_regressed := estimate.sources["regressed"]:
            logger.warning(
                "%d of %d operators of %s are not in %s and were estimated from its rows: %s.",
                n_regressed, len(estimate.kernels), model_file, self.table.name, estimate.figure(),
            )  # fmt: skip
        return estimate.latency_ms

    def estimate(
        self,
        model_file: _Path,
        param_file: _Path | None = None,
        data_type: str = "fp32",
        threads: int | None = None,
        input_shape: Sequence[int] | None = None,
    ) -> Estimate:
        """The same as an `Estimate`, with its standard deviation, coverage and breakdown."""
        _check_data_type(data_type)
        stated = self.table.datasheet.threads
        if threads is not None and stated is not None and threads != stated:
            raise TableError(
                f"Expected `threads` to be {stated}, as {self.table.name} was measured, but got {threads}."
            )
        sheet = self.table.datasheet
        if (sheet.engine.casefold(), sheet.dialect) != _ENGINE:
            # The rows are not PaddleSlim's, so its optimiser does not say which kernels run.
            return self._estimator.predict(read_paddle(model_file, param_file, input_shape=input_shape))
        ops = _ops(model_file, param_file, input_shape)
        calls = [KernelCall(kernel=_kernel(op, str(model_file)), layer="", nodes=()) for op in ops]
        if not self.predictor_state:
            missing = [op for op, call in zip(ops, calls, strict=True) if call.kernel not in self.table]
            self._refuse_missing(missing, len(ops))
        return self._estimator.price(calls)

    def _refuse_missing(self, missing: Sequence[OptimisedOp], n_ops: int) -> None:
        keys = list(dict.fromkeys(write_paddleslim_key(op) or op.type for op in missing))
        if not keys:
            return
        more = f"; and {len(keys) - _N_LISTED} more" if len(keys) > _N_LISTED else ""
        raise MissingKernelError(
            f"{len(missing)} of {n_ops} operators have no price in {self.table.name}: "
            f"{'; '.join(keys[:_N_LISTED])}{more}. "
            f"Measure them, or call set_predictor_state(True) to have them estimated from the table's rows."
        )


def _table(hardware: str) -> LatencyTable:
    beside = Path(f"{hardware}_threads_4_power_mode_0.pkl")
    return load_table(beside if beside.is_file() else hardware)


def _check_data_type(data_type: str) -> None:
    if data_type not in _DATA_TYPES:
        raise GraphError(f"Expected `data_type` to be one of {', '.join(_DATA_TYPES)}, but got {data_type!r}.")
    if data_type != "fp32":
        raise GraphError(
            f"Expected `data_type` to be fp32, but got {data_type}: where Paddle-Lite converts between types is not "
            f"known here, and without that the sum would be too small."
        )


def _ops(model_file: _Path, param_file: _Path | None, input_shape: Sequence[int] | None) -> tuple[OptimisedOp, ...]:
    program = read_program(model_file, param_file)
    shapes = program_shapes(program, model_file, input_shape=input_shape)
    return optimised_ops(program, shapes)


def _kernel(op: OptimisedOp, source: str) -> Kernel:
    """The kernel of the op's row in a table. An op that has no key in PaddleSlim gives a kernel of its own name."""
    key = write_paddleslim_key(op)
    try:
        if key:
            return parse_paddleslim_key(key)
        return Kernel.of(f"paddle.{op.type}", op.inputs, op.outputs)
    except KernelError as error:
        raise GraphError(f"Expected operators that have a price in {source}, but {key or op.type}: {error}.") from error


def paddleslim_program_keys(model_file: _Path, *, dialect: Dialect = "2022") -> list[str]:
    """The keys that PaddleSlim looks up in its table, for each operator of an optimised program in fp32.

    Args:
        model_file: Program, ``.pdmodel`` or PIR ``.json``. Sizes that it leaves open are -1 in the keys.
        dialect: Spelling of the keys, ``"2022"`` or ``"2021"``.

    Returns:
        The keys. For an operator that has no key in PaddleSlim, its type.

    Raises:
        GraphError: if the program cannot be read.
    """
    return [write_paddleslim_key(op, dialect=dialect) or op.type for op in optimised_ops(read_program(model_file))]
