"""The kernels of a model file as the engine itself reports them, and how the rules deviate from that."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from latency_nas.engine.engine import Engine
from latency_nas.engine.registry import get_engine
from latency_nas.engine.rules import read_branches, read_kernels
from latency_nas.engine.target import Target
from latency_nas.errors import GraphError, LatencyNASError
from latency_nas.graph.input_shapes import InputShape
from latency_nas.kernel.kernel_call import KernelCall

__all__ = ["KernelSource", "Lowered", "Network", "lower_kernels"]

KernelSource = Literal["engine", "rules"]
Network = tuple[Mapping[str, bool], tuple[KernelCall, ...]]
"""Decisions, name of a branch -> whether its condition is true, and the kernels that then run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """The kernels of a model, with their source.

    Args:
        networks: Decisions and kernels of the network, or of each between which values of inputs decide.
        source: Whether the engine reported them or the rules gave them.
        engine: Title of the engine, with its version where it reported them.
        reason: Why the rules gave them, where the engine was wanted.
        rules: Kernels by the rules, to compare with the engine's; None where the rules gave `calls` or cannot read the
            model.
        unread: Why the rules cannot read the model.
    """

    networks: tuple[Network, ...]
    source: KernelSource
    engine: str
    reason: str = ""
    rules: tuple[KernelCall, ...] | None = None
    unread: str = ""

    @property
    def calls(self) -> tuple[KernelCall, ...]:
        """Kernels of the first network, in the order in which they run."""
        return self.networks[0][1]

    @property
    def first_difference(self) -> int | None:
        """The first position at which the rules deviate from the engine, from 0; None where they do not."""
        if self.rules is None:
            return None
        pairs = [*zip(self.calls, self.rules, strict=False)]
        wrong = next((i for i, (ran, ruled) in enumerate(pairs) if ran.kernel != ruled.kernel), len(pairs))
        return wrong if wrong < max(len(self.calls), len(self.rules)) else None

    def __str__(self) -> str:
        if self.source == "rules":
            why = f" (the engine is not asked: {self.reason})" if self.reason else ""
            return f"kernels by the rules of {self.engine}{why}"
        text = f"kernels as {self.engine} runs them: {len(self.calls)}"
        if self.rules is None:
            return f"{text}; the rules cannot read the model: {self.unread}"
        wrong = self.first_difference
        if wrong is None:
            return f"{text}; the rules give the same"
        ran, ruled = (next((str(call.kernel) for call in side[wrong:]), "none") for side in (self.calls, self.rules))
        return (
            f"{text}; rules: {len(self.rules)}, first difference at {wrong + 1}: {ran} in the engine, {ruled} by rule"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON: the source, and the rules' deviation from the engine."""
        plain: dict[str, Any] = {"source": self.source, "engine": self.engine, "n_kernels": len(self.calls)}
        if self.source == "rules":
            return plain | {"reason": self.reason}
        if self.rules is None:
            return plain | {"rules": None, "unread": self.unread}
        wrong = self.first_difference
        first = wrong if wrong is None else {
            "index": wrong,
            **{name: next((call.kernel.key for call in side[wrong:]), None)
               for name, side in (("engine", self.calls), ("rules", self.rules))},
        }  # fmt: skip
        return plain | {"rules": {"n_kernels": len(self.rules), "first_difference": first}}


def lower_kernels(
    source: Any,
    engine: str | Engine | None,
    example_input: Any = None,
    *,
    target: Target,
    engine_version: str = "",
    input_shape: InputShape | None = None,
    kernels: KernelSource | None = None,
) -> Lowered:
    """The kernels of a model: the engine's own where it is at hand and the model is a file, otherwise by rule.

    Args:
        source: Graph, or any model that `read_model` accepts.
        engine: Engine, or its name; by default the registry's first.
        example_input: Example input of the model, as in `read_model`.
        target: Device and settings that the engine's rules depend on.
        engine_version: Version of the engine that is meant, as it reports itself; empty where it is not known. Then the
            engine at hand is asked only for ``kernels="engine"``.
        input_shape: Shape of the model's input, as in `read_model`.
        kernels: ``"engine"`` or ``"rules"``; None for the engine where it can be asked, otherwise the rules.

    Raises:
        GraphError: if the model cannot be read, or `kernels` is ``"engine"`` and the engine cannot be asked or cannot
            run the model.
        InputMismatchError: if the input does not fit.
    """
    if kernels is not None and kernels not in get_args(KernelSource):
        raise GraphError(f"Expected `kernels` to be engine or rules, but got {kernels!r}.")
    found = get_engine(engine)
    reason = ""
    if kernels != "rules":
        reason = _hindrance(source, found, engine_version, asked=kernels == "engine")
        if not reason:
            try:
                return _by_engine(Path(source), found, target, input_shape)
            except LatencyNASError as error:
                if kernels == "engine":
                    raise
                reason = str(error)
        elif kernels == "engine":
            raise GraphError(f"Expected {found.title} to be asked for the kernels of {source}, but {reason}.")
    networks = read_branches(source, found, example_input, target=target, input_shape=input_shape)
    return Lowered(networks=tuple(networks), source="rules", engine=found.title, reason=reason)


def _hindrance(source: Any, engine: Engine, version: str, *, asked: bool) -> str:
    """Why the engine cannot be asked; empty where it can."""
    if type(engine).lower is Engine.lower:
        return "it does not report the kernels that it runs"
    if not isinstance(source, str | os.PathLike) or Path(source).suffix not in engine.suffixes:
        return f"it takes files only ({', '.join(engine.suffixes)})"
    at_hand = engine.installed_version()
    if not at_hand:
        return f"it is not at hand ({engine.install})"
    if version and version != at_hand:
        return f"the table is of version {version}, and {at_hand} is installed"
    if not version and not asked:
        return "the table does not state the engine's version"
    return ""


def _by_engine(file: Path, engine: Engine, target: Target, input_shape: InputShape | None) -> Lowered:
    calls = engine.lower(file, target, input_shape=input_shape)
    if calls is None:
        raise GraphError(f"Expected {engine.title} to report the kernels of {file}, but it reports none.")
    networks: tuple[Network, ...] = (({}, calls),)
    title = f"{engine.title} {engine.installed_version()}"
    try:
        rules = read_kernels(file, engine, target=target, input_shape=input_shape)
    except LatencyNASError as error:
        return Lowered(networks=networks, source="engine", engine=title, unread=str(error))
    return Lowered(networks=networks, source="engine", engine=title, rules=rules)
