"""The styles of supernets that are recognised as they are, one file each."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.styles.module_groups import module_groups
from latency_nas.search.supernet.styles.per_op_alphas import find_per_op_alphas, vectors_of
from latency_nas.search.supernet.styles.shared_matrix import find_shared_matrix, matrices_of
from latency_nas.search.supernet.styles.single_path import find_single_paths

__all__ = ["STYLES", "nothing_found"]

_N_SHOWN = 6

# what a style looks like -> finds the choices of a supernet of that style, and else gives none
STYLES: dict[str, Callable[[nn.Module], tuple[Choice, ...]]] = {
    "a module with a list of candidates and a parameter vector of its own": find_per_op_alphas,
    "matrices with a row for each list of candidates in a cell": find_shared_matrix,
    "lists of lists of candidates, without architecture parameters": find_single_paths,
}


def nothing_found(supernet: nn.Module) -> str:
    """Why a supernet is of no known style: what it has, what is missing, and the lines to write."""
    lists = [f"`{path}` ({len(held)} modules)" for path, held in module_groups(supernet)]
    vectors = [
        f"`{path}.{name}` ({module.get_parameter(name).numel()})".replace("`.", "`")
        for path, module in supernet.named_modules()
        for name in (vectors_of(module) if next(iter(module.children()), None) is not None else ())
    ]
    matrices = [
        f"`{name}` ({len(rows)} x {rows[0][0](supernet).numel()})" for name, rows in matrices_of(supernet).items()
    ]
    return (
        f"Expected {type(supernet).__name__} to be a supernet of a known style ({'; '.join(STYLES)}), but it is none. "
        f"Found: lists of modules: {_shown(lists)}; parameter vectors beside them: {_shown(vectors)}; matrices: "
        f"{_shown(matrices)}. {_missing(lists, vectors, matrices)} Name the choices: latency.attach(supernet, "
        f"run=lambda net: net(x), groups={{'first': supernet.blocks[0].ops}}, "
        f"gates=lambda net: {{'first': net.alphas[0].softmax(-1)}}); without architecture parameters leave `gates` "
        f"out; an elastic supernet is given as latency.attach(supernet, x, options={{'depth': (2, 3, 4)}}, "
        f"subnet=lambda net, config: net.subnet(**config)).{'' if vectors or matrices else _flat(supernet)}"
    )


def _flat(supernet: nn.Module) -> str:
    """The lines for one list that holds the candidates of several choices, as SPOS is often written."""
    flat = [(len(held), path) for path, held in module_groups(supernet) if isinstance(held, nn.ModuleList)]
    if not flat:
        return ""
    n, path = max(flat)
    return (
        f" Where `{path}` holds the candidates of several choices, n of each: held = supernet.get_submodule('{path}'); "
        f"latency.attach(supernet, x, groups={{f'choice{{i}}': held[n * i : n * i + n] for i in range({n} // n)}})."
    )


def _shown(found: list[str]) -> str:
    more = f" and {len(found) - _N_SHOWN} more" if len(found) > _N_SHOWN else ""
    return f"{', '.join(found[:_N_SHOWN]) or 'none'}{more}"


def _missing(lists: list[str], vectors: list[str], matrices: list[str]) -> str:
    if not lists:
        return "Missing: a ModuleList or ModuleDict of candidates."
    if not vectors and not matrices:
        return "Missing: architecture parameters, one for each of a list's modules."
    return "Missing: architecture parameters as long as the lists they would belong to."
