"""Sampled single paths, without architecture parameters: SPOS, FairNAS."""

from __future__ import annotations

from torch import nn

from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.styles.module_groups import ModuleGroup, names_in

__all__ = ["find_single_paths"]


def find_single_paths(supernet: nn.Module) -> tuple[Choice, ...]:
    """Lists of lists of candidates: the forward runs one candidate of each inner list, as in SPOS (arXiv 1904.00420).

    There are no weights; paths are sampled, and `LatencyLoss.price` prices them.
    """
    found = []
    for path, outer in supernet.named_modules():
        if isinstance(outer, nn.ModuleList):
            for key, group in vars(outer)["_modules"].items():
                if isinstance(group, ModuleGroup) and len(group) > 1:
                    name = f"{path}.{key}" if path else key
                    found.append(Choice(module=name, candidates=names_in(name, group)))
    return tuple(found)
