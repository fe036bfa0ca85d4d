"""A real sshd on loopback, with keys and a port of its own."""

# ruff: noqa: S603, S607 - clients and servers as they are found on the PATH

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_nas.measure.device import Ssh

_CONFIGURATION = """
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
Subsystem sftp internal-sftp
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    def __init__(self, process: subprocess.Popen[bytes], ssh: Ssh) -> None:
        self.process, self.ssh = process, ssh

    def connections(self) -> list[int]:
        """The processes of this server that hold a connection."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True, check=False)
        return [int(line) for line in found.stdout.split()]

    def clients(self, folder: Path) -> str:
        """A PATH whose first ``ssh`` and ``scp`` know this server, as those of a user who has configured them do."""
        for name in ("ssh", "scp"):
            script = folder / name
            script.write_text(f'#!/bin/sh\nexec {shutil.which(name)} {shlex.join(self.ssh.options)} "$@"\n')
            script.chmod(0o755)
        return f"{folder}{os.pathsep}{os.environ['PATH']}"

    def drop(self) -> None:
        for process in self.connections():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


@contextlib.contextmanager
def ssh_server(folder: Path) -> Iterator[Server]:
    sshd = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not sshd or not shutil.which("ssh"):
        pytest.skip("no sshd here: apt-get install openssh-server openssh-client")
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    port = free_port()
    (folder / "sshd_config").write_text(_CONFIGURATION.format(port=port, folder=folder))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sshd, "-D", "-e", "-f", folder / "sshd_config"], stderr=log)
    options = ("-o", f"IdentityFile={folder}/key", "-o", f"UserKnownHostsFile={folder}/known", "-F", "none")
    ssh = Ssh(host=f"{getpass.getuser()}@127.0.0.1", port=port, options=(*options, "-o", "StrictHostKeyChecking=no"))
    try:
        for _ in range(2000):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield Server(process, ssh)
    finally:
        process.terminate()
        process.wait()
