"""The unit of a file's latencies. A unit that the file does not state is asked for, never guessed."""

from __future__ import annotations

from pathlib import Path

from latency_nas.errors import TableFileError

__all__ = ["TO_MS", "UNIT", "ms_per_unit"]

TO_MS = {"ms": 1.0, "us": 1e-3}
UNIT = "unit of the latencies, ms or us"  # description of the option


def ms_per_unit(source: Path, unit: str | None, *, hint: str = "") -> float:
    """The milliseconds of one unit.

    Args:
        source: File that does not state its unit.
        unit: ``"ms"`` or ``"us"``.
        hint: Sentence on what the unit usually is, for the message.

    Raises:
        TableFileError: if the unit is not given, or is another one.
    """
    if unit not in TO_MS:
        raise TableFileError(
            f"Expected the unit of the latencies in {source}, which the file does not state, to be ms or us, but got "
            f"{unit!r}: pass unit='us', or --unit us on the command line.{hint and ' '}{hint}"
        )
    return TO_MS[unit]
