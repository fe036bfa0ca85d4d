"""`Target`: the device and settings that an engine's rules depend on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Target"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The device and settings that an engine's rules and a table's identity depend on.

    Args:
        architecture: Instruction set, ``"x86-64"`` or ``"aarch64"``; empty where it is unknown.
        threads: Number of threads of the engine.
        precision: Precision of the arithmetic.
        version: Version of the engine's rules, one of `Engine.versions`; empty for the newest.
    """

    architecture: str = ""
    threads: int = 1
    precision: str = "fp32"
    version: str = ""
