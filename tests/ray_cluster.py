"""A real Ray cluster on this machine, to which tests add nodes and of which they kill some."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

MEMORY = 80_000_000  # bytes of a node's object store


@contextmanager
def ray_cluster() -> Iterator[Any]:
    """A cluster whose head runs no tasks, and to which this process is connected."""
    import ray
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        cluster = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 0, "object_store_memory": MEMORY, "include_dashboard": False},
        )
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def on_worker() -> bool:
    """Whether this process runs a node's tasks."""
    return Path(f"/proc/{os.getppid()}/comm").read_text().strip() == "raylet"


def kill_own_node() -> None:
    """End the node that the calling task runs on, and the task with it."""
    assert on_worker()
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
