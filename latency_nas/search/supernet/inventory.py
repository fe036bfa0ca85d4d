"""For a supernet of no known style: what it has, and the shortest lines of code that name its choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from latency_nas.search.supernet.framework import Framework
from latency_nas.search.supernet.styles.module_groups import module_groups, vectors_of
from latency_nas.search.supernet.styles.shared_matrix import matrices_of

__all__ = ["Inventory", "inventory_of", "lines_for"]

# parts of the names of parameters that weigh options, not modules
_OF_OPTIONS = ("width", "channel", "depth", "expan", "kernel", "resol", "ratio")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The parts of a supernet that could hold candidates or architecture parameters, by name.

    Args:
        lists: Number of modules in each list (or dictionary) of modules.
        children: Number of children of each other module that has two or more.
        vectors: Length of each parameter vector that a module with children owns.
        matrices: Rows and columns of each parameter matrix that no layer of the framework owns.
    """

    lists: dict[str, int]
    children: dict[str, int]
    vectors: dict[str, int]
    matrices: dict[str, tuple[int, int]]


def inventory_of(supernet: Any, framework: Framework) -> Inventory:
    """The parts of a supernet that could hold candidates or architecture parameters."""
    modules = list(framework.named_modules(supernet))
    n_children = {
        path: len(framework.children(module)) for path, module in modules if not isinstance(module, framework.lists)
    }
    vectors = {
        f"{path}.{name}".lstrip("."): length
        for path, module in modules
        if n_children.get(path)
        for name, length in vectors_of(module, framework).items()
    }
    return Inventory(
        lists={path: len(group) for path, group in module_groups(supernet, framework)},
        children={path: n for path, n in n_children.items() if n > 1},
        vectors=vectors,
        matrices={
            name: (len(rows), len(rows[0][0](supernet))) for name, rows in matrices_of(supernet, framework).items()
        },
    )


def lines_for(found: Inventory, softmax: str) -> str:
    """The shortest lines of code that would name the choices of such a supernet.

    Args:
        found: Parts of the supernet.
        softmax: Softmax of a tensor ``{0}``, as a user of the framework writes it.
    """
    of_options = (name for name in [*found.matrices, *found.vectors] if any(map(name.lower().count, _OF_OPTIONS)))
    if (weights := next(of_options, None)) is not None:
        return _options(weights, found, softmax)
    for vector, length in found.vectors.items():
        group = _group_beside(vector, length, found)
        if group is not None:
            key = vector.rpartition(".")[0] or vector
            return _attach(
                f"groups_of({{'{key}': {group}}}, "
                f"gates=lambda net: {{'{key}': {softmax.format(_expression('net', vector))}}})",
                "with an entry for each choice",
            )
    for matrix, (n_rows, n_columns) in found.matrices.items():
        fitting = [name for name, length in found.lists.items() if length == n_columns]
        lists = [name for name in fitting if not any(other.startswith(f"{name}.") for other in fitting)]
        if len(lists) >= n_rows:
            first = ", ".join(_expression("supernet", name) for name in lists[:2])
            more = ", ..." if n_rows > 2 else ""
            return _attach(
                f"groups_of({{f'choice{{i}}': ops for i, ops in enumerate([{first}{more}])}}, gates=lambda net: "
                f"{{f'choice{{i}}': row for i, row in enumerate({softmax.format(_expression('net', matrix))})}})",
                f"with the {n_rows} lists in the order of the rows",
            )
    weights = next(iter([*found.matrices, *found.vectors]), None)
    if weights is not None:  # no list has as many modules, so these are weights of widths, depths or other options
        return _options(weights, found, softmax)
    if found.lists:
        length, name = max((length, name) for name, length in found.lists.items())
        flat = (
            f"; if the list holds n candidates of each of several choices: "
            f"ops = list({_expression('supernet', name)}); "
            f"groups_of({{f'choice{{i}}': ops[n * i : n * i + n] for i in range({length} // n)}})"
        )
        return _attach(
            f"groups_of({{'{name}': {_expression('supernet', name)}}})",
            f"with an entry for each choice, and gates=... where there are weights{flat}",
        )
    return _attach(
        "options_of({'depth': (2, 3, 4)}, lambda net, config: net.subnet(**config))",
        "where the function returns what runs for a configuration",
    )


def _options(weights: str, found: Inventory, softmax: str) -> str:
    """The lines for a vector or a matrix of weights of options."""
    row = f"{_expression('net', weights)}{'[0]' if weights in found.matrices else ''}"
    n = found.matrices[weights][1] if weights in found.matrices else found.vectors[weights]
    return _attach(
        f"options_of({{'width0': WIDTHS}}, configure, gates=lambda net: {{'width0': {softmax.format(row)}}})",
        f"with an entry of {n} options for each choice; configure(net, config) sets them and returns what runs",
    )


def _group_beside(vector: str, length: int, found: Inventory) -> str | None:
    """The expression of modules as many as a vector's numbers, preferably in the same module as the vector."""
    owner = vector.rpartition(".")[0]
    lists = [name for name, n in found.lists.items() if n == length]
    near = [name for name in lists if name.rpartition(".")[0] == owner]
    inside = [name for name, n in found.children.items() if n == length and owner in (name, name.rpartition(".")[0])]
    if inside and not near:
        return f"{_expression('supernet', inside[0])}.children()"
    return _expression("supernet", (near or lists)[0]) if near or lists else None


def _expression(root: str, name: str) -> str:
    """``supernet.blocks[0].ops`` for ``blocks.0.ops``."""
    parts = [f"[{part}]" if part.isdigit() else f".{part}" for part in name.split(".") if part]
    return root + "".join(parts)


def _attach(choices: str, remark: str) -> str:
    return f"latency.attach(supernet, x, choices={choices}) ({remark})."
