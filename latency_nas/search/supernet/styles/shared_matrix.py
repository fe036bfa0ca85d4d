"""One matrix for many cells: DARTS, PC-DARTS, GDAS, NAS-Bench-201."""

from __future__ import annotations

import inspect
from collections import defaultdict
from typing import Any

from latency_nas.search.supernet.choice import Candidates, Choice, ParameterOf
from latency_nas.search.supernet.framework import Framework
from latency_nas.search.supernet.module_path import module_at
from latency_nas.search.supernet.sample import Sample
from latency_nas.search.supernet.styles.module_groups import module_groups, names_in

__all__ = ["find_shared_matrix", "matrices_of"]

_REDUCING = "reduc"  # part of the name of the matrix of reduction cells
_GATES = ("weights", "weightss", "hardwts", "gates", "probs")  # usual names of the argument that is the gates

Row = tuple[ParameterOf, str]  # the row of a matrix, and its name


def find_shared_matrix(supernet: Any, framework: Framework) -> tuple[Choice, ...]:
    """Cells with as many lists of candidates as a matrix has rows, and as many candidates as it has columns.

    As in DARTS (arXiv 1806.09055), where the matrix is a plain tensor and no parameter, PC-DARTS (arXiv 1907.05737),
    and the cells of NAS-Bench-201 (arXiv 2001.00326) with GDAS (arXiv 1910.04465). The matrix may also be a list of
    smaller ones, one for each node. The rows belong to the lists of a cell in their order, or in that of the cell's
    `edge2index`. With two matrices, the one with "reduc" in its name belongs to cells whose attribute `reduction` is
    true.

    The architecture is the largest weight of each row. DARTS itself goes on from there: it keeps only two edges of each
    node. An edge that is left out is priced as one with the zero operation, which costs nothing.
    """
    found = []
    matrices = matrices_of(supernet, framework)
    shapes = {name: (len(rows), _width(rows, supernet)) for name, rows in matrices.items()}
    for name, rows in matrices.items():
        cells = _cells(supernet, *shapes[name], framework)
        if list(shapes.values()).count(shapes[name]) > 1:
            cells = [item for item in cells if _is_reduction(item[1]) == (_REDUCING in name.lower())]
        places: dict[int, list[Candidates]] = defaultdict(list)
        for path, cell, lists in cells:
            for number, (key, group) in enumerate(lists):
                names = names_in(f"{path}.{key}" if path else key, group, framework)
                places[_row_of(cell, key, number)].append(names)
        if not cells or sorted(places) != list(range(len(rows))):
            continue
        for number, (weights, label) in enumerate(rows):
            first, *others = places[number]
            sample = _sample_of(supernet, first, number, framework)
            found.append(Choice(module=label, candidates=first, weights=weights, others=tuple(others), sample=sample))
    return tuple(found)


def matrices_of(supernet: Any, framework: Framework) -> dict[str, list[Row]]:
    """The matrices that could be architecture parameters: name -> rows."""
    found: dict[str, list[Row]] = {}
    for path, module in framework.named_modules(supernet):
        prefix = f"{path}." if path else ""
        if isinstance(module, framework.parameter_lists):
            tensors = framework.parameters(module)
            if tensors and all(len(tensor.shape) == 2 for tensor in tensors.values()):
                rows = [(key, row) for key, tensor in tensors.items() for row in range(len(tensor))]
                found[path] = [(ParameterOf(path, key, row), f"{path}.{key}[{row}]") for key, row in rows]
            continue
        for key, tensor in framework.tensors(module).items():
            is_matrix = len(tensor.shape) == 2 and min(tensor.shape) > 1
            if is_matrix and not isinstance(module, framework.with_matrices):
                rows_of = [(ParameterOf(path, key, row), f"{prefix}{key}[{row}]") for row in range(len(tensor))]
                found[f"{prefix}{key}"] = rows_of
    return found


def _width(rows: list[Row], supernet: Any) -> int:
    """The number of columns of a matrix."""
    return len(rows[0][0](supernet))


def _cells(
    supernet: Any, n_rows: int, width: int, framework: Framework
) -> list[tuple[str, Any, list[tuple[str, Any]]]]:
    """The innermost modules with `n_rows` lists of `width` candidates: name, module, and its lists with their names.

    A list itself is never a cell, since it cannot have the attribute `reduction`.
    """
    found = []
    for path, module in framework.named_modules(supernet):
        if isinstance(module, framework.lists):
            continue
        fitting = [(key, group) for key, group in module_groups(module, framework) if len(group) == width]
        lists = [item for item in fitting if not any(other.startswith(f"{item[0]}.") for other, _ in fitting)]
        if len(lists) == n_rows:
            found.append((path, module, lists))

    def contains(path: str, inner: str) -> bool:
        return inner != path and inner.startswith(f"{path}." if path else "")

    return [item for item in found if not any(contains(item[0], other[0]) for other in found)]


def _is_reduction(cell: Any) -> bool:
    return any(bool(getattr(cell, name, False)) for name in ("reduction", "reduce", "is_reduction"))


def _row_of(cell: Any, key: str, number: int) -> int:
    index = getattr(cell, "edge2index", None)
    edge = key.rpartition(".")[2]
    return int(index[edge]) if isinstance(index, dict) and edge in index else number


def _sample_of(supernet: Any, candidates: Candidates, row: int, framework: Framework) -> Sample | None:
    """Catches the gates of a row: they are an argument of the module that mixes the candidates, or of its cell."""
    path = next(name for name in candidates if name is not None)
    for _ in range(3):
        path = path.rpartition(".")[0]
        module = module_at(supernet, path)
        for method in ("forward_gdas", "forward"):
            names = list(inspect.signature(getattr(module, method)).parameters) if hasattr(type(module), method) else []
            argument = next((name for name in names if name in _GATES), None)
            if argument is not None:
                is_cell = method != "forward" or argument == "weightss"
                return framework.sample(path, argument=argument, row=row if is_cell else None, method=method)
    return None
