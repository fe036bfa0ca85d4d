"""`EvaluationFile`: numbers that take long to compute, each kept as soon as it is known, so that a search resumes.

The file has a JSON value on each line: first an object with the arguments of the search, then a pair ``[key, value]``
for each evaluation, in the order in which they ended. A process that is killed while it writes leaves an unfinished
last line, which is removed when the file is opened again.
"""

from __future__ import annotations

import fcntl
import json
import os
import pathlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from math import isfinite
from typing import Any, BinaryIO

from latency_nas.errors import SearchError, short_repr

__all__ = ["EvaluationFile"]

Key = tuple[Any, ...]


class EvaluationFile(AbstractContextManager["EvaluationFile"]):
    """The evaluations of a search by key, in memory and in a file.

    Args:
        path: File to go on with, or to create; None for memory alone.
        arguments: Arguments that the numbers depend on, of types that JSON has. A file of others is refused.

    Attributes:
        values: Value of each evaluation by its key.
    """

    def __init__(self, path: str | os.PathLike[str] | None, arguments: Mapping[str, Any]) -> None:
        self.values: dict[Key, float] = {}
        self._path, self._arguments = path, json.loads(json.dumps(arguments))
        self._file: BinaryIO | None = None

    def __enter__(self) -> EvaluationFile:
        """Open the file, and read what it holds.

        Raises:
            SearchError: if it is of other arguments, is in use, or is no such file. It is not changed then.
        """
        if self._path is not None:
            pathlib.Path(self._path).parent.mkdir(parents=True, exist_ok=True)
            self._file = pathlib.Path(self._path).open("a+b")
            try:
                self._lock()
                self._read()
            except BaseException:
                self._file.close()
                raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, key: Key, value: float) -> None:
        """Keep one evaluation; it outlives the process from here on."""
        self.values[key] = value
        if self._file is not None:
            self._write([key, value])

    def _write(self, value: Any) -> None:
        self._opened.write(json.dumps(value).encode() + b"\n")
        self._opened.flush()

    def _lock(self) -> None:
        try:
            fcntl.flock(self._opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise SearchError(f"{self._path} is in use by another process: wait for it, or end it.") from error

    @property
    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise ValueError("The file is not open.")
        return self._file

    def _read(self) -> None:
        self._opened.seek(0)
        content = self._opened.read()
        whole = content.rfind(b"\n") + 1
        header = {"arguments": self._arguments}
        if whole == 0 and json.dumps(header).encode().startswith(content):  # empty, or killed within the first line
            self._opened.truncate(0)
            self._write(header)
            return
        first, *lines = content[:whole].splitlines() or [content]
        self._check(first)
        for number, line in enumerate(lines, start=2):
            self._take(line, number)
        self._opened.truncate(whole)

    def _check(self, line: bytes) -> None:
        try:
            before = dict(json.loads(line)["arguments"])
        except (ValueError, LookupError, TypeError) as error:
            raise SearchError(
                f"Expected {self._path} to be a file of evaluations, but it is another one: it was not changed, name a "
                f"new file."
            ) from error
        for name in dict.fromkeys([*self._arguments, *before]):
            if before.get(name) != self._arguments.get(name):
                raise SearchError(
                    f"Expected {self._path} to be of the same arguments, but its {name} is "
                    f"{short_repr(before.get(name))} instead of {short_repr(self._arguments.get(name))}: name a new "
                    f"file, or give these arguments."
                )

    def _take(self, line: bytes, number: int) -> None:
        try:
            key, value = json.loads(line)
            if not isfinite(found := float(value)):
                raise ValueError("no finite number")
            self.values[tuple(key)] = found
        except (ValueError, TypeError) as error:
            raise SearchError(
                f"Expected line {number} of {self._path} to be an evaluation, but got {short_repr(line)}: remove this "
                f"line to evaluate it again."
            ) from error
