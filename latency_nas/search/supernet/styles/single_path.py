"""Sampled single paths, without architecture parameters: SPOS, FairNAS."""

from __future__ import annotations

from typing import Any

from latency_nas.search.supernet.choice import Choice
from latency_nas.search.supernet.framework import Framework
from latency_nas.search.supernet.styles.module_groups import names_in

__all__ = ["find_single_paths"]


def find_single_paths(supernet: Any, framework: Framework) -> tuple[Choice, ...]:
    """Lists of lists of candidates: the forward runs one candidate of each inner list, as in SPOS (arXiv 1904.00420).

    There are no weights; paths are sampled, and `LatencyLoss.price` prices them.
    """
    found = []
    for path, outer in framework.named_modules(supernet):
        if isinstance(outer, framework.lists[0]):
            for key, group in framework.children(outer).items():
                if isinstance(group, framework.lists) and len(group) > 1:
                    name = f"{path}.{key}" if path else key
                    found.append(Choice(module=name, candidates=names_in(name, group, framework)))
    return tuple(found)
