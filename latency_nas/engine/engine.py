"""`Engine`: the interface to everything that this library knows about an inference engine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from latency_nas.engine.op_times import OpTimes
from latency_nas.engine.target import Target
from latency_nas.errors import MeasureError
from latency_nas.graph import OpGraph
from latency_nas.graph.input_shapes import InputShape
from latency_nas.kernel import Kernel, Shape
from latency_nas.kernel.kernel_call import KernelCall

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Engine", "ExecutedOp", "Program", "described_ops"]


@dataclass(frozen=True, slots=True)
class ExecutedOp:
    """An op that an engine ran: its type, and the shapes that it read (except scalar operands) and wrote."""

    type: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A benchmark program of an engine, built by the user.

    Args:
        arguments: Function that makes the command line after the program's path, of (the model's path, number of runs,
            number of untimed runs, shape of the first input, threads, precision).
        read: Function that parses the program's output.
        times_ops: Whether the program times single ops.
    """

    arguments: Callable[[str, int, int, Sequence[int], int, str], list[str]]
    read: Callable[[str], OpTimes]
    times_ops: bool = True


class Engine(ABC):
    """An inference engine: the kernels that it runs for a network, how its files are written, and how they are timed.

    A new engine is a folder with a subclass, and one line in the registry or an entry point of another package
    (``docs/adding-an-engine.md``). Constructors take no arguments and do nothing: a method that needs the engine's own
    package imports it when it is called.

    Example:
        >>> from latency_nas import get_engine
        >>> engine = get_engine("paddle-lite")
        >>> engine.title, engine.precisions, engine.versions
        ('Paddle-Lite', ('fp32',), ('', '2.11'))
    """

    name: ClassVar[str]
    """The name in code and at the command line, ``"paddle-lite"``."""
    title: ClassVar[str]
    """The name in datasheets and messages, ``"Paddle-Lite"``. Lookups by `title` and by `name` ignore case."""
    install: ClassVar[str]
    """The command that installs the engine for a Python on a device."""
    suffixes: ClassVar[tuple[str, ...]]
    """Suffixes of the model files that `write` accepts. The first is that of the files that it makes."""
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    power_modes: ClassVar[tuple[str, ...]] = ("normal",)
    versions: ClassVar[tuple[str, ...]] = ("",)
    """Versions of the rules, as `Target.version` names them."""
    layout_ops: ClassVar[frozenset[str]] = frozenset()
    """Ops that occur only between others, such as copies between layouts. They are never measured alone."""
    keeps_weights: ClassVar[bool] = False
    """Whether `export` keeps a torch module's weights."""
    times_ops: ClassVar[bool] = True
    """Whether `device_side` times single ops. If not, each kernel is timed as a network of its own."""
    programs: ClassVar[Mapping[str, Program]] = {}
    """Benchmark programs of the engine, by file name."""
    refused_precisions: ClassVar[Mapping[str, str]] = {}
    """Precisions in which kernels cannot be measured with random weights -> the reason."""
    timed_whole: ClassVar[frozenset[str]] = frozenset()
    """Ops that the engine runs as a loop of many. Each is measured as a network of its own, and timed whole."""
    device_side: ClassVar[Path]
    """The Python file that runs on a device; see `latency_nas.engine.serving`."""
    device_side_parts: ClassVar[Mapping[str, Path]] = {}
    """Modules that `device_side` imports, by name, beside `latency_nas.engine.serving`. They are sent with it."""

    # ---- the kernels that it runs ----

    @abstractmethod
    def fuse(self, graph: OpGraph, target: Target) -> tuple[KernelCall, ...]:
        """The kernels that the engine runs for a graph, in order. This is computed by rules, without the engine.

        Raises:
            GraphError: if a choice of the graph is open.
        """

    def same_work(self, kernel: Kernel) -> tuple[Kernel, ...]:
        """Other kernels for which the engine runs the same code, so that a row of one of them prices this one too."""
        del kernel
        return ()

    def fuse_branches(self, branches: Sequence[OpGraph], target: Target) -> tuple[KernelCall, ...]:
        """The kernels of graphs that are parallel branches of one network, in the order in which they run."""
        return tuple(call for branch in branches for call in self.fuse(branch, target))

    def lower(
        self, file: Path, target: Target, *, input_shape: InputShape | None = None
    ) -> tuple[KernelCall, ...] | None:
        """The kernels that the engine itself reports for a model file; None if it does not report them.

        Args:
            file: Model file, with one of `suffixes`.
            target: Device and settings of the run.
            input_shape: Shape of the only input, or a mapping input -> shape; needed where the file leaves sizes open.

        Raises:
            GraphError: if the engine cannot run the file.
            InputMismatchError: if a size of an input is neither in the file nor given.
        """
        del file, target, input_shape
        return None

    def installed_version(self) -> str:
        """The version of the engine that `lower` would ask; empty where it is not installed, or reports no kernels."""
        return ""

    def executed_ops(self, calls: Sequence[KernelCall]) -> list[ExecutedOp] | None:
        """The ops that the engine should report for these kernels; None if it does not report what it runs."""
        del calls
        return None

    def agrees(self, ran: ExecutedOp, wanted: ExecutedOp) -> bool:
        """Whether an op that ran is the expected one."""
        return ran == wanted

    def agree(self, executed: Sequence[ExecutedOp], expected: Sequence[ExecutedOp]) -> bool:
        """Whether the ops that ran are the expected ones, in order."""
        return len(executed) == len(expected) and all(map(self.agrees, executed, expected))

    # ---- its files ----

    @abstractmethod
    def write(self, network: OpGraph | Path, path: Path, *, seed: int = 0) -> Path:
        """Write a network as the engine's file: a graph with random weights, or a model file with its own weights.

        Args:
            network: Graph or model file.
            path: File to write. A model file that is already the engine's may be linked there.
            seed: Seed of the random weights.

        Raises:
            MissingExtraError: if the engine's package is needed but not installed. The message says how to install it.
            MeasureError: if the graph has an op that cannot be written, or the engine refuses the model.
        """

    def export(self, model: nn.Module, example_input: Tensor | tuple[Tensor, ...], path: Path) -> Path:
        """Write a torch module as the engine's file: with its weights if `keeps_weights`, otherwise with random ones.

        Raises:
            MeasureError: if the module cannot be exported, or the engine refuses it.
        """
        from latency_nas.graph.torch.reader import read_torch

        return self.write(read_torch(model, example_input), path)

    # ---- its times ----

    def python(self) -> str:
        """The Python on this machine that has the engine. By default it is the running one.

        Raises:
            MissingExtraError: if there is none.
        """
        import sys

        return sys.executable

    def read_profile(self, text: str) -> OpTimes:
        """Parse the output of one of the engine's own programs, which ran elsewhere.

        Raises:
            MeasureError: if it is the output of none of `programs`.
        """
        for program in self.programs.values():
            try:
                return program.read(text)
            except MeasureError:
                continue
        known = ", ".join(self.programs) or "none is known"
        raise MeasureError(
            f"Expected what a benchmark program of {self.title} prints ({known}), but got {text[:60]!r}."
        )

    def check_file(self, file: Path) -> None:
        """Refuse a file that `write` does not accept.

        Raises:
            MeasureError: if it does not exist, or has none of `suffixes`.
        """
        if file.suffix not in self.suffixes or not file.is_file():
            known = ", ".join(self.suffixes)
            raise MeasureError(f"Expected a file that {self.title} takes ({known}), but got {file}.")

    def check_ops(self, ops: Sequence[Sequence[Any]] | None, calls: Sequence[KernelCall], name: str) -> None:
        """Compare the ops that a device side reported with the kernels that the rules give.

        Args:
            ops: Reported ops, ``[name, type, shapes read, shapes written]`` of each; None if the engine does not
                report them.
            calls: Kernels that the rules give.
            name: Name of the network, for the message.

        Raises:
            MeasureError: if they differ; the message names the first op that does.
        """
        expected = self.executed_ops(calls)
        if ops is None or expected is None:
            return
        executed = described_ops(ops)
        if self.agree(executed, expected):
            return
        pairs = [*zip(executed, expected, strict=False)]
        wrong = next((i for i, (ran, wanted) in enumerate(pairs) if not self.agrees(ran, wanted)), len(pairs))
        ran, wanted = (next(iter(side[wrong:]), None) for side in (executed, expected))
        raise MeasureError(
            f"Expected {self.title} to run the kernels that the fusion rules give for {name}, but op {wrong} is {ran} "
            f"and not {wanted}. The fusion rules of {self.title} do not cover this network."
        )


def described_ops(ops: Sequence[Sequence[Any]]) -> list[ExecutedOp]:
    """The ops that a device side reported, without their scalar operands."""
    shapes = [[tuple(map(tuple, side)) for side in op[2:4]] for op in ops]
    return [
        ExecutedOp(op[1], tuple(shape for shape in inputs if shape), outputs)
        for op, (inputs, outputs) in zip(ops, shapes, strict=True)
    ]
