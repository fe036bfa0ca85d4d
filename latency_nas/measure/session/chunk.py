"""`Chunk`: a part of a session's work items, composed into networks, which are built when they are first timed."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from latency_nas.errors import (
    GraphError,
    IllegalOpError,
    KernelError,
    LatencyNASError,
    MeasureError,
    OpSpaceError,
    UnsafeOpError,
)
from latency_nas.graph import OpGraph
from latency_nas.kernel import Kernel, n_macs
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.measure.compose import Branches, compose, cover, join, side_by_side
from latency_nas.measure.session.session import Session, StoredNetwork
from latency_nas.measure.session.work_item import WorkItem

__all__ = ["Chunk"]

logger = logging.getLogger(__name__)

_MAX_MACS_A_MS = 1e9  # of one core: several times what the widest vector units reach, even with Winograd's algorithm


class Chunk:
    """Work items that are composed and timed together.

    Args:
        session: Session that the chunk is of.
        number: Number of the chunk.
        folder: Folder for the networks' files.
        allow: Packages that ops' classes may be of beside `ALLOWED_PACKAGES`.
        strict: Whether what cannot be metered is an error; if not, it is put aside.
    """

    def __init__(
        self, session: Session, number: int, folder: Path, *, allow: Sequence[str] = (), strict: bool = False
    ) -> None:
        self._session, self._number, self._folder = session, number, folder
        self._allow, self._strict = allow, strict
        self._engine, self._target = session.engine, session.options.target
        self._one_each = session.options.repetition.profile and not self._engine.times_ops  # a network for each kernel
        self._work_items = session.chunk(number)
        self._graphs: dict[int, OpGraph] = {}
        self._files: dict[Branches, Path] = {}
        self._known_calls: dict[Branches, tuple[KernelCall, ...]] = {}

    def _work_item(self, item: int) -> WorkItem:
        if item not in self._work_items:  # a derived one
            self._work_items[item] = self._session.work_item(item)
        return self._work_items[item]

    def _graph(self, item: int) -> OpGraph:
        if item not in self._graphs:
            try:
                self._graphs[item] = self._work_item(item).graph(self._engine, self._target, allow=self._allow)
            except UnsafeOpError as error:  # the op names the file it was read from; this time the session names it
                raise UnsafeOpError(f"{self._session.path}: {error}") from error
        return self._graphs[item]

    def compose_networks(self) -> None:
        """Compose the chunk's networks, once, from few work items that hold every kernel that no network has yet."""
        if self._session.is_composed(self._number):
            return
        kernels = {item: found for item in self._work_items if (found := self._read(item)) is not None}
        if self._session.options.repetition.profile:
            kernels = self._apart(kernels)
        whole = {item for item in kernels if self._work_items[item].kind in ("network", "file")}
        keys = self._session.kernel_keys()
        known = {kernel for found in kernels.values() for kernel in found if kernel.key in keys}
        parts = cover({item: found for item, found in kernels.items() if item not in whole}, known)
        networks: list[Branches] = [((item,),) for item in sorted(whole)]
        networks += self._composed(parts)
        self._session.add_networks(self._number, [(branches, self._kernels(branches)) for branches in networks])

    def _read(self, item: int) -> set[Kernel] | None:
        """The kernels of a work item; None if it cannot be read, and it is then put aside."""
        try:
            if self._work_item(item).kind == "file" and not self._session.options.repetition.profile:
                return set()
            self._graph(item)  # an engine's file has none, which is an error here
            return {kernel for kernel in self._kernels(((item,),)) if kernel.op not in self._engine.layout_ops}
        except UnsafeOpError:  # not put aside: the user may have forgotten to allow it
            raise
        except (OpSpaceError, GraphError, KernelError, MeasureError) as error:
            self._put_aside(item, error)
            return None

    def _apart(self, kernels: Mapping[int, set[Kernel]]) -> dict[int, set[Kernel]]:
        """The work items, those whose ops cannot be timed one by one replaced by their kernels."""
        whole = {item for item, found in kernels.items() if self._one_each or any(map(self._is_whole, found))}
        replaced = self._one_kernel_each({item: kernels[item] for item in whole}) if whole else {}
        return {item: found for item, found in kernels.items() if item not in whole} | replaced

    def _is_whole(self, kernel: Kernel) -> bool:
        return kernel.op in self._engine.timed_whole

    def _one_kernel_each(self, kernels: Mapping[int, set[Kernel]]) -> dict[int, set[Kernel]]:
        """Work items of one kernel each, for an engine that times only whole networks."""
        single = {next(iter(found)): item for item, found in kernels.items() if self._work_items[item].kind == "kernel"}
        known = self._session.kernel_keys() | {kernel.key for kernel in single}
        for kernel in sorted(set().union(*kernels.values()), key=str) if kernels else ():
            if kernel.key not in known:
                single[kernel] = self._session.add_work_item(WorkItem.of(kernel))
        return {item: found for item in single.values() if (found := self._read(item)) is not None}

    def _put_aside(self, item: int, error: LatencyNASError) -> None:
        """Store why a work item cannot be metered; raise it if the chunk is strict."""
        label = self._work_item(item).label
        if self._strict:
            error.add_note(f"This is an error of {label}.")
            raise error
        level = logging.INFO if isinstance(error, IllegalOpError) else logging.WARNING
        logger.log(level, "%s is put aside: %s", label, str(error).removeprefix(f"{label}: "))
        self._session.set_problem(item, f"{type(error).__name__}: {error}")

    def _composed(self, parts: Sequence[int]) -> list[Branches]:
        options = self._session.options
        if options.context == "alone" or self._one_each:
            return [((item,),) for item in parts]
        own = [item for item in parts if any(map(self._is_whole, self._read(item) or ()))]
        graphs = {item: self._graph(item) for item in parts if item not in own}
        foldable = any(self._work_items[item].kind == "op" for item in parts)
        networks: list[Branches] = [((item,),) for item in own]
        for context in range(options.contexts):
            seed = hash((options.seed, self._number, context)) % 2**32  # of integers: the same in every process
            fold = foldable and context % 2 == 1
            networks += compose(
                graphs, self._engine, self._target, items_per_network=options.items_per_network, seed=seed, fold=fold
            )
        return networks

    def _branches(self, branches: Branches) -> list[OpGraph]:
        return [join([self._graph(item) for item in branch]) for branch in branches]

    def _calls(self, branches: Branches) -> tuple[KernelCall, ...]:
        """The kernels of a network by the engine's rules; none for a file, whose graph is not known."""
        if branches not in self._known_calls:
            is_file = self._work_item(branches[0][0]).kind == "file"
            graphs = [] if is_file else self._branches(branches)
            self._known_calls[branches] = self._engine.fuse_branches(graphs, self._target)
        return self._known_calls[branches]

    def _kernels(self, branches: Branches) -> list[Kernel]:
        return [call.kernel for call in self._calls(branches)]

    def networks(self) -> list[StoredNetwork]:
        """The chunk's networks now, without those that failed."""
        return list(self._session.networks(self._number))

    def build(self, network: StoredNetwork) -> Path:
        """The network's file as the engine takes it; written by the first call.

        Raises:
            MeasureError: if it cannot be written or converted.
            GraphError: if a module cannot be read.
        """
        target = self._folder / f"network_{network.id}{self._engine.suffixes[0]}"
        if not target.exists():
            same = self._files.setdefault(
                network.branches, target
            )  # a large work item is alone in its network in every context
            if same.exists():
                target.hardlink_to(same)
            else:
                self._engine.write(self._whole(network.branches), target, seed=self._session.options.seed + network.id)
        return target

    def _whole(self, branches: Branches) -> OpGraph | Path:
        item = self._work_item(branches[0][0])
        return Path(item.text) if item.kind == "file" else side_by_side(self._branches(branches))

    def min_ms(self, network: StoredNetwork) -> float:
        """A time in which no processor can run the network."""
        macs = sum(n_macs(kernel) for kernel in self._kernels(network.branches))
        return macs / (_MAX_MACS_A_MS * self._session.options.repetition.threads)

    def checked(self, network: StoredNetwork, raw: Mapping[str, Any]) -> Mapping[str, Any]:
        """The samples of a repetition, compared with the kernels by rule.

        They must be of as many ops as the rules give, and of the same ones, if the device reported what they are. A
        kernel that runs as a loop of ops has the times of the whole network instead.

        Raises:
            MeasureError: if they differ.
        """
        if self._work_item(network.branches[0][0]).kind == "file":
            return raw
        if any(self._is_whole(kernel) for kernel in self._kernels(network.branches)):
            profiled = self._session.options.repetition.profile
            return {**raw, "ops": None, "ops_ms": [[ms] for ms in raw["whole_ms"]] if profiled else []}
        calls, label = self._calls(network.branches), self._label(network)
        self._engine.check_ops(raw["ops"], calls, label)
        if n_timed := {len(run) for run in raw["ops_ms"]} - {len(calls)}:
            raise MeasureError(
                f"Expected {self._engine.title} to time the {len(calls)} kernels that the fusion rules give for "
                f"{label}, but it timed {min(n_timed)} ops. The fusion rules of {self._engine.title} do not cover "
                f"this network."
            )
        return raw

    def _label(self, network: StoredNetwork) -> str:
        """The network's name in messages: the label of its work item if it has only one."""
        work_items = [item for branch in network.branches for item in branch]
        return self._work_item(work_items[0]).label if len(work_items) == 1 else f"network_{network.id}"

    def fail(self, network: StoredNetwork, error: LatencyNASError) -> None:
        """Put a network aside. Its work items, if there are several, are then tried one by one."""
        self._session.drop_network(network.id, str(error))
        work_items = [item for branch in network.branches for item in branch]
        if len(work_items) == 1:
            self._put_aside(work_items[0], error)
            return
        known = {item.branches for item in self.networks()}
        singles: list[Branches] = [((item,),) for item in work_items if ((item,),) not in known]
        self._session.add_networks(self._number, [(item, self._kernels(item)) for item in singles], last=False)
