"""The identity of a table: the device and the engine of its numbers, compared with those at hand.

The rule is strict, since a wrong yes is worse than a wrong no. The engine, its version, the processor and the
instruction set must be the same. One that a side does not state cannot be confirmed and counts as different.
Processors are compared by their whole names, except for case, blanks and trademark signs. ``AMD EPYC`` is the name of
a family, so it differs from the ``AMD EPYC 7763 64-Core Processor`` that a virtual machine reports. Threads, precision,
power mode and batch are options of a run. They are compared where both sides state them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from latency_nas.errors import TableError, short_repr
from latency_nas.table.datasheet import Datasheet

__all__ = ["Identity", "architecture_of", "check_identity"]

# result of ``platform.machine()`` or ``uname -m`` -> the instruction set, as datasheets name it
_ARCHITECTURES = {"x86_64": "x86-64", "amd64": "x86-64", "arm64": "aarch64"}
# fields that both sides must state; the others are compared only where both state them
_CONFIRMED = ("processor", "architecture", "engine", "engine_version", "emulated")
_TRADEMARKS = re.compile(r"\((?:r|tm|c)\)|[®™©]", re.IGNORECASE)


def architecture_of(machine: str) -> str:
    """The instruction set of a machine, as datasheets name it.

    Args:
        machine: Result of ``platform.machine()`` or ``uname -m``.

    Example:
        >>> architecture_of("x86_64"), architecture_of("arm64"), architecture_of("riscv64")
        ('x86-64', 'aarch64', 'riscv64')
    """
    return _ARCHITECTURES.get(machine.casefold(), machine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A device, an engine on it, and the options of its runs. ``""`` and None mean unknown.

    Args:
        processor: Name of the processor, or of the system on a chip.
        architecture: Instruction set, ``"x86-64"`` or ``"aarch64"``.
        engine: Name of the engine.
        engine_version: Version of the engine.
        threads: Number of threads of the engine.
        precision: Precision of the arithmetic.
        power_mode: Setting of the engine or of the governor.
        batch: Number of images per run.
        emulated: Whether the engine runs under emulation.
    """

    processor: str = ""
    architecture: str = ""
    engine: str = ""
    engine_version: str = ""
    threads: int | None = None
    precision: str = ""
    power_mode: str = ""
    batch: int | None = None
    emulated: bool = False

    @classmethod
    def of_datasheet(cls, sheet: Datasheet) -> Identity:
        """The identity that a datasheet states."""
        shared = {field.name: getattr(sheet, field.name) for field in fields(cls) if field.name != "processor"}
        return cls(processor=sheet.soc, **shared)

    @classmethod
    def of_hello(cls, hello: Mapping[str, Any], **options: Any) -> Identity:
        """The identity that the device side of an engine reports.

        Args:
            hello: Answer of the device side, with the keys ``processor``, ``machine``, ``engine``, ``engine_version``
                and ``emulated``. A missing key means unknown.
            **options: Options of the run that is compared: ``threads``, ``precision``, ``power_mode``, ``batch``.

        Raises:
            TableError: if one of its values is of another type.
        """
        texts = {name: hello.get(name, "") for name in ("processor", "machine", "engine", "engine_version")}
        for name, value in texts.items():
            if not isinstance(value, str):
                raise TableError(f"Expected `{name}` of a device to be a text, but got {short_repr(value)}.")
        architecture = architecture_of(texts.pop("machine"))
        return cls(architecture=architecture, emulated=hello.get("emulated") is True, **texts, **options)


def check_identity(
    sheet_identity: Identity, at_hand: Identity, *, doing: str, other_device: bool = False
) -> tuple[str, ...]:
    """Refuse to compare a table with another device or engine than its datasheet names.

    Args:
        sheet_identity: Identity of the table.
        at_hand: Identity to compare it with.
        doing: Infinitive for the message, without "to": ``"check board.parquet"``.
        other_device: Whether another device or engine is intended. If so, deviations are returned and not refused.

    Returns:
        A text for each field that deviates or cannot be confirmed.

    Raises:
        TableError: if there are deviations and `other_device` is False. The message names both sides of each.

    Example:
        >>> board = Identity(processor="Board", architecture="aarch64", engine="MNN", engine_version="3.6.1")
        >>> check_identity(board, board, doing="check board.parquet")
        ()
        >>> check_identity(board, Identity(processor="Phone", engine="mnn"), doing="check", other_device=True)[0]
        'processor: Board in the datasheet, Phone at hand'
    """
    deviations = tuple(
        f"{name.replace('_', ' ')}: {_as_text(mine)} in the datasheet, {_as_text(other)} at hand"
        for name, mine, other in _pairs(sheet_identity, at_hand)
        if _differ(name, mine, other)
    )
    if deviations and not other_device:
        raise TableError(
            f"Expected to {doing} on the device and the engine that the datasheet names, but they differ or cannot be "
            f"confirmed: {'; '.join(deviations)}. Do it on that device, take a table that was measured on this one, or "
            f"pass other_device=True, and the result will say what differs."
        )
    return deviations


def _pairs(one: Identity, other: Identity) -> list[tuple[str, object, object]]:
    """Name and both values of each field. Fields that must be confirmed come first."""
    names = sorted((field.name for field in fields(Identity)), key=lambda name: name not in _CONFIRMED)
    return [(name, getattr(one, name), getattr(other, name)) for name in names]


def _differ(name: str, mine: object, other: object) -> bool:
    if mine in ("", None) or other in ("", None):
        return name in _CONFIRMED
    return _folded(mine) != _folded(other)


def _folded(value: object) -> object:
    """A text without differences of spelling: case, blanks, trademark signs."""
    return " ".join(_TRADEMARKS.sub(" ", value).casefold().split()) if isinstance(value, str) else value


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not known" if value in ("", None) else str(value)
