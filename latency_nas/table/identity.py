"""The identity of a table: on which device and engine its numbers hold, and whether another one is the same.

The rule is strict, since a wrong yes is worse than a wrong no. What must be the same is the engine, its version, the
processor and the instruction set, and what one side does not tell cannot be confirmed and counts as different.
Processors are compared by their whole name, without regard to case, blanks and trademark signs: ``AMD EPYC`` is the
name of a family, and not the ``AMD EPYC 7763 64-Core Processor`` that a virtual machine reports, although that one is
of the family. Threads, precision, power mode and batch are options of a run: they count where both sides state them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from latency_nas.errors import TableError, short_repr
from latency_nas.table.datasheet import Datasheet

__all__ = ["Identity", "architecture_of", "check_identity"]

# what ``platform.machine()`` and ``uname -m`` say -> the instruction set as datasheets name it
_ARCHITECTURES = {"x86_64": "x86-64", "amd64": "x86-64", "arm64": "aarch64"}
# fields that must be known on both sides; the others count where both sides state them
_CONFIRMED = ("processor", "architecture", "engine", "engine_version", "emulated")
_TRADEMARKS = re.compile(r"\((?:r|tm|c)\)|[®™©]", re.IGNORECASE)


def architecture_of(machine: str) -> str:
    """The instruction set of a machine, as datasheets name it.

    Args:
        machine: What ``platform.machine()`` or ``uname -m`` says.

    Example:
        >>> architecture_of("x86_64"), architecture_of("arm64"), architecture_of("riscv64")
        ('x86-64', 'aarch64', 'riscv64')
    """
    return _ARCHITECTURES.get(machine.casefold(), machine)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A device, an engine on it, and the options of its runs. ``""`` and None mean that it is not known.

    Args:
        processor: Name of the processor, or of the system on a chip.
        architecture: Instruction set, ``"x86-64"`` or ``"aarch64"``.
        engine: Name of the engine.
        engine_version: Version of the engine.
        threads: Number of threads of the engine.
        precision: Precision of the arithmetic.
        power_mode: Setting of the engine or of the governor.
        batch: Images a run.
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
        """What a datasheet says of the device and the engine that its table is of."""
        shared = {field.name: getattr(sheet, field.name) for field in fields(cls) if field.name != "processor"}
        return cls(processor=sheet.soc, **shared)

    @classmethod
    def of_hello(cls, hello: Mapping[str, Any], **options: Any) -> Identity:
        """What the device side of an engine says of itself.

        Args:
            hello: Its answer, with the keys ``processor``, ``machine``, ``engine``, ``engine_version`` and
                ``emulated``; what it lacks is not known.
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
        at_hand: Identity of what it is to be compared with.
        doing: What is being done, as an infinitive without "to": ``"check board.parquet"``.
        other_device: Whether another device or engine is meant; the deviations are then returned.

    Returns:
        What deviates or cannot be confirmed, a text for each field; nothing where all is the same.

    Raises:
        TableError: if there are deviations, and `other_device` is False; the message names both sides of each.

    Example:
        >>> board = Identity(processor="Board", architecture="aarch64", engine="MNN", engine_version="3.6.1")
        >>> check_identity(board, board, doing="check board.parquet")
        ()
        >>> check_identity(board, Identity(processor="Phone", engine="mnn"), doing="check", other_device=True)[0]
        'processor: Board in the datasheet, Phone at hand'
    """
    deviations = tuple(
        f"{name.replace('_', ' ')}: {_said(mine)} in the datasheet, {_said(other)} at hand"
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
    """The fields of both, those that must be confirmed first."""
    names = sorted((field.name for field in fields(Identity)), key=lambda name: name not in _CONFIRMED)
    return [(name, getattr(one, name), getattr(other, name)) for name in names]


def _differ(name: str, mine: object, other: object) -> bool:
    if mine in ("", None) or other in ("", None):
        return name in _CONFIRMED
    return _folded(mine) != _folded(other)


def _folded(value: object) -> object:
    """A text without what is written in several ways: case, blanks, trademark signs."""
    return " ".join(_TRADEMARKS.sub(" ", value).casefold().split()) if isinstance(value, str) else value


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "not known" if value in ("", None) else str(value)
