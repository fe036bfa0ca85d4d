"""Tables by URL. They are downloaded once, checked and kept. An interrupted download is continued."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from latency_nas.errors import DownloadError, UnknownTableError

__all__ = ["CACHE_VARIABLE", "Download", "fetch", "parse_url"]

CACHE_VARIABLE = "LATENCY_NAS_CACHE"
_ATTEMPTS = 3
_TIMEOUT_S = 30
_CHUNK_BYTES = 1 << 10  # at most this much is lost when a connection breaks
_PARTIAL_CONTENT, _NOT_SATISFIABLE = 206, 416  # status codes of HTTP


@dataclass(frozen=True, slots=True, kw_only=True)
class Download:
    """A table on the net.

    Args:
        url: URL of the file.
        sha256: Checksum of the file, as hexadecimal digits in lower case.
    """

    url: str
    sha256: str

    def file_name(self) -> str:
        """The name in the cache. Different files have different names."""
        return f"{self.sha256[:16]}-{PurePosixPath(unquote(urlsplit(self.url).path)).name or 'table.parquet'}"


def parse_url(text: str) -> Download | None:
    """Parse ``https://host/table.parquet#sha256=...``; None for a text that is not a URL.

    Raises:
        UnknownTableError: if the URL states no checksum.
    """
    if not re.match(r"https?://", text):
        return None
    url, _, fragment = text.partition("#")
    stated = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", fragment)
    if stated is None:
        raise UnknownTableError(
            f"Expected the URL of a table to end in its checksum, {url}#sha256=..., but got {text!r}. "
            f"`sha256sum FILE` prints it."
        )
    return Download(url=url, sha256=stated[1].lower())


def fetch(download: Download) -> Path:
    """The path of the file in the cache. It is downloaded if it is not there.

    The cache is the folder that the environment variable `LATENCY_NAS_CACHE` names; by default, the user's cache.

    Raises:
        DownloadError: if the host cannot be reached, answers with an error, or sends another file.
    """
    import pooch  # late: only downloads need it

    folder = Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("latency_nas")).expanduser()
    partial = folder / f"{download.file_name()}.partial"
    try:
        found = pooch.retrieve(
            download.url, f"sha256:{download.sha256}", fname=download.file_name(), path=folder,
            downloader=_Resuming(partial),
        )  # fmt: skip
    except ValueError as error:  # pooch's error for a wrong checksum
        raise DownloadError(
            f"Expected {download.url} to have the SHA-256 {download.sha256}, but another file was sent: it was changed "
            f"since, or the checksum is mistyped."
        ) from error
    except OSError as error:
        answer = getattr(error, "response", None)
        why = (
            f"its host answers {answer.status_code}" if answer is not None else f"it cannot be reached ({_root(error)})"
        )
        kept = f" {partial.stat().st_size} bytes have come and are kept." if partial.is_file() else ""
        raise DownloadError(
            f"Expected to download {download.url}, but {why}.{kept} Try again, or put the file at "
            f"{folder / download.file_name()}, where it is looked for first."
        ) from error
    return Path(found)


def _root(error: BaseException) -> str:
    """The first error in a chain of causes: the operating system's own."""
    while (below := error.__cause__ or error.__context__) is not None:
        error = below
    return f"{type(error).__name__}: {error}"


class _Resuming:
    """A downloader for pooch that keeps received bytes in `partial` and requests only the rest."""

    def __init__(self, partial: Path) -> None:
        self.partial = partial

    def __call__(self, url: str, output_file: Any, _: Any) -> None:
        import requests

        for attempt in range(_ATTEMPTS):
            try:
                self._download(url)
                break
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError):
                if attempt == _ATTEMPTS - 1:
                    raise
        self.partial.replace(output_file)

    def _download(self, url: str) -> None:
        import requests

        n_kept = self.partial.stat().st_size if self.partial.is_file() else 0
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={n_kept}-"} if n_kept else {})
        with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
            if n_kept and response.status_code == _NOT_SATISFIABLE:
                return  # the file is complete; its checksum is verified next
            response.raise_for_status()
            with self.partial.open("ab" if response.status_code == _PARTIAL_CONTENT else "wb") as file:
                for chunk in response.iter_content(_CHUNK_BYTES):
                    file.write(chunk)
