"""A check that the device at hand is the one that a table's datasheet names."""

from __future__ import annotations

from latency_nas.measure.device.runner import Runner
from latency_nas.table import LatencyTable
from latency_nas.table.identity import Identity, check_identity

__all__ = ["confirm_device"]


def confirm_device(table: LatencyTable, runner: Runner, *, doing: str, other_device: bool) -> tuple[str, ...]:
    """Compare what a device is with a table's datasheet.

    Args:
        table: Table that measurements are compared with.
        runner: Runner of the device at hand.
        doing: Action in the error's message, as an infinitive without "to".
        other_device: Whether the device or the engine may differ.

    Returns:
        Differences, and what cannot be confirmed, as texts; empty unless `other_device`.

    Raises:
        TableError: if anything differs, and `other_device` is False.
    """
    sheet = table.datasheet
    at_hand = Identity.of_hello(runner.hello(), threads=sheet.threads, precision=sheet.precision)
    return check_identity(
        Identity.of_datasheet(sheet), at_hand, doing=f"{doing} {table.name}", other_device=other_device
    )  # fmt: skip
