"""`Datasheet`: the conditions under which a table's numbers were obtained, and their accuracy."""

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

# name of an engine in files from before the field `dialect` -> (its name now, its dialect)
_OLDER_SPELLINGS = {"Paddle-Lite 2.11": ("Paddle-Lite", "2.11")}
# fields that are written only where they are known, so that files from before these fields keep their fingerprint
_ONLY_WHERE_KNOWN = ("dialect", "architecture", "error_90")

# field -> its type; all others are text
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
    """`value` as a finite float >= 0, or > 0 if `zero` is False.

    Raises:
        TableError: if it is not such a number. Texts and booleans are refused.
    """
    number = float("nan")
    if isinstance(value, Real) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            number = float(value) + 0.0  # turns -0.0 into 0.0
    if not (math.isfinite(number) and (number > 0 or (zero and number == 0))):
        kind = "a finite number >= 0" if zero else "a positive finite number"
        raise TableError(f"Expected `{name}` to be {kind}, but got {short_repr(value)}.")
    return number


@dataclass(frozen=True, slots=True, kw_only=True)
class Datasheet:
    """The conditions of a table, its sources, and its accuracy.

    Args:
        device: Name of the device, as a person would write it.
        engine: Name of the inference engine (``"MNN"``, ``"Paddle-Lite"``).
        method: Origin of the numbers: ``"measured"`` by this library's meter on the device itself, ``"derived"`` from
            other tables, or ``"imported"`` from a file of another tool.
        engine_version: Version that the engine reports. As in every text field below, ``""`` means that the source does
            not state it.
        dialect: Release of the engine whose rules name the kernels (``"2.11"``), unless it is the newest.
        soc: Name of the system on a chip, or of the processor.
        architecture: Instruction set of the processor (``"x86-64"``, ``"aarch64"``).
        backend: Processor that runs the kernels (``"CPU"``).
        precision: Precision of the arithmetic (``"fp32"``).
        threads: Number of threads of the engine; None where the source does not state it.
        power_mode: Setting of the engine or of the governor.
        batch: Number of images per run.
        date: ISO date of the end of the measurement.
        statistic: Statistic of the samples that a latency is (``"median"``).
        sources: Origins of the numbers, one text each.
        licence: Licence of these sources, as an SPDX expression.
        expected_error: Mean absolute relative error of predictions for whole networks that were not used to make the
            table (0.02 is 2 %); None where it is unknown.
        expected_error_method: Method by which this error was obtained.
        error_90: Relative error that 90 % of these predictions do not exceed, relative to the smaller of prediction and
            measurement; None where it is unknown.
        yardstick_ms: Stable time of the yardstick network in this table's session, the unit of machine speed; None
            without a yardstick.
        emulated: Whether the engine ran under emulation, so that the times are of no real device.
        unrecorded: Kernel attributes that the source does not distinguish, as ``"op.attribute"``.
        notes: Other facts that a user should know.

    Raises:
        TableError: if a field has an impossible value.

    Example:
        >>> sheet = Datasheet(device="Example board", engine="MNN", method="measured", threads=4)
        >>> str(sheet)
        'Example board: MNN on CPU, fp32, 4 threads, batch 1, measured'
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
            is_wrong_bool = isinstance(value, bool) and expected is not bool  # to Python, True is an integer as well
            if is_wrong_bool or not isinstance(value, expected):
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
        """The device and settings that the rules of the table's engine depend on."""
        return Target(
            architecture=self.architecture, threads=self.threads or 1, precision=self.precision, version=self.dialect
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON. `dialect`, `architecture` and `error_90` are in it only where they are known."""
        fields = dataclasses.asdict(self)
        return {
            name: value for name, value in fields.items() if value not in ("", None) or name not in _ONLY_WHERE_KNOWN
        }

    def fingerprinted(self) -> dict[str, Any]:
        """The data for a table's fingerprint: `to_dict` in the spelling from before the field `dialect`."""
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
        unknown = sorted(name if isinstance(name, str) else short_repr(name) for name in fields.keys() - known)
        if unknown:
            raise TableError(f"Expected the datasheet's fields to be known ones, but got {', '.join(unknown)}.")
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
