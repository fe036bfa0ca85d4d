"""One chunk of a session: its pieces read, composed into networks, and each network built when it is first visited."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from latency_nas.engine.mnn.mnn_engine import ExecutedOp, convert, expected_ops
from latency_nas.errors import GraphError, IllegalOpError, LatencyNASError, MeasureError, OpSpaceError, UnsafeOpError
from latency_nas.graph import OpGraph
from latency_nas.kernel import Kernel
from latency_nas.measure.compose import Branches, compose, cover, executed_calls, join, own_kernels, side_by_side
from latency_nas.measure.session.session import Session, StoredNetwork

__all__ = ["Chunk"]

logger = logging.getLogger(__name__)


class Chunk:
    """Pieces that are composed and visited together.

    Args:
        session: whose chunk it is.
        number: of the chunk.
        folder: for the networks' files.
        allow: Packages that ops' classes may be of beside `ALLOWED_PACKAGES`.
    """

    def __init__(self, session: Session, number: int, folder: Path, *, allow: Sequence[str] = ()) -> None:
        self._session, self._number, self._folder, self._allow = session, number, folder, allow
        self._pieces = session.chunk(number)
        self._graphs: dict[int, OpGraph] = {}
        self._files: dict[Branches, Path] = {}

    def _graph(self, piece: int) -> OpGraph:
        if piece not in self._graphs:
            try:
                self._graphs[piece] = self._pieces[piece].graph(allow=self._allow)
            except UnsafeOpError as error:  # the file that asks for it is the session, whatever the op says
                raise UnsafeOpError(f"{self._session.path}: {error}") from error
        return self._graphs[piece]

    def plan(self) -> None:
        """Decide on the chunk's networks, unless that was done: as few pieces as hold every kernel not yet planned."""
        if self._session.is_planned(self._number):
            return
        kernels = {piece: found for piece in self._pieces if (found := self._read(piece)) is not None}
        whole = {piece for piece in kernels if self._pieces[piece].kind == "network"}
        keys = self._session.kernel_keys()
        known = {kernel for found in kernels.values() for kernel in found if kernel.key in keys}
        parts = cover({piece: found for piece, found in kernels.items() if piece not in whole}, known)
        networks: list[Branches] = [((piece,),) for piece in sorted(whole)]
        networks += self._composed(parts)
        self._session.plan(self._number, [(branches, self._kernels(branches)) for branches in networks])

    def _read(self, piece: int) -> set[Kernel] | None:
        """The kernels of a piece; a piece that cannot be read is put aside."""
        try:
            return own_kernels(self._graph(piece))
        except UnsafeOpError:  # not put aside: the user may have forgotten to allow it
            raise
        except (OpSpaceError, GraphError, MeasureError) as error:
            self._put_aside(piece, error)
            return None

    def _put_aside(self, piece: int, error: LatencyNASError) -> None:
        label = self._pieces[piece].label
        level = logging.INFO if isinstance(error, IllegalOpError) else logging.WARNING
        logger.log(level, "%s is put aside: %s", label, str(error).removeprefix(f"{label}: "))
        self._session.set_problem(piece, f"{type(error).__name__}: {error}")

    def _composed(self, parts: Sequence[int]) -> list[Branches]:
        options = self._session.options
        if options.context == "alone":
            return [((piece,),) for piece in parts]
        graphs = {piece: self._graph(piece) for piece in parts}
        foldable = any(self._pieces[piece].kind == "op" for piece in parts)
        networks: list[Branches] = []
        for context in range(options.contexts):
            seed = hash((options.seed, self._number, context)) % 2**32  # of integers: the same in every process
            fold = foldable and context % 2 == 1
            networks += compose(graphs, n_pieces=options.n_pieces, seed=seed, fold=fold)
        return networks

    def _branches(self, branches: Branches) -> list[OpGraph]:
        return [join([self._graph(piece) for piece in branch]) for branch in branches]

    def _kernels(self, branches: Branches) -> list[Kernel]:
        return [call.kernel for call in executed_calls(self._branches(branches))]

    def networks(self) -> list[StoredNetwork]:
        """The networks as they are planned now."""
        return list(self._session.networks(self._number))

    def build(self, network: StoredNetwork) -> tuple[Path, list[ExecutedOp]]:
        """The network's MNN file, made when first asked for, and the ops that MNN should run.

        Raises:
            MeasureError: if it cannot be written or converted.
            GraphError: if a module cannot be read.
        """
        target = self._folder / f"network_{network.id}.mnn"
        if not target.exists():
            same = self._files.setdefault(network.branches, target)  # a piece too large for company: in each context
            if same.exists():
                target.hardlink_to(same)
            else:
                whole = side_by_side(self._branches(network.branches))
                convert(whole, target, seed=self._session.options.seed + network.id)
        return target, self.expected(network)

    def expected(self, network: StoredNetwork) -> list[ExecutedOp]:
        """The ops that MNN should run for a network."""
        return expected_ops(executed_calls(self._branches(network.branches)))

    def fail(self, network: StoredNetwork, error: LatencyNASError) -> None:
        """Put a network aside; of several pieces each is tried alone from now on, so that the rest loses nothing."""
        self._session.drop_network(network.id, str(error))
        pieces = [piece for branch in network.branches for piece in branch]
        if len(pieces) == 1:
            self._put_aside(pieces[0], error)
            return
        known = {item.branches for item in self.networks()}
        singles: list[Branches] = [((piece,),) for piece in pieces if ((piece,),) not in known]
        self._session.plan(self._number, [(item, self._kernels(item)) for item in singles], last=False)
