"""`BlockTable`: the latency of each block of a network, as tables of architecture searches hold them."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from latency_nas.errors import MissingKernelError, TableError, short_repr
from latency_nas.table.datasheet import Datasheet, finite

__all__ = ["BlockTable"]

_N_CLOSE = 3
_N_COMPARED = 2000  # keys, since each comparison takes a tenth of a millisecond or more


@dataclass(frozen=True, slots=True, eq=False)
class BlockTable:
    """An immutable table: key of a block -> its latency in milliseconds.

    A block is a candidate of a layer, such as an inverted residual: several kernels of an engine, which the table does
    not tell apart. So it cannot price a model; its blocks make a plan (`plan_of_candidates`). The errors of the
    latencies are not known.

    Args:
        latencies_ms: Latency of each block by its key. Keys of a group of candidates are ``"group/candidate"``.
        datasheet: Conditions of all blocks.
        name: Name of the table in messages.

    Raises:
        TableError: if there is no block, or a latency is not a finite number >= 0.

    Example:
        >>> sheet = Datasheet(device="Example phone", engine="TFLite", method="imported")
        >>> table = BlockTable({"layer 0/3x3": 2.0, "layer 0/5x5": 3.5, "head": 1.0}, sheet)
        >>> table["head"], dict(table.groups["layer 0"])
        (1.0, {'3x3': 2.0, '5x5': 3.5})
    """

    latencies_ms: Mapping[str, float]
    datasheet: Datasheet
    name: str = "unsaved table"
    groups: Mapping[str, Mapping[str, float]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.latencies_ms:
            raise TableError(f"Expected blocks in {self.name}, but there is none.")
        latencies_ms = {key: finite(key, value) for key, value in self.latencies_ms.items()}
        groups: dict[str, dict[str, float]] = {}
        for key, value in latencies_ms.items():
            group, slash, candidate = key.rpartition("/")
            if slash:
                groups.setdefault(group, {})[candidate] = value
        object.__setattr__(self, "latencies_ms", MappingProxyType(latencies_ms))
        object.__setattr__(self, "groups", MappingProxyType(groups))

    def __getitem__(self, key: str) -> float:
        if key not in self.latencies_ms:
            raise MissingKernelError(f"{self.name} has no block {key!r}{self._hint(key)}.")
        return self.latencies_ms[key]

    def _hint(self, key: str) -> str:
        group = key.rpartition("/")[0]
        if group in self.groups:
            names = list(self.groups[group])
            return f": the candidates of {group!r} are {short_repr(names)}"
        known = [*self.groups, *(name for name in self.latencies_ms if "/" not in name)]
        close = difflib.get_close_matches(group or key, known[:_N_COMPARED], n=_N_CLOSE)
        return f"; similar ones are {', '.join(map(repr, close))}" if close else ""

    def __contains__(self, key: object) -> bool:
        return key in self.latencies_ms

    def __len__(self) -> int:
        return len(self.latencies_ms)

    def __iter__(self) -> Iterator[str]:
        return iter(self.latencies_ms)

    def fingerprint(self) -> str:
        """SHA-256 of the blocks and the datasheet, independent of the order of blocks."""
        text = json.dumps([sorted(self.latencies_ms.items()), self.datasheet.fingerprinted()], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def __repr__(self) -> str:
        return f"<BlockTable {self.name}: {len(self)} blocks. {self.datasheet}>"
