"""Fitted families as a file: NumPy arrays and JSON in a zip (.npz), in which nothing can be executed."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_nas.estimate.regressor.fitted_family import FittedFamily
from latency_nas.estimate.regressor.forest import FlatForest
from latency_nas.estimate.regressor.form_selection import FormSelection
from latency_nas.estimate.regressor.forms import Base, FittedForms, Process

__all__ = ["FamilyKey", "StoredForms", "read_forms", "write_forms"]

FamilyKey = tuple[str, str]  # family, dtype

FORMAT = 5  # raise it when the features or the forms change: older files are then not used

# exceptions that reading a damaged or forged file raises
_DAMAGED = (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error)

_HEADER = "header"
_FOREST = ("feature", "value", "right", "roots")
_DTYPES = {"shapes": "u1", "feature": "u1", "value": "<f4", "right": "<i4", "roots": "<i4"}  # others: doubles


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredForms:
    """The fitted families of a table.

    Args:
        fingerprint: Fingerprint of the table that they price for.
        scales: Class of kernels -> factor of its latencies; 1 for other classes.
        families: Family and dtype -> fitted family.
    """

    fingerprint: str
    scales: Mapping[str, float]
    families: Mapping[FamilyKey, FittedFamily]

    def __post_init__(self) -> None:
        if not all(0 < scale < float("inf") for scale in self.scales.values()):
            raise ValueError(f"Expected scales to be positive numbers, but got {self.scales}.")


def write_forms(forms: StoredForms) -> bytes:
    """The bytes of a file of fitted families."""
    header = {
        "format": FORMAT,
        "fingerprint": forms.fingerprint,
        "scales": dict(forms.scales),
        "families": [
            {"key": list(key), "selection": family.selection.to_dict(), "level": family.forms.base.level}
            for key, family in forms.families.items()
        ],
    }
    parts = {_HEADER: np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)}
    for number, family in enumerate(forms.families.values()):
        parts |= {f"{number}.{name}": values for name, values in _arrays(family).items()}
    made = io.BytesIO()
    np.savez_compressed(made, allow_pickle=False, **parts)
    return made.getvalue()


def _arrays(family: FittedFamily) -> dict[str, NDArray[Any]]:
    base, process, forest = family.forms.base, family.forms.process, family.forms.forest
    shapes = "\n".join(sorted(family.shapes)).encode()
    arrays: dict[str, NDArray[Any]] = {
        "low": family.low, "high": family.high, "shapes": np.frombuffer(shapes, "u1"),
        "costs": base.costs, "bounds": base.bounds, "mean": base.mean, "scale": base.scale, "slopes": base.slopes,
        "shift": process.shift, "spread": process.scale, "residual": process.residual, "noise": process.noise,
        "at": np.ascontiguousarray(process.at.T),  # columns repeat values, and are compressed better than rows
    }  # fmt: skip
    if forest is not None:
        arrays |= {name: getattr(forest, name) for name in _FOREST}
    return {name: values.astype(_DTYPES.get(name, "<f8")) for name, values in arrays.items()}


def read_forms(content: bytes) -> StoredForms:
    """The inverse of `write_forms`. Nothing in the bytes is executed.

    Raises:
        ValueError: if they are not such a file, are of another format, or damaged.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            arrays = {name.removesuffix(".npy"): _array(file.read(name), name) for name in file.namelist()}
        header = json.loads(arrays[_HEADER].tobytes())
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise ValueError(f"not of format {FORMAT}")
        return StoredForms(
            fingerprint=str(header["fingerprint"]),
            scales={str(name): float(scale) for name, scale in header["scales"].items()},
            families={
                (str(part["key"][0]), str(part["key"][1])): _family(part, f"{number}.", arrays)
                for number, part in enumerate(header["families"])
            },
        )
    except _DAMAGED as error:
        reason = str(error).rstrip(".") or type(error).__name__
        raise ValueError(
            f"Expected fitted forms of latency_nas, but got another file, or a damaged one: {reason}."
        ) from error


def _array(data: bytes, name: str) -> NDArray[Any]:
    values: NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    short = name.removesuffix(".npy")
    wanted = np.dtype("u1" if short == _HEADER else _DTYPES.get(short.partition(".")[2], "<f8"))
    if values.dtype != wanted:
        raise ValueError(f"{short} is {values.dtype}, not {wanted}")
    return values


def _family(part: dict[str, Any], prefix: str, arrays: Mapping[str, NDArray[Any]]) -> FittedFamily:
    def of(name: str) -> NDArray[Any]:
        return arrays[f"{prefix}{name}"]

    selection = FormSelection.from_dict(part.get("selection") or part["choice"])  # "choice": files before 0.2
    base = Base(
        costs=of("costs"), bounds=of("bounds"), mean=of("mean"), scale=of("scale"), slopes=of("slopes"),
        level=float(part["level"]),
    )  # fmt: skip
    process = Process(
        covariance=selection.covariance, shift=of("shift"), scale=of("spread"), at=np.ascontiguousarray(of("at").T),
        residual=of("residual"), noise=of("noise"),
    )  # fmt: skip
    forest = FlatForest(**{name: of(name) for name in _FOREST}) if f"{prefix}{_FOREST[0]}" in arrays else None
    return FittedFamily(
        forms=FittedForms(base=base, process=process, forest=forest), selection=selection, low=of("low"),
        high=of("high"),
        shapes=frozenset(of("shapes").tobytes().decode().split("\n")),
    )  # fmt: skip
