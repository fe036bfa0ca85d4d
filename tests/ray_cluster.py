"""A real Ray cluster on this machine, to which tests add nodes and of which they kill some."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

# Options of each node: the bytes of its object store; no process that collects the logs of others
NODE: dict[str, Any] = {"object_store_memory": 80_000_000, "include_log_monitor": False}


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
            head_node_args={"num_cpus": 0, "include_dashboard": False, "no_monitor": True, **NODE},
        )
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        try:
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()


def wait_for_cpus(n_cpus: int, *, timeout_s: float = 300.0) -> None:
    """Wait until the cluster has this many; those of a node that died are counted for a while."""
    import ray

    ends_s = time.monotonic() + timeout_s
    while (found := ray.cluster_resources().get("CPU", 0)) != n_cpus:
        assert time.monotonic() < ends_s, found
        time.sleep(0.1)


def on_worker() -> bool:
    """Whether this process runs a node's tasks."""
    return Path(f"/proc/{os.getppid()}/comm").read_text().strip() == "raylet"


def kill_own_node() -> None:
    """End the node that the calling task runs on, and the task with it."""
    assert on_worker()
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def log_call(folder: Path) -> int:
    """Note which node runs this call; the number of calls so far."""
    import ray

    node = ray.get_runtime_context().get_node_id() if on_worker() else "driver"
    (folder / f"{time.time_ns()}-{os.getpid()}").write_text(node)
    return len(list(folder.iterdir()))


def die_once(folder: Path) -> None:
    """End the node of this call if it is the thirtieth or a later one, and no node was ended before."""
    if log_call(folder) >= 30 and on_worker():
        try:
            (folder.parent / "died").touch(exist_ok=False)
        except FileExistsError:
            return
        kill_own_node()
