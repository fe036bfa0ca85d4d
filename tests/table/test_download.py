"""Tables by URL, from a real HTTP server on this machine: checksum, cache, a download that breaks off, and offline."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from latency_nas import Datasheet, Kernel, LatencyTable, load_table, save_table
from latency_nas.errors import DownloadError, UnknownTableError
from latency_nas.table import Entry
from latency_nas.table.download import CACHE_VARIABLE, Download, fetch, parse_url

KERNELS = {Kernel.of("relu", [(1, size)], [(1, size)]): Entry(latency_ms=0.5 + size) for size in range(1, 3000)}
SHEET = Datasheet(device="Example board", engine="MNN", method="measured")


class Server(ThreadingHTTPServer):
    """Serves one file, with ranges; may break a connection off after some bytes."""

    daemon_threads = True

    def __init__(self, body: bytes) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body, self.break_after, self.ranges, self.status = body, 0, True, 200
        self.requests: list[str] = []
        self.sent_bytes = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/some/phone.parquet"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        requested = self.headers.get("Range", "") if self.server.ranges else ""
        self.server.requests.append(self.headers.get("Range", ""))
        start = int(requested.removeprefix("bytes=").rstrip("-")) if requested else 0
        body = self.server.body[start:]
        status = self.server.status if self.server.status != 200 else (206 if requested else 200)
        self.send_response(416 if requested and not body else status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.break_after:
            body = body[: self.server.break_after]
        self.wfile.write(body)
        self.server.sent_bytes += len(body)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    body = save_table(LatencyTable.of(KERNELS, SHEET), tmp_path / "made.parquet").read_bytes()
    with Server(body) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield served
        served.shutdown()
        thread.join()


def download_of(server: Server) -> Download:
    return Download(url=server.url, sha256=hashlib.sha256(server.body).hexdigest())


def test_table_by_url_is_downloaded_once(server: Server, cache: Path) -> None:
    url = f"{server.url}#sha256={hashlib.sha256(server.body).hexdigest().upper()}"
    for _ in range(2):
        table = load_table(url)
        assert table.fingerprint() == LatencyTable.of(KERNELS, SHEET).fingerprint()
    assert server.requests == [""]
    assert [path.name for path in cache.iterdir()] == [download_of(server).file_name()]


def test_download_that_breaks_off_goes_on_where_it_ended(server: Server, cache: Path) -> None:
    server.break_after = 10 * 1024
    assert fetch(download_of(server)).read_bytes() == server.body
    assert server.requests == ["", f"bytes={server.break_after}-"]
    assert server.sent_bytes == len(server.body)
    assert not list(cache.glob("*.partial"))


def test_next_run_goes_on_where_the_last_one_ended(server: Server, cache: Path) -> None:
    server.break_after = 1024
    download = download_of(server)
    with pytest.raises(DownloadError) as caught:
        fetch(download)
    message = str(caught.value)
    assert message.startswith(f"Expected to download {server.url}, but it cannot be reached (IncompleteRead: ")
    assert message.endswith(
        f"). 3072 bytes have come and are kept. Try again, or put the file at {cache / download.file_name()}, "
        f"where it is looked for first."
    )
    assert isinstance(caught.value, ConnectionError)
    server.break_after = 0
    assert fetch(download).read_bytes() == server.body
    assert server.requests[-1] == "bytes=3072-"
    assert server.sent_bytes == len(server.body)


def test_host_without_ranges_sends_it_all_again(server: Server, cache: Path) -> None:
    server.ranges = False
    (cache / f"{download_of(server).file_name()}.partial").parent.mkdir()
    (cache / f"{download_of(server).file_name()}.partial").write_bytes(b"x" * 100)
    assert fetch(download_of(server)).read_bytes() == server.body


def test_whole_partial_file_is_all_there_is(server: Server, cache: Path) -> None:
    cache.mkdir()
    (cache / f"{download_of(server).file_name()}.partial").write_bytes(server.body)
    assert fetch(download_of(server)).read_bytes() == server.body
    assert server.sent_bytes == 0


def test_another_file_than_requested_is_refused_and_not_kept(server: Server, cache: Path) -> None:
    download = Download(url=server.url, sha256="0" * 64)
    with pytest.raises(DownloadError) as caught:
        fetch(download)
    assert str(caught.value) == (
        f"Expected {server.url} to have the SHA-256 {'0' * 64}, but another file was sent: it was changed since, or "
        f"the checksum is mistyped."
    )
    assert list(cache.iterdir()) == []


def test_error_of_the_host(server: Server, cache: Path) -> None:
    server.status = 503
    with pytest.raises(DownloadError) as caught:
        fetch(download_of(server))
    assert str(caught.value) == (
        f"Expected to download {server.url}, but its host answers 503. Try again, or put the file at "
        f"{cache / download_of(server).file_name()}, where it is looked for first."
    )


def test_offline(cache: Path) -> None:
    with socket.socket() as unreachable:  # bound but not listening: every connection is refused
        unreachable.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unreachable.getsockname()[1]}/phone.parquet"
        with pytest.raises(DownloadError) as caught:
            load_table(f"{url}#sha256={'0' * 64}")
    assert str(caught.value) == (
        f"Expected to download {url}, but it cannot be reached (ConnectionRefusedError: [Errno 111] Connection "
        f"refused). Try again, or put the file at {cache / ('0' * 16)}-phone.parquet, where it is looked for first."
    )


def test_file_put_into_the_cache_serves_offline(server: Server, cache: Path) -> None:
    cache.mkdir()
    download = Download(url="http://127.0.0.1:1/phone.parquet", sha256=download_of(server).sha256)
    (cache / download.file_name()).write_bytes(server.body)
    assert len(load_table(f"{download.url}#sha256={download.sha256}")) == len(KERNELS)


@pytest.mark.parametrize("fragment", ["", "#", "#sha256=", "#sha256=12", "#md5=12"])
def test_url_without_checksum(fragment: str) -> None:
    url = "https://example.org/phone.parquet"
    with pytest.raises(UnknownTableError) as caught:
        parse_url(url + fragment)
    assert str(caught.value) == (
        f"Expected the URL of a table to end in its checksum, {url}#sha256=..., but got {url + fragment!r}. "
        f"`sha256sum FILE` prints it."
    )


def test_names_and_paths_are_no_urls() -> None:
    assert [parse_url(text) for text in ("SD865", "tables/SD865.parquet", "ftp://host/x.parquet")] == [None] * 3
