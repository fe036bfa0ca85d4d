"""Transports: how a program is started on a device, with its pipes on this machine, and how a file is copied there.

Only the system's own clients are used: ``ssh`` and ``scp``, ``adb``, or a command of the user's.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from latency_nas.errors import MeasureError, RunnerLostError

__all__ = ["Adb", "Here", "Prefix", "Ssh", "Transport", "run_client"]

# A dead link is noticed within a minute, and ssh does not wait for a password in the middle of a session.
_SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3")


class Transport(Protocol):
    """A way to a device."""

    @property
    def name(self) -> str:
        """The device's name in messages."""

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that, run on this machine, runs `argv` on the device and passes its pipes through."""

    def push(self, file: Path, target: str) -> None:
        """Copy a file to a path on the device.

        Raises:
            RunnerLostError: if the device cannot be reached, or refuses.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """This machine."""

    @property
    def name(self) -> str:
        """This machine's name."""
        return "local"

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv` itself."""
        return list(argv)

    def push(self, file: Path, target: str) -> None:
        """Copy the file."""
        shutil.copy(file, target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ssh:
    """A machine behind the system's ``ssh``; keys, jump hosts and aliases are those of the user's configuration.

    Args:
        host: Host, as ``board`` or ``user@board``.
        port: Port of the ssh server; None for the one in the configuration.
        options: Further options of ``ssh`` and ``scp``, such as ``("-o", "IdentityFile=key")``.
    """

    host: str
    port: int | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.host or self.host.startswith("-"):
            raise MeasureError(f"Expected `host` to be a host, or user@host, but got {self.host!r}.")

    @property
    def name(self) -> str:
        """Its address."""
        return f"ssh://{self.host}" + (f":{self.port}" if self.port else "")

    @property
    def _options(self) -> list[str]:
        return [*self.options, *_SSH_OPTIONS, *(("-o", f"Port={self.port}") if self.port else ())]

    def command(self, argv: Sequence[str]) -> list[str]:
        """Through ``ssh``, which passes one text to the login shell there.

        An extra shell waits for the program and passes on its exit status. Without it, ssh would exit with 255 both
        when the program is ended by a signal and when the connection is lost.
        """
        in_shell = shlex.join(["sh", "-c", f"{shlex.join(argv)}; exit $?"])
        return ["ssh", "-T", *self._options, "--", self.host, in_shell]

    def push(self, file: Path, target: str) -> None:
        """Through ``scp``."""
        run_client(self.name, ["scp", "-q", *self._options, "--", str(file), f"{self.host}:{target}"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Adb:
    """An Android device behind the system's ``adb``.

    Args:
        serial: Serial number as ``adb devices`` lists it; empty for the only device.
    """

    serial: str = ""

    @property
    def name(self) -> str:
        """Its address."""
        return f"adb:{self.serial}" if self.serial else "adb"

    @property
    def _client(self) -> list[str]:
        return ["adb", *(("-s", self.serial) if self.serial else ())]

    def command(self, argv: Sequence[str]) -> list[str]:
        """Through ``adb shell``, which passes one text to the shell there."""
        return [*self._client, "shell", shlex.join(argv)]

    def push(self, file: Path, target: str) -> None:
        """Through ``adb push``."""
        run_client(self.name, [*self._client, "push", str(file), target])


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """A command that runs another one, such as ``docker exec -i board`` or ``qemu-aarch64-static -L root``.

    Args:
        words: Words of the command.
    """

    words: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.words:
            raise MeasureError("Expected a command after `prefix:`, such as prefix:docker exec -i board, but got none.")

    @property
    def name(self) -> str:
        """The command."""
        return f"prefix:{shlex.join(self.words)}"

    def command(self, argv: Sequence[str]) -> list[str]:
        """The prefix, then `argv`."""
        return [*self.words, *argv]

    def push(self, file: Path, target: str) -> None:
        """Copy the file on this machine: an emulator reads its files, and a container needs the folder mounted."""
        shutil.copy(file, target)


def run_client(name: str, command: Sequence[str]) -> str:
    """Run a client to its end and return what it printed.

    Raises:
        MeasureError: if the client is not installed here.
        RunnerLostError: if it fails.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603
    except FileNotFoundError as error:
        raise MeasureError(f"Reaching {name} needs `{command[0]}`, but it is not installed here.") from error
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise RunnerLostError(
            f"{name} cannot be reached: {command[0]} ended with exit status {done.returncode}"
            + (f", saying: {lines[-1]}" if lines else ".")
        )
    return done.stdout
