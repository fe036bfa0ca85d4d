"""One matrix for many cells: DARTS, PC-DARTS, GDAS, NAS-Bench-201."""

from __future__ import annotations

import inspect
from collections import defaultdict

from torch import Tensor, nn

from latency_nas.search.supernet.choice import Candidates, Choice, ParameterOf
from latency_nas.search.supernet.sample import Sample
from latency_nas.search.supernet.styles.module_groups import ModuleGroup, module_groups, names_in

__all__ = ["find_shared_matrix", "matrices_of"]

_REDUCING = "reduc"  # part of the name of the matrix of reduction cells
_GATES = ("weights", "weightss", "hardwts", "gates", "probs")  # usual names of the argument that is the gates

Row = tuple[ParameterOf, str]  # the row of a matrix, and its name


def find_shared_matrix(supernet: nn.Module) -> tuple[Choice, ...]:
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
    matrices = matrices_of(supernet)
    for name, rows in matrices.items():
        width = rows[0][0](supernet).numel()
        same_shape = [
            other
            for other, its_rows in matrices.items()
            if (len(its_rows), its_rows[0][0](supernet).numel()) == (len(rows), width)
        ]
        cells = _cells(supernet, len(rows), width)
        if len(same_shape) > 1:
            cells = [item for item in cells if _is_reduction(item[1]) == (_REDUCING in name.lower())]
        places: dict[int, list[Candidates]] = defaultdict(list)
        for path, cell, lists in cells:
            for number, (key, group) in enumerate(lists):
                places[_row_of(cell, key, number)].append(names_in(f"{path}.{key}" if path else key, group))
        if not cells or sorted(places) != list(range(len(rows))):
            continue
        for number, (weights, label) in enumerate(rows):
            first, *others = places[number]
            sample = _sample_of(supernet, first, number)
            found.append(Choice(module=label, candidates=first, weights=weights, others=tuple(others), sample=sample))
    return tuple(found)


def matrices_of(supernet: nn.Module) -> dict[str, list[Row]]:
    """The matrices that could be architecture parameters: name -> rows."""
    found: dict[str, list[Row]] = {}
    for path, module in supernet.named_modules():
        prefix = f"{path}." if path else ""
        if isinstance(module, nn.ParameterList):
            tensors = list(module.named_parameters(recurse=False))
            if tensors and all(tensor.dim() == 2 for _, tensor in tensors):
                rows = [(key, row) for key, tensor in tensors for row in range(len(tensor))]
                found[path] = [(ParameterOf(path, key, row), f"{path}.{key}[{row}]") for key, row in rows]
            continue
        plain = {key: value for key, value in vars(module).items() if isinstance(value, Tensor) and value.requires_grad}
        own = {**plain, **dict(module.named_parameters(recurse=False))}
        for key, tensor in own.items():
            if tensor.dim() == 2 and min(tensor.shape) > 1 and not isinstance(module, nn.Linear | nn.Embedding):
                rows_of = [(ParameterOf(path, key, row), f"{prefix}{key}[{row}]") for row in range(len(tensor))]
                found[f"{prefix}{key}"] = rows_of
    return found


def _cells(supernet: nn.Module, n_rows: int, width: int) -> list[tuple[str, nn.Module, list[tuple[str, ModuleGroup]]]]:
    """The innermost modules with `n_rows` lists of `width` candidates: name, module, and its lists with their names.

    A list itself is never a cell, since it cannot have the attribute `reduction`.
    """
    found = []
    for path, module in supernet.named_modules():
        if isinstance(module, ModuleGroup):
            continue
        fitting = [(key, group) for key, group in module_groups(module) if len(group) == width]
        lists = [item for item in fitting if not any(other.startswith(f"{item[0]}.") for other, _ in fitting)]
        if len(lists) == n_rows:
            found.append((path, module, lists))

    def contains(path: str, inner: str) -> bool:
        return inner != path and inner.startswith(f"{path}." if path else "")

    return [item for item in found if not any(contains(item[0], other[0]) for other in found)]


def _is_reduction(cell: nn.Module) -> bool:
    return any(bool(getattr(cell, name, False)) for name in ("reduction", "reduce", "is_reduction"))


def _row_of(cell: nn.Module, key: str, number: int) -> int:
    index = getattr(cell, "edge2index", None)
    edge = key.rpartition(".")[2]
    return int(index[edge]) if isinstance(index, dict) and edge in index else number


def _sample_of(supernet: nn.Module, candidates: Candidates, row: int) -> Sample | None:
    """Catches the gates of a row: they are an argument of the module that mixes the candidates, or of its cell."""
    path = next(name for name in candidates if name is not None)
    for _ in range(3):
        path = path.rpartition(".")[0]
        module = supernet.get_submodule(path)
        for method in ("forward_gdas", "forward"):
            names = list(inspect.signature(getattr(module, method)).parameters) if hasattr(type(module), method) else []
            argument = next((name for name in names if name in _GATES), None)
            if argument is not None:
                is_cell = method != "forward" or argument == "weightss"
                return Sample(path, argument=argument, row=row if is_cell else None, method=method)
    return None
