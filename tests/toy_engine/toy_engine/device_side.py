"""The toy engine itself, as it runs on a device: the standard library and NumPy, from Python 3.8 on."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Callable, Iterator, Sequence  # noqa: UP035 - Python 3.8

from latency_nas.engine.serving import RunnerError, no_garbage_collection

if "numpy" not in sys.modules:  # too late otherwise: a library reads these when it is loaded
    os.environ.update({library + "_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "OMP")})
try:
    import numpy as np
except ImportError:
    np = None

__all__ = ["Network", "about"]

_FOLDS = (("conv2d", "batch_norm"), *((op, act) for op in ("conv2d", "linear") for act in ("relu", "relu6")))
_TYPES = {"conv2d": "Convolution", "linear": "Dense", "pool2d": "Pooling", "batch_norm": "Scale"}
_TRANSPOSED = {"pixels": (0, 2, 3, 1), "planes": (0, 3, 1, 2)}  # layout -> from the other one

_Array = Any  # numpy.ndarray


def about() -> dict[str, Any]:
    """The engine."""
    if np is None:
        raise RunnerError(f"Expected NumPy to be installed for {sys.executable}, but it is not: pip install numpy")
    return {"engine": "Toy Engine", "engine_version": "1.0"}


class _Step:
    """A node, what it reads, and what runs it."""

    def __init__(self, node: Sequence[Any], weights: list[_Array]) -> None:
        self.name, self.op, self.inputs, self.outputs, self.attrs = node[:5]
        self.weights = weights
        self.act = ""
        self.layout = "planes"

    @property
    def type(self) -> str:
        return _TYPES.get(self.op, self.op)

    def fold(self, op: str, weights: list[_Array]) -> None:
        if op != "batch_norm":
            self.act = op
            return
        kernel, bias = (*self.weights, 0.0)[:2]
        self.weights = [kernel * weights[0], bias * weights[0] + weights[1]]

    def run(self, inputs: Sequence[_Array], shape: Sequence[int]) -> _Array:
        out = _RUN[self.op](self, inputs, shape)
        return _RUN[self.act](self, [out], shape) if self.act else out


class _Copy:
    """A value copied into another layout."""

    op = type = "Layout"
    attrs: dict[str, Any] = {}  # noqa: RUF012 - never changed

    def __init__(self, source: tuple[int, str], layout: str) -> None:
        self.name, self.inputs, self.outputs = f"layout of {source[0]}", [source[0]], [source[0]]
        self.source_layout, self.layout = source[1], layout

    def run(self, inputs: Sequence[_Array], shape: Sequence[int]) -> _Array:
        del shape
        return np.ascontiguousarray(inputs[0].transpose(_TRANSPOSED[self.layout]))


def _shifted(step: _Step, x: _Array, shape: Sequence[int], fill: float = 0.0) -> Iterator[_Array]:
    """What each place of the window sees, of shape ``(batch, height out, width out, channels)``."""
    attrs = step.attrs
    kernel, stride, pad = attrs["kernel"], attrs["stride"], attrs["pad"]
    dilation = attrs.get("dilation", (1, 1))
    spans = [(shape[2 + a] - 1) * stride[a] + 1 for a in (0, 1)]
    ends = [spans[a] + (kernel[a] - 1) * dilation[a] - x.shape[1 + a] - pad[a] for a in (0, 1)]
    margins = [(pad[a], max(0, ends[a])) for a in (0, 1)]
    x = np.pad(x, [(0, 0), *margins, (0, 0)], constant_values=fill)
    for row in range(0, kernel[0] * dilation[0], dilation[0]):
        for column in range(0, kernel[1] * dilation[1], dilation[1]):
            yield x[:, row : row + spans[0] : stride[0], column : column + spans[1] : stride[1]]


def _conv2d(step: _Step, inputs: Sequence[_Array], shape: Sequence[int]) -> _Array:
    kernel, bias = (*step.weights, 0.0)[:2]
    n_groups, places = step.attrs["group"], kernel.reshape(-1, *kernel.shape[2:])
    if n_groups == inputs[0].shape[3] == shape[1]:  # depthwise
        out = sum(seen * place[0] for seen, place in zip(_shifted(step, inputs[0], shape), places))  # noqa: B905
    else:
        seen = [np.split(item, n_groups, axis=3) for item in _shifted(step, inputs[0], shape)]
        matrices = np.split(places.reshape(-1, shape[1]), n_groups, axis=1)
        groups = [np.concatenate(items, axis=3) for items in zip(*seen)]  # noqa: B905
        out = np.concatenate([rows @ matrix for rows, matrix in zip(groups, matrices)], axis=3)  # noqa: B905
    return out + bias


def _pool2d(step: _Step, inputs: Sequence[_Array], shape: Sequence[int]) -> _Array:
    largest = step.attrs["type"] == "max"
    seen = list(_shifted(step, inputs[0], shape, -np.inf if largest else 0.0))
    return np.maximum.reduce(seen) if largest else sum(seen) / len(seen)


def _linear(step: _Step, inputs: Sequence[_Array], shape: Sequence[int]) -> _Array:
    return inputs[0] @ step.weights[0] + (*step.weights, 0.0)[1]


def _reduce_mean(step: _Step, inputs: Sequence[_Array], shape: Sequence[int]) -> _Array:
    return inputs[0].mean(axis=tuple(step.attrs["axes"])).reshape(shape)


def _operands(step: _Step, inputs: Sequence[_Array]) -> list[_Array]:
    """Both operands; a weight lies as what it is added to, and a number is not in the file."""
    other = [_laid_out(weight, step.layout) for weight in step.weights]
    return [*inputs, *other, 0.5][:2]


def _laid_out(array: _Array, layout: str) -> _Array:
    return array.transpose(_TRANSPOSED[layout]) if layout == "pixels" and array.ndim == 4 else array


_RUN: dict[str, Callable[[Any, Any, Any], _Array]] = {
    "conv2d": _conv2d,
    "pool2d": _pool2d,
    "linear": _linear,
    "reduce_mean": _reduce_mean,
    "batch_norm": lambda step, inputs, shape: inputs[0] * step.weights[0] + step.weights[1],
    "add": lambda step, inputs, shape: np.add(*_operands(step, inputs)),
    "mul": lambda step, inputs, shape: np.multiply(*_operands(step, inputs)),
    "relu": lambda step, inputs, shape: np.maximum(inputs[0], 0),
    "relu6": lambda step, inputs, shape: np.clip(inputs[0], 0, 6),
    "sigmoid": lambda step, inputs, shape: 1 / (1 + np.exp(-inputs[0])),
    "concat": lambda step, inputs, shape: np.concatenate(inputs, axis=step.attrs["axis"]),
    "reshape": lambda step, inputs, shape: inputs[0].reshape(shape),
}
_ON_PIXELS = ("conv2d", "pool2d", "batch_norm")
_ON_EITHER = ("relu", "relu6", "sigmoid", "add", "mul")


class Network:
    """A file that was opened: its nodes folded, and the copies between layouts laid between them.

    Args:
        path: Path of the ``.toy`` file.
        threads: 1.
        precision: ``"fp32"``.
        power_mode: ``"normal"``.
    """

    def __init__(self, path: str, threads: int = 1, precision: str = "fp32", power_mode: str = "normal") -> None:
        if (threads, precision, power_mode) != (1, "fp32", "normal"):
            raise RunnerError(f"Expected 1 thread, fp32 and normal, but got {threads}, {precision} and {power_mode}.")
        about()
        try:
            with Path(path).open("rb") as file:
                graph, data = json.loads(file.readline()), file.read()
        except (OSError, ValueError) as error:
            opened = Path(path).resolve()
            raise RunnerError(f"Toy Engine could not open {opened}: it is missing, or no file of its own.") from error
        self._shapes, self._outputs = graph["values"], graph["outputs"]
        self._steps: list[Any] = []
        self._read(graph, np.frombuffer(data, "<f4"))
        self.input_shape = self._shapes[graph["inputs"][0]]
        self.memory_mb = (len(data) + 4 * sum(np.prod(shape) for shape in self._shapes)) / 2**20
        draw = np.random.default_rng(0)
        self._inputs = {i: draw.standard_normal(self._shapes[i]).astype("f4") for i in graph["inputs"]}

    def _read(self, graph: dict[str, Any], data: _Array) -> None:
        taken = 0
        makers: dict[int, _Step] = {}
        layouts = {index: ["planes"] for index in graph["inputs"]}
        readers = [index for node in graph["nodes"] for index in node[2]] + graph["outputs"]
        for node in graph["nodes"]:
            weights = []
            for shape in node[5]:
                size = int(np.prod(shape))
                weights.append(data[taken : taken + size].reshape(shape))
                taken += size
            before = makers.get(node[2][0])
            if before and (before.op, node[1]) in _FOLDS and not before.act and readers.count(node[2][0]) == 1:
                before.fold(node[1], weights)
                layouts[node[3][0]] = layouts.pop(before.outputs[0])
                before.outputs, makers[node[3][0]] = node[3], before
                continue
            makers[node[3][0]] = step = _Step(node, weights)
            step.layout = self._layout_of(step, layouts)
            for index in step.inputs:
                self._need(index, step.layout, layouts)
            self._steps.append(step)
            layouts.update({index: [step.layout] for index in step.outputs})
        for index in graph["outputs"]:
            self._need(index, "planes", layouts)

    def _layout_of(self, step: _Step, layouts: dict[int, list[str]]) -> str:
        if step.op in _ON_PIXELS and len(self._shapes[step.inputs[0]]) == 4:
            return "pixels"
        read_layouts = {layouts[index][0] for index in step.inputs}
        return read_layouts.pop() if step.op in _ON_EITHER and len(read_layouts) == 1 else "planes"

    def _need(self, index: int, layout: str, layouts: dict[int, list[str]]) -> None:
        if layout not in layouts[index]:
            self._steps.append(_Copy((index, layouts[index][0]), layout))
            layouts[index].append(layout)

    def compute(self, inputs: dict[int, _Array], clock: Callable[[], int] = time.perf_counter_ns) -> Any:
        """The outputs, and when each op began and ended."""
        values = {(index, "planes"): array for index, array in inputs.items()}
        stamps = []
        for step in self._steps:
            layout = step.source_layout if isinstance(step, _Copy) else step.layout
            read = [values[index, layout] for index in step.inputs]
            begun = clock()
            values[step.outputs[0], step.layout] = step.run(read, self._shapes[step.outputs[0]])
            stamps.append((begun, clock()))
        return [values[index, "planes"] for index in self._outputs], stamps

    def run_ms(self, n_runs: int) -> list[float]:
        """Milliseconds of whole runs."""
        times = []
        with no_garbage_collection():
            for _ in range(n_runs):
                begun = time.perf_counter_ns()
                self.compute(self._inputs, int)
                times.append((time.perf_counter_ns() - begun) / 1e6)
        return times

    def profile_ms(self, n_runs: int) -> list[list[float]]:
        """Milliseconds of each op in each run."""
        with no_garbage_collection():
            runs = [self.compute(self._inputs)[1] for _ in range(n_runs)]
        return [[(ended - begun) / 1e6 for begun, ended in run] for run in runs]

    def executed(self) -> list[Any]:
        """Name, type, shapes read and shapes written of every op of a run."""
        sides = [([self._shapes[i] for i in s.inputs], [self._shapes[i] for i in s.outputs]) for s in self._steps]
        return [[step.name, step.type, *side] for step, side in zip(self._steps, sides)]  # noqa: B905
