"""Addresses of devices: from text to a transport or a runner."""

from __future__ import annotations

import posixpath
import shlex

from latency_nas.engine import Engine
from latency_nas.errors import MeasureError
from latency_nas.measure.device.program_runner import ProgramRunner
from latency_nas.measure.device.remote_runner import RemoteRunner
from latency_nas.measure.device.runner import LocalRunner, Runner
from latency_nas.measure.device.transport import Adb, Here, Prefix, Ssh, Transport

__all__ = ["open_runner", "parse_address"]


def parse_address(address: str) -> Transport:
    """The transport of the address ``local``, ``ssh://user@host:port``, ``adb``, ``adb:serial`` or ``prefix:command``.

    Raises:
        MeasureError: if it is none of these.

    Example:
        >>> parse_address("ssh://pi@board:2222")
        Ssh(host='pi@board', port=2222, options=())
        >>> parse_address("prefix:docker exec -i board").command(["python3"])
        ['docker', 'exec', '-i', 'board', 'python3']
    """
    if address == "local":
        return Here()
    if address == "adb" or address.startswith("adb:"):
        return Adb(serial=address[4:])
    if address.startswith("prefix:"):
        return Prefix(words=tuple(shlex.split(address[7:])))
    if address.startswith("ssh://"):
        host, _, port = address[6:].rstrip("/").partition(":")
        if host and (not port or port.isdecimal()):
            return Ssh(host=host, port=int(port) if port else None)
    raise MeasureError(
        f"Expected a device to be local, ssh://user@host[:port], adb, adb:serial or prefix:command, "
        f"but got {address!r}."
    )


def open_runner(address: str, engine: Engine | str | None = None, *, python: str = "", program: str = "") -> Runner:
    """A runner on a device; nothing is started until the first request.

    Args:
        address: Address as `parse_address` takes it.
        engine: Engine that runs the networks, or its name; the registry's default for None.
        python: Command on the device that starts a Python with the engine, with its arguments; ``python3`` by default,
            and on this machine the interpreter that the engine names.
        program: Path on the device of one of the engine's own benchmark programs, to be used instead of Python.

    Raises:
        MeasureError: if the address is in none of these forms.
    """
    transport = parse_address(address)
    if program:
        return ProgramRunner(transport, program, engine=engine, folder=posixpath.dirname(program) or ".")
    if isinstance(transport, Here) and not python:
        return LocalRunner(engine)
    return RemoteRunner(transport, engine=engine, python=python or "python3")
