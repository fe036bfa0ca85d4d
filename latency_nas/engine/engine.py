"""`Engine`: everything that this library knows of an inference engine, behind one interface."""

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
from latency_nas.kernel import Shape
from latency_nas.kernel.kernel_call import KernelCall

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["Engine", "ExecutedOp", "Program", "described_ops"]


@dataclass(frozen=True, slots=True)
class ExecutedOp:
    """An op that an engine ran: its type, the shapes that it read (scalar operands left out) and wrote."""

    type: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A benchmark program that comes with an engine, built by the user.

    Args:
        arguments: Command line after the program's path, of (model's path, runs, untimed runs, shape of the first
            input, threads, precision).
        read: Reader of what it prints.
        times_ops: Whether it times single ops.
    """

    arguments: Callable[[str, int, int, Sequence[int], int, str], list[str]]
    read: Callable[[str], OpTimes]
    times_ops: bool = True


class Engine(ABC):
    """An inference engine: what it makes of a network, how it is given one, and how it is timed.

    A new engine is a folder with a subclass, and one line in the registry or an entry point of another package
    (``docs/adding-an-engine.md``). Constructors take no arguments and do nothing: whatever needs the engine's own
    package imports it when it is called.
    """

    name: ClassVar[str]
    """The name in code and at the command line, ``"paddle-lite"``."""
    title: ClassVar[str]
    """The name in datasheets and messages, ``"Paddle-Lite"``; looked up without regard to case, as `name` is."""
    install: ClassVar[str]
    """The command that installs it for a Python on a device."""
    suffixes: ClassVar[tuple[str, ...]]
    """Endings of the model files that `write` takes as they are; the first is that of the files that it makes."""
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    power_modes: ClassVar[tuple[str, ...]] = ("normal",)
    versions: ClassVar[tuple[str, ...]] = ("",)
    """Dialects of the rules, as `Target.version` names them."""
    layout_ops: ClassVar[frozenset[str]] = frozenset()
    """Ops of kernels that come about between others, such as copies between layouts, and never alone."""
    keeps_weights: ClassVar[bool] = False
    """Whether `export` takes over a torch module's weights."""
    times_ops: ClassVar[bool] = True
    """Whether `device_side` times single ops; if not, each kernel is timed as a network of its own."""
    programs: ClassVar[Mapping[str, Program]] = {}
    """The engine's own benchmark programs, by file name."""
    refused_precisions: ClassVar[Mapping[str, str]] = {}
    """Precisions in which kernels cannot be measured with random weights, and why."""
    device_side: ClassVar[Path]
    """The file that runs on a device; see `latency_nas.engine.serving`."""

    # ---- what it makes of a network ----

    @abstractmethod
    def fuse(self, graph: OpGraph, target: Target) -> tuple[KernelCall, ...]:
        """The kernels that the engine runs for a graph, in order, by rules; the engine need not be installed.

        Raises:
            GraphError: if a choice of the graph is open.
        """

    def fuse_branches(self, branches: Sequence[OpGraph], target: Target) -> tuple[KernelCall, ...]:
        """The kernels of graphs that stand side by side in one network, in the order in which they run."""
        return tuple(call for branch in branches for call in self.fuse(branch, target))

    def lower(self, file: Path, target: Target) -> tuple[KernelCall, ...] | None:
        """The kernels that the engine itself makes of a model file; None if it does not tell."""
        del file, target
        return None

    def executed_ops(self, calls: Sequence[KernelCall]) -> list[ExecutedOp] | None:
        """What the engine should report to run for these kernels; None if it does not tell what it runs."""
        del calls
        return None

    def agrees(self, ran: ExecutedOp, wanted: ExecutedOp) -> bool:
        """Whether an op that ran is the one that was expected."""
        return ran == wanted

    def agree(self, executed: Sequence[ExecutedOp], expected: Sequence[ExecutedOp]) -> bool:
        """Whether the ops that ran are those that were expected, in order."""
        return len(executed) == len(expected) and all(map(self.agrees, executed, expected))

    # ---- how it is given one ----

    @abstractmethod
    def write(self, network: OpGraph | Path, path: Path, *, seed: int = 0) -> Path:
        """Make the engine's file of a graph, with random weights, or of a model file, with its own.

        Args:
            network: Graph or model file.
            path: File to be made; one that the engine takes as it is may be linked there.
            seed: Seed of random weights.

        Raises:
            MissingExtraError: if the engine's package is needed and not installed; the message says how to install it.
            MeasureError: if the graph has an op that cannot be written, or the engine refuses the model.
        """

    def export(self, model: nn.Module, example_input: Tensor | tuple[Tensor, ...], path: Path) -> Path:
        """Make the engine's file of a torch module: with its weights if `keeps_weights`, else with random ones.

        Raises:
            MeasureError: if the module cannot be exported, or the engine refuses it.
        """
        from latency_nas.graph.torch.reader import read_torch

        return self.write(read_torch(model, example_input), path)

    # ---- how it is timed ----

    def python(self) -> str:
        """The interpreter on this machine that has the engine: this one, unless the engine needs another.

        Raises:
            MissingExtraError: if there is none.
        """
        import sys

        return sys.executable

    def read_profile(self, text: str) -> OpTimes:
        """The times in what one of the engine's own programs printed elsewhere.

        Raises:
            MeasureError: if none of `programs` prints so.
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
        """Refuse a file that `write` does not take.

        Raises:
            MeasureError: if it is not there, or of another ending than `suffixes`.
        """
        if file.suffix not in self.suffixes or not file.is_file():
            known = ", ".join(self.suffixes)
            raise MeasureError(f"Expected a file that {self.title} takes ({known}), but got {file}.")

    def check_ops(self, ops: Sequence[Sequence[Any]] | None, calls: Sequence[KernelCall], name: str) -> None:
        """Hold the ops that a device side told against the kernels that the rules give.

        Args:
            ops: Answer of the device side, ``[name, type, shapes read, shapes written]`` of each op; None if the
                engine does not tell.
            calls: Kernels by the rules.
            name: Network, for the message.

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
    """The device side's description of the executed ops; scalar operands are left out."""
    shapes = [[tuple(map(tuple, side)) for side in op[2:4]] for op in ops]
    return [
        ExecutedOp(op[1], tuple(shape for shape in inputs if shape), outputs)
        for op, (inputs, outputs) in zip(ops, shapes, strict=True)
    ]
