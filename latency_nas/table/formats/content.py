"""Recognises the kind of a file by its first bytes. Nothing in the file is run."""

from __future__ import annotations

import re

__all__ = ["HEAD_BYTES", "head_lines", "is_pickle", "looks_like"]

HEAD_BYTES = 1 << 16  # that are read to recognise a file

# first bytes -> kind of file
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"PAR1", "Parquet"),
    (b"SQLite format 3\0", "a metering session (SQLite); `latency-nas table build` makes a table of it"),
    (b"\x93NUMPY", "an array of NumPy (.npy): write it as JSON or CSV"),
    (b"\x1f\x8b", "a gzip archive, which has to be unpacked"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive, which has to be unpacked"),
)
# part of the name of a ZIP archive's first file -> kind of archive
_ZIPPED: tuple[tuple[bytes, str], ...] = (
    (b".npy", "arrays of NumPy (.npz), as CostPlan.save writes a plan"),
    (b"[Content_Types].xml", "a spreadsheet or document of an office program: save it as CSV"),
    (b"/data.pkl", "a file of torch.save"),
    (b"", "a ZIP archive, which has to be unpacked"),
)
_ZIP, _ZIP_NAME = b"PK\x03\x04", slice(30, 94)  # place of the first file's name
# beginning of a text -> kind of file; tables of columns come last, since YAML and JSON have commas, too
_TEXTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\s*<(!doctype|html|\?xml)", re.IGNORECASE), "a web page (HTML or XML): was it downloaded?"),
    (re.compile(r"version https://git-lfs"), "a pointer of Git LFS: fetch the file itself"),
    (re.compile(r'\s*(\{\s*("|\}|$)|\[\s*[\[{"\d\]-])'), "JSON"),
    (re.compile(r"(?:[ \t]*(?:#.*)?\n)*(---|%YAML|- |('[^'\n]*'|\"[^\"\n]*\"|[\w. /-]+):(\s|$))"), "YAML"),
    (re.compile(r"(?:#.*\n)*[^\n,]*,[^\n]*"), "CSV"),
    (re.compile(r"(?:#.*\n)*[^\n\t]*\t[^\n]*"), "text in columns between tabs"),
)
_PROTOCOLS = range(2, 6)  # protocols of pickles that begin with their number
_OLD_PICKLES = (b"(d", b"(l", b"}", b"]")  # beginning of a dict or a list in older protocols


def head_lines(head: bytes) -> list[str]:
    """The lines of a text except blank lines and comments; none if it is not text."""
    text = _text(head)
    return [] if text is None else [line for line in text.splitlines() if line.strip() and not _is_comment(line)]


def _is_comment(line: str) -> bool:
    return line.startswith(("#", '"#'))  # a spreadsheet puts quotes around a comment with a comma


def _text(head: bytes) -> str | None:
    """The bytes as text, without a last character that is cut in two; None if it is not text."""
    try:
        return None if b"\0" in head else head.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return head[: error.start].decode("utf-8-sig") if error.start > len(head) - 4 else None


def is_pickle(head: bytes, suffix: str = "") -> bool:
    """Whether the file is a pickle. The oldest protocols look like text and are recognised only with the suffix."""
    if len(head) > 1 and head[0] == 0x80 and head[1] in _PROTOCOLS:
        return True
    return suffix == ".pkl" and head.startswith(_OLD_PICKLES)


def looks_like(head: bytes) -> str:
    r"""The kind of a file, for messages.

    Example:
        >>> looks_like(b"tables:\n  mine: 1\n"), looks_like(b'{"relu": 1}'), looks_like(b"op,ms\nrelu,1\n")
        ('YAML', 'JSON', 'CSV')
    """
    if not head.strip():
        return "an empty file"
    for magic, name in _MAGIC:
        if head.startswith(magic):
            return name
    if head.startswith(_ZIP):
        return next(name for part, name in _ZIPPED if part in head[_ZIP_NAME])
    if is_pickle(head):
        return "a pickle"
    text = _text(head)
    if text is None:
        return "binary data of no known kind"
    return next((name for pattern, name in _TEXTS if pattern.match(text)), "text")
