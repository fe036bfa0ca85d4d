"""`BlockPrices`: a table of blocks in the place of a `LatencyEstimator`, for plans that were made of its blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from latency_nas.errors import TableError
from latency_nas.estimate.estimator import LatencyEstimator
from latency_nas.graph import OpGraph
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.table import BlockTable, LatencyTable

__all__ = ["BlockPrices"]


class BlockPrices(LatencyEstimator):
    """Stands for a table of blocks where an estimator is expected. It prices no model, since it knows no kernels.

    Args:
        blocks: Table of blocks.
    """

    def __init__(self, blocks: BlockTable) -> None:
        sheet = replace(blocks.datasheet, notes=f"blocks with the fingerprint {blocks.fingerprint()}")
        super().__init__(LatencyTable.of({}, sheet, name=blocks.name))
        self.blocks = blocks

    def fuse(self, graph: OpGraph) -> NoReturn:
        """Refuse the graph.

        Raises:
            TableError: always.
        """
        self._refuse()

    def price(self, calls: Sequence[KernelCall]) -> NoReturn:
        """Refuse the kernels.

        Raises:
            TableError: always.
        """
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TableError(
            f"Expected a table of kernels to price a model, but {self.table.name} holds whole blocks: make a plan of "
            f"them by plan_of_candidates, and give it to attach_plan."
        )
