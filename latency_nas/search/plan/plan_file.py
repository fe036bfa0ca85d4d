"""The file of a plan, in NumPy's ``.npz``: arrays that other programs can read, and everything as JSON; no pickle."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields as dataclass_fields
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile, is_zipfile

import numpy as np
from numpy.typing import NDArray

from latency_nas.errors import SearchError
from latency_nas.estimate.estimate import KernelEstimate
from latency_nas.kernel import LATENCY, Kernel, Quantity
from latency_nas.search.plan.cost import Cost, Term
from latency_nas.search.plan.limits import LimitRow

__all__ = ["read_plan", "write_plan"]

_Plan = TypeVar("_Plan")
_DAMAGED = (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, BadZipFile, zlib.error)


def write_plan(path: str | os.PathLike[str], plan: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write a plan.

    Args:
        path: File to write.
        plan: Fields of the plan by name.
        arrays: Packed arrays of the plan, by their names in the file.
    """
    kernels: dict[KernelEstimate, int] = {}  # each distinct kernel's price without its layer -> its number

    def plain(value: Any) -> Any:
        if isinstance(value, Cost):
            fields = {item.name: getattr(value, item.name) for item in dataclass_fields(value)}
            if value.kernels is not None:
                fields["kernels"] = [
                    (kernels.setdefault(kernel.at(""), len(kernels)), kernel.layer) for kernel in value.kernels
                ]
            return fields
        return {item.name: getattr(value, item.name) for item in dataclass_fields(value)}

    body = json.dumps(plan, default=plain)
    text = f'{{"plan": {body}, "kernels": {json.dumps([_plain_kernel(item) for item in kernels])}}}'
    with Path(path).open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, plan=np.frombuffer(text.encode(), np.uint8), **arrays)


def read_plan(path: str | os.PathLike[str], make: Callable[..., _Plan]) -> _Plan:
    """Read what `write_plan` of this version or an earlier one wrote.

    Args:
        path: File to read.
        make: Function that makes the plan from its fields.

    Raises:
        SearchError: if the file is no plan.
    """
    content = BytesIO(Path(path).read_bytes())
    try:
        if not is_zipfile(path):  # NumPy would take it for a pickle, and say how to load that unsafely
            raise ValueError("it is no .npz file")
        with np.load(content, allow_pickle=False) as arrays:
            text = json.loads(arrays["plan"].tobytes())
            if "plan" not in text:  # an early file, from before plans had kernels
                text = {"plan": text, "kernels": []}
            quantity = Quantity(**text["plan"]["quantity"]) if "quantity" in text["plan"] else LATENCY
            kernels = [_kernel(row, quantity) for row in text["kernels"]]
            return make(**_fields(text["plan"], kernels), quantity=quantity)
    except _DAMAGED as error:
        raise SearchError(
            f"Expected {path} to be a plan that CostPlan.save wrote, but reading it fails: {error}"
        ) from error


def _fields(read: Mapping[str, Any], kernels: Sequence[KernelEstimate]) -> dict[str, Any]:
    """The fields of a plan, without its quantity, from JSON."""

    def cost_of(part: Mapping[str, Any]) -> Cost:
        return _cost(part, kernels)

    terms = [
        Term(
            candidates=tuple([tuple(item) if isinstance(item, list) else item for item in term["candidates"]]),
            cost=cost_of(term["cost"]),
        )
        for term in read["terms"]
    ]
    costs, fixed = _costs_of_latencies(read) if "costs_ms" in read else (read["costs"], read["fixed"])
    return {
        "choices": tuple(read["choices"]),
        "candidates": tuple(map(tuple, read["candidates"])),
        "costs": tuple(tuple(map(cost_of, row)) for row in costs),
        "fixed": cost_of(fixed),
        "terms": tuple(terms),
        "expected_error": read["expected_error"],
        "n_checked": read.get("n_checked", 0),
        "n_fitted": read.get("n_fitted", 0),
        "limits": tuple(map(_limit, read.get("limits", ()))),
    }


def _limit(read: Mapping[str, Any]) -> LimitRow:
    weights = tuple((name, tuple(numbers)) for name, numbers in read["weights"])
    return LimitRow(weights, float(read["lower"]), float(read["upper"]))


def _costs_of_latencies(read: Mapping[str, Any]) -> tuple[list[list[Any]], Any]:
    """The costs and the fixed cost in an early file, in which all are latencies and some have no errors."""
    bare = [[{"value": number, "variance": None} for number in row] for row in read["costs_ms"]]
    return read["costs"] or bare, read["fixed"] or {"value": read["fixed_ms"], "variance": None}


def _cost(read: Mapping[str, Any], kernels: Sequence[KernelEstimate]) -> Cost:
    if "latency_ms" in read:  # an early file, from before plans had a quantity
        return Cost(
            value=read["latency_ms"], from_table=read["table_ms"], variance=read["variance_ms2"], source=read["source"]
        )
    runs = read.get("kernels")
    own = None if runs is None else tuple(kernels[number].at(layer) for number, layer in runs)
    return Cost(**{**read, "together": tuple(map(tuple, read.get("together", ()))), "kernels": own})


def _plain_kernel(kernel: KernelEstimate) -> dict[str, Any]:
    return {
        "kernel": kernel.kernel.key, "value": kernel.value, "std": kernel.std, "source": kernel.source,
        "extrapolated": kernel.extrapolated,
    }  # fmt: skip


def _kernel(read: Mapping[str, Any], quantity: Quantity) -> KernelEstimate:
    return KernelEstimate(**{**read, "kernel": Kernel.parse(read["kernel"])}, layer="", quantity=quantity)
