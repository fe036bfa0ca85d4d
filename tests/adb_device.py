"""A loopback Android device: enough of adbd's side of the transport for the real adb client to be used against it."""

# ruff: noqa: S602, S603, S607 - it is a shell, and clients are as they are found on the PATH

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_nas.measure.device import Adb
from tests.ssh_server import free_port

_BANNER = b"device::ro.product.name=loopback;ro.product.model=loopback;ro.product.device=loopback;features=shell_v2,cmd"
_LARGEST = 65536
_STDIN, _STDOUT, _STDERR, _EXIT, _CLOSE_STDIN = range(5)  # packets of the shell protocol, version 2


class _Stream:
    """One service that the host has opened; a message at a time is under way in each direction."""

    def __init__(self, connection: _Connection, own: int, peer: int) -> None:
        self.connection, self.own, self.peer = connection, own, peer
        self.incoming: queue.Queue[bytes | None] = queue.Queue()
        self.ready, self.sending, self.rest = threading.Semaphore(1), threading.Lock(), b""

    def read(self, size: int) -> bytes:
        while len(self.rest) < size:
            data = self.incoming.get()
            if data is None:
                raise EOFError
            self.rest += data
        taken, self.rest = self.rest[:size], self.rest[size:]
        return taken

    def write(self, data: bytes) -> None:
        with self.sending:
            for start in range(0, len(data), _LARGEST):
                self.ready.acquire()
                self.connection.send(b"WRTE", self.own, self.peer, data[start : start + _LARGEST])

    def serve(self, service: str) -> None:
        with contextlib.suppress(EOFError, OSError):
            if service == "sync:":
                self._sync()
            else:
                self._shell(service.partition(":")[2])
        with contextlib.suppress(OSError):
            self.connection.send(b"CLSE", self.own, self.peer)

    def _packet(self, kind: int, data: bytes) -> None:
        self.write(struct.pack("<BI", kind, len(data)) + data)

    def _shell(self, command: str) -> None:
        process = subprocess.Popen(command, shell=True, stdin=-1, stdout=-1, stderr=-1)

        def pump(kind: int, number: int) -> None:
            with contextlib.suppress(OSError):
                while data := os.read(number, _LARGEST // 2):
                    self._packet(kind, data)

        assert process.stdin
        assert process.stdout
        assert process.stderr
        out = threading.Thread(target=pump, args=(_STDOUT, process.stdout.fileno()), daemon=True)
        err = threading.Thread(target=pump, args=(_STDERR, process.stderr.fileno()), daemon=True)
        feed = threading.Thread(target=self._feed, args=(process,), daemon=True)
        for thread in (out, err, feed):
            thread.start()
        status = process.wait()
        out.join()
        err.join()
        process.stdout.close()
        process.stderr.close()
        self._packet(_EXIT, bytes([status if status >= 0 else 128 - status]))
        self.incoming.put(None)
        feed.join()

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin
        with contextlib.suppress(EOFError, OSError):
            while True:
                kind, size = struct.unpack("<BI", self.read(5))
                data = self.read(size)
                if kind == _CLOSE_STDIN:
                    break
                if kind == _STDIN:
                    process.stdin.write(data)
                    process.stdin.flush()
        with contextlib.suppress(OSError):
            process.stdin.close()

    def _sync(self) -> None:
        while True:
            what, size = struct.unpack("<4sI", self.read(8))
            if what == b"QUIT":
                return
            path = self.read(size).decode()
            if what == b"STAT":
                mode = os.stat(path).st_mode if os.path.exists(path) else 0  # noqa: PTH110, PTH116
                self.write(struct.pack("<4s3I", b"STAT", mode, 0, 0))
            elif what == b"SEND":
                with Path(path.rpartition(",")[0]).open("wb") as file:
                    while (part := struct.unpack("<4sI", self.read(8)))[0] == b"DATA":
                        file.write(self.read(part[1]))
                self.write(struct.pack("<4sI", b"OKAY", 0))


class _Connection:
    def __init__(self, link: socket.socket) -> None:
        self.link, self.sending = link, threading.Lock()
        self.streams: dict[int, _Stream] = {}

    def send(self, what: bytes, first: int, second: int, data: bytes = b"") -> None:
        (number,) = struct.unpack("<I", what)
        head = struct.pack("<4s5I", what, first, second, len(data), sum(data) & 0xFFFFFFFF, number ^ 0xFFFFFFFF)
        with self.sending:
            self.link.sendall(head + data)

    def serve(self) -> None:
        with contextlib.suppress(OSError), self.link, self.link.makefile("rb") as incoming:
            while head := incoming.read(24):
                what, first, second, size, _, _ = struct.unpack("<4s5I", head)
                data = incoming.read(size)
                if what == b"CNXN":
                    self.send(b"CNXN", 0x01000000, _LARGEST, _BANNER)
                elif what == b"OPEN":
                    stream = _Stream(self, len(self.streams) + 1, first)
                    self.streams[stream.own] = stream
                    self.send(b"OKAY", stream.own, first)
                    service = data.rstrip(b"\0").decode()
                    threading.Thread(target=stream.serve, args=(service,), daemon=True).start()
                elif what == b"WRTE":
                    self.streams[second].incoming.put(data)
                    self.send(b"OKAY", second, first)
                elif what == b"OKAY":
                    self.streams[second].ready.release()
                elif what == b"CLSE" and second in self.streams:
                    self.streams[second].incoming.put(None)
        for stream in self.streams.values():
            stream.incoming.put(None)


class AdbDevice:
    """The device, and the adb server of its own that knows it."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.serial = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.adb = Adb(serial=self.serial)
        self._links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                link, _ = self._listener.accept()
                self._links.append(link)
                threading.Thread(target=_Connection(link).serve, daemon=True).start()

    def connect(self) -> None:
        subprocess.run(["adb", "disconnect", self.serial], capture_output=True, check=False)
        done = subprocess.run(["adb", "connect", self.serial], capture_output=True, text=True, check=True)
        assert done.stdout == f"connected to {self.serial}\n"

    def drop(self) -> None:
        """Cut the cable."""
        for link in self._links:
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        self._links.clear()

    def close(self) -> None:
        self._listener.close()
        self.drop()


@contextlib.contextmanager
def adb_device(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[AdbDevice]:
    if not shutil.which("adb"):
        pytest.skip("no adb here: apt-get install adb")
    patch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port()))
    patch.setenv("HOME", str(folder))  # its keys
    patch.setenv("ADB_MDNS", "0")
    device = AdbDevice()
    try:
        subprocess.run(["adb", "start-server"], capture_output=True, check=True)
        device.connect()
        yield device
    finally:
        subprocess.run(["adb", "kill-server"], capture_output=True, check=False)
        device.close()
