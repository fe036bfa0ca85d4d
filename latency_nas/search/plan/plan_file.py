"""A plan's file: NumPy's ``.npz``, with arrays to be read without this library and all else as JSON; no pickle."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.kernel import LATENCY, Quantity
from latency_nas.search.plan.cost import Cost, Term

__all__ = ["read_plan", "write_plan"]

_Plan = TypeVar("_Plan")
_DAMAGED = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, BadZipFile, zlib.error)


def write_plan(path: str | Path, plan: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a plan.

    Args:
        path: File to write.
        plan: All of the plan, as plain data.
        arrays: Packed parts of it, by the names that the file gives them.
    """
    text = json.dumps(plan)
    with Path(path).open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, plan=np.frombuffer(text.encode(), np.uint8), **arrays)


def read_plan(path: str | Path, make: Callable[..., _Plan]) -> _Plan:
    """Read what `write_plan` wrote, now or before plans had a quantity.

    Args:
        path: File to read.
        make: Function that makes the plan of its fields.

    Raises:
        SearchError: if the file is no plan.
    """
    content = BytesIO(Path(path).read_bytes())
    try:
        with np.load(content, allow_pickle=False) as arrays:
            return make(**_fields(json.loads(arrays["plan"].tobytes())))
    except _DAMAGED as error:
        raise SearchError(
            f"Expected {path} to be a plan that CostPlan.save wrote, but reading it fails: {error}"
        ) from error


def _fields(read: Mapping[str, Any]) -> dict[str, Any]:
    """From JSON's lists to the fields of a plan."""
    terms = [Term(candidates=tuple(term["candidates"]), cost=_cost(term["cost"])) for term in read["terms"]]
    costs, fixed = _costs_of_latencies(read) if "costs_ms" in read else (read["costs"], read["fixed"])
    return {
        "choices": tuple(read["choices"]),
        "candidates": tuple(map(tuple, read["candidates"])),
        "costs": tuple(tuple(map(_cost, row)) for row in costs),
        "fixed": _cost(fixed),
        "terms": tuple(terms),
        "expected_error": read["expected_error"],
        "quantity": Quantity(**read["quantity"]) if "quantity" in read else LATENCY,
    }


def _costs_of_latencies(read: Mapping[str, Any]) -> tuple[list[list[Any]], Any]:
    """The costs in a file of before plans had a quantity: numbers, beside them how sure they are, or not."""
    bare = [[{"value": number, "variance": None} for number in row] for row in read["costs_ms"]]
    return read["costs"] or bare, read["fixed"] or {"value": read["fixed_ms"], "variance": None}


def _cost(read: Mapping[str, Any]) -> Cost:
    if "latency_ms" not in read:
        return Cost(**{**read, "together": tuple(map(tuple, read.get("together", ())))})
    return Cost(
        value=read["latency_ms"], from_table=read["table_ms"], variance=read["variance_ms2"], source=read["source"]
    )
