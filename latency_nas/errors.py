"""Every error that this library raises on purpose, as one tree.

    LatencyNASError
    ├── KernelError(ValueError)            a kernel or its text key is malformed
    ├── GraphError(ValueError)             a model cannot be read into an OpGraph
    │   └── InputMismatchError             the given input does not fit a layer of the model
    ├── TableError(ValueError)             a table or its datasheet is malformed or does not fit another
    │   ├── TableFileError                 a table's file is truncated, foreign or of another schema
    │   ├── CatalogueError                 a catalogue file is not YAML, or a field of it is wrong
    │   └── UnsafePickleError              a pickle holds more than plain data; none of it was run
    ├── UnknownTableError(LookupError)     no table of that name or path
    ├── DownloadError(ConnectionError)     a table cannot be downloaded, or other bytes than the requested ones arrive
    ├── MissingKernelError(LookupError)    kernels that neither the table nor a regressor can price
    ├── OpSpaceError(ValueError)           an op space's file is malformed, or names a module that does not import
    │   ├── IllegalOpError                 the module cannot be made, or does not accept the input's shape
    │   └── UnsafeOpError                  an op's class is in a package that is not allowed; it was not imported
    ├── MeasureError(RuntimeError)         an engine could not convert, run or profile a network
    │   ├── RunnerLostError                a device no longer answers
    │   └── SessionError                   a session's file is damaged, in use, or cannot be written
    ├── SearchError(ValueError)            a supernet, its gates or a target cannot be used
    ├── QuantityError(TypeError)           a quantity that is not a latency is used in milliseconds, or is malformed
    └── MissingExtraError(ImportError)     an optional dependency is not installed

Each leaf is also a builtin exception, so that ``except LookupError`` works as expected.
"""

import reprlib

__all__ = [
    "CatalogueError",
    "DownloadError",
    "GraphError",
    "IllegalOpError",
    "InputMismatchError",
    "KernelError",
    "LatencyNASError",
    "MeasureError",
    "MissingExtraError",
    "MissingKernelError",
    "OpSpaceError",
    "QuantityError",
    "RunnerLostError",
    "SearchError",
    "SessionError",
    "TableError",
    "TableFileError",
    "UnknownTableError",
    "UnsafeOpError",
    "UnsafePickleError",
    "short_repr",
]


class LatencyNASError(Exception):
    """Root of this library's errors."""


class KernelError(LatencyNASError, ValueError):
    """A kernel, or the text key of one, is malformed."""


class GraphError(LatencyNASError, ValueError):
    """A model cannot be read into an operator graph."""


class InputMismatchError(GraphError):
    """The given input does not fit a layer of the model."""


class TableError(LatencyNASError, ValueError):
    """A latency table or its datasheet is malformed, or does not fit another."""


class TableFileError(TableError):
    """A table's file is truncated, is of another format, or has an unknown schema version."""


class CatalogueError(TableError):
    """A catalogue file is not YAML, or a field of it is wrong. The message names the file and the field."""


class UnsafePickleError(TableError):
    """A pickle holds more than plain data. It was refused before any of it was run."""


class UnknownTableError(LatencyNASError, LookupError):
    """There is no table of that name or path."""


class DownloadError(LatencyNASError, ConnectionError):
    """A table cannot be downloaded, or the bytes that arrive are not the requested table."""


class MissingKernelError(LatencyNASError, LookupError):
    """Neither the table nor a regressor can price one or more kernels."""


class MeasureError(LatencyNASError, RuntimeError):
    """An engine could not convert, run or profile a network."""


class RunnerLostError(MeasureError):
    """The device, or the program on it, no longer answers. Earlier measurements are kept."""


class SessionError(MeasureError):
    """A session's file is damaged, in use, or cannot be written. Its content is unchanged."""


class OpSpaceError(LatencyNASError, ValueError):
    """The file of an op space is malformed, or names a module that does not import."""


class IllegalOpError(OpSpaceError):
    """Invalid combination of arguments and shape. It is skipped; this is not a failure."""


class UnsafeOpError(OpSpaceError):
    """An op's class is in a package that is not allowed. It was refused before any of its code ran."""


class SearchError(LatencyNASError, ValueError):
    """A supernet, its gates, or a target cannot be used."""


class QuantityError(LatencyNASError, TypeError):
    """A quantity that is not a latency is used in milliseconds, two quantities are mixed, or one is malformed."""


class MissingExtraError(LatencyNASError, ImportError):
    """An optional dependency is not installed; the message holds the command that installs it."""


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxtuple, _SHORT.maxstring, _SHORT.maxother = 2, 8, 200, 200


def short_repr(value: object) -> str:
    """A short ``repr`` of any value, for use in messages.

    Example:
        >>> short_repr("a" * 1000)[-5:], short_repr(10**5000)
        ("aaaa'", 'a value with more digits than can be written')
    """
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a value with more digits than can be written"
