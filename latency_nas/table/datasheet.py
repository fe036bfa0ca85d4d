"""`Datasheet`: under what conditions a table's numbers were obtained, and how far they can be trusted."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from types import UnionType
from typing import Any, Literal, get_args

from latency_nas.engine.target import Target
from latency_nas.errors import TableError, short_repr
from latency_nas.kernel import OPS

__all__ = ["Datasheet", "Method", "finite"]

Method = Literal["measured", "derived", "imported"]

# as files of before there was a field `dialect` name an engine -> (its name, whose kernels it runs)
_OLDER_SPELLINGS = {"Paddle-Lite 2.11": ("Paddle-Lite", "2.11")}
# fields that stand in a file only where they are known: files of before they were there keep their fingerprint
_ONLY_WHERE_KNOWN = ("dialect", "architecture", "error_90")

# field -> its type, where it is not text
_Type = type | UnionType
_TYPES: dict[str, _Type] = {
    "threads": int | None,
    "batch": int,
    "sources": tuple,
    "unrecorded": tuple,
    "expected_error": Real | None,
    "error_90": Real | None,
    "yardstick_ms": Real | None,
    "emulated": bool,
}
_NAMES: dict[_Type, str] = {
    int: "an integer",
    int | None: "an integer or None",
    Real | None: "a number or None",
    tuple: "a tuple of texts",
    bool: "True or False",
}


def finite(name: str, value: object, *, zero: bool = True) -> float:
    """`value` as a finite float >= 0, or > 0.

    Raises:
        TableError: if it is no such number; texts and booleans are none.
    """
    number = float("nan")
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            number = float(value) + 0.0  # and -0.0 is 0.0
    if not (math.isfinite(number) and (number > 0 or (zero and number == 0))):
        kind = "a finite number >= 0" if zero else "a positive finite number"
        raise TableError(f"Expected `{name}` to be {kind}, but got {short_repr(value)}.")
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasheet:
    """What a number needs beside it.

    Args:
        device: the device's name, as a person would write it.
        engine: The inference engine (``"MNN"``, ``"Paddle-Lite"``).
        method: ``"measured"`` by this library's meter on the device itself, ``"derived"`` from other tables, or
            ``"imported"`` from somebody else's file.
        engine_version: as the engine says it; ``""`` where the source does not say, as in every text field below.
        dialect: The engine's release whose rules name the kernels, where these are not the newest (``"2.11"``).
        soc: the system on a chip, or the processor.
        architecture: The processor's instruction set (``"x86-64"``, ``"aarch64"``).
        backend: where kernels run (``"CPU"``).
        precision: of the arithmetic (``"fp32"``).
        threads: threads that the engine uses; None where the source does not say.
        power_mode: the engine's or the governor's setting.
        batch: images a run.
        date: ISO day on which the measuring ended.
        statistic: what of the samples a latency is (``"median"``).
        sources: where the numbers are from.
        licence: of those sources, as an SPDX expression.
        expected_error: mean absolute relative error of whole-network predictions on networks that were not used to
            make the table (0.02 is 2 %); None where it is not known.
        expected_error_method: how that was obtained.
        error_90: the relative error that 90 % of the predictions of such networks keep within, of the smaller of
            prediction and measurement; None where it is not known.
        yardstick_ms: stable time of the yardstick network in this table's session, the unit of machine speed;
            None without one.
        emulated: whether the engine ran under emulation, so that no time here is any device's.
        unrecorded: kernel attributes that the source does not tell apart, as ``"op.attribute"``.
        notes: anything else that a user should know.

    Raises:
        TableError: if a field has an impossible value.
    """

    device: str
    engine: str
    method: Method
    engine_version: str = ""
    dialect: str = ""
    soc: str = ""
    architecture: str = ""
    backend: str = "CPU"
    precision: str = "fp32"
    threads: int | None = None
    power_mode: str = ""
    batch: int = 1
    date: str = ""
    statistic: str = ""
    sources: tuple[str, ...] = ()
    licence: str = ""
    expected_error: float | None = None
    expected_error_method: str = ""
    error_90: float | None = None
    yardstick_ms: float | None = None
    emulated: bool = False
    unrecorded: tuple[str, ...] = ()
    notes: str = ""

    def __post_init__(self) -> None:
        self._check_types()
        if self.engine in _OLDER_SPELLINGS:
            engine, dialect = _OLDER_SPELLINGS[self.engine]
            if self.dialect not in ("", dialect):
                raise TableError(
                    f"Expected `dialect` to be {dialect}, as {self.engine!r} says, but got {self.dialect!r}."
                )
            object.__setattr__(self, "engine", engine)
            object.__setattr__(self, "dialect", dialect)
        if self.method not in get_args(Method):
            raise TableError(f"Expected `method` to be measured, derived or imported, but got {self.method!r}.")
        for name in ("device", "engine"):
            if not getattr(self, name):
                raise TableError(f"Expected `{name}` to be named, but got an empty text.")
        if self.threads is not None and not 1 <= self.threads < 2**31:
            raise TableError(f"Expected `threads` to be a positive integer, but got {short_repr(self.threads)}.")
        if not 1 <= self.batch < 2**31:
            raise TableError(f"Expected `batch` to be a positive integer, but got {short_repr(self.batch)}.")
        for name in ("expected_error", "error_90", "yardstick_ms"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, finite(name, getattr(self, name)))

    def _check_types(self) -> None:
        for field in dataclasses.fields(self):
            expected, value = _TYPES.get(field.name, str), getattr(self, field.name)
            whole = isinstance(value, bool) and expected is not bool  # True is an integer to Python, not to a reader
            if whole or not isinstance(value, expected):
                raise TableError(
                    f"Expected `{field.name}` to be {_NAMES.get(expected, 'a text')}, but got {short_repr(value)}."
                )
        for name in ("sources", "unrecorded"):
            for item in getattr(self, name):
                if not isinstance(item, str):
                    raise TableError(f"Expected `{name}` to be a tuple of texts, but got {short_repr(item)} in it.")
        for item in self.unrecorded:
            op, _, attribute = item.rpartition(".")
            if attribute not in OPS.get(op, ((), ()))[1]:
                raise TableError(
                    f"Expected `unrecorded` to name attributes that a kernel may lack, as in 'conv2d.act', "
                    f"but got {item!r}."
                )

    @property
    def target(self) -> Target:
        """What the rules of the table's engine depend on."""
        return Target(
            architecture=self.architecture, threads=self.threads or 1, precision=self.precision, version=self.dialect
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON; `dialect`, `architecture` and `error_90` only where they are known."""
        fields = dataclasses.asdict(self)
        return {
            name: value for name, value in fields.items() if value not in ("", None) or name not in _ONLY_WHERE_KNOWN
        }

    def fingerprinted(self) -> dict[str, Any]:
        """What a table's fingerprint is of: `to_dict`, in the spelling of before there was a field `dialect`."""
        fields = self.to_dict()
        spelling = f"{self.engine} {self.dialect}"
        if spelling in _OLDER_SPELLINGS:
            fields["engine"] = spelling
            del fields["dialect"]
        return fields

    @classmethod
    def from_dict(cls, fields: object) -> Datasheet:
        """The inverse of `to_dict`.

        Raises:
            TableError: if a field is unknown, missing or of the wrong type.
        """
        if not isinstance(fields, Mapping):
            raise TableError(f"Expected the datasheet to be a mapping of fields, but got {type(fields).__name__}.")
        known = {field.name for field in dataclasses.fields(cls)}
        odd = sorted(name if isinstance(name, str) else short_repr(name) for name in fields.keys() - known)
        if odd:
            raise TableError(f"Expected the datasheet's fields to be known ones, but got {', '.join(odd)}.")
        lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
        try:
            return cls(**{**fields, **lists})
        except TypeError as error:
            raise TableError(f"Expected a complete datasheet, but {error}.") from error

    def __str__(self) -> str:
        threads = "threads not stated" if self.threads is None else f"{self.threads} thread{'s' * (self.threads != 1)}"
        engine = f"{self.engine} {self.engine_version or self.dialect}".strip()
        if self.engine_version and self.dialect not in ("", self.engine_version):
            engine += f" (kernels as of {self.dialect})"
        emulated = ", EMULATED: no device's times" if self.emulated else ""
        conditions = f"{self.precision}, {threads}, batch {self.batch}, {self.method}{emulated}"
        return f"{self.device}: {engine} on {self.backend}, {conditions}"
