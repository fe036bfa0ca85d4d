"""`ray_map`: one function for many items, as tasks on a Ray cluster. A worker or node that dies changes nothing.

Ray decides where each task runs, and runs those of dead workers and nodes again. The function and the items travel by
Ray's own transport between the machines of a cluster, which trust each other. Every node needs this library installed,
or given by a ``runtime_env`` where the user connects by ``ray.init`` beforehand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from latency_nas.errors import MissingExtraError, RunnerLostError

__all__ = ["mapper", "n_slots", "ray_map"]

_N_RETRIES = 10  # of a task whose worker or node died
_POLL_S = 2.0
_TIMEOUT_S = 600.0  # without a node that could run the tasks; a cluster that grows on demand needs minutes

Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


def ray_map(
    function: Callable[[Any], Any], items: Iterable[Any], *, address: str, n_gpus: float = 0.0
) -> Iterator[tuple[int, Any]]:
    """Call a function with each item on a Ray cluster, and give the results as they come.

    Items are taken while there are fewer tasks than about twice what the cluster runs at once. Tasks that are left when
    the iterator is closed, or when the function fails, are cancelled.

    Args:
        function: Pure function, which runs again where a worker died. It is sent once to the cluster, with all that it
            refers to, and loaded anew for each item.
        items: Items, each sent along with its task.
        address: Address of the cluster; ``"auto"`` is the one that this machine belongs to. A connection of this
            process that exists is used.
        n_gpus: Number of GPUs that each task needs, besides one CPU.

    Yields:
        The number of an item, from 0, and its result.

    Raises:
        MissingExtraError: if Ray is not installed.
        RunnerLostError: if there is no cluster, no node that could run the tasks, or an item's workers died again and
            again. What the function raises is raised as it is.
    """
    ray = _connected(address)
    needs = {"CPU": 1.0, **({"GPU": n_gpus} if n_gpus else {})}
    task = ray.remote(_call).options(num_cpus=1, num_gpus=n_gpus, max_retries=_N_RETRIES)
    sent = ray.put(function)
    numbered = enumerate(items)
    running: dict[Any, int] = {}
    try:
        while True:
            while len(running) <= 2 * _n_at_once(needs) and (pair := next(numbered, None)) is not None:
                running[task.remote(sent, pair[1])] = pair[0]
            if not running:
                return
            done = _first_done(list(running), needs)
            yield running.pop(done), _result(done)
    finally:
        for left in running:
            ray.cancel(left)


def mapper(address: str | None, otherwise: Any = map) -> Mapper:
    """What maps a function over items, with results in the order of the items.

    Args:
        address: Address of a Ray cluster; None for this machine.
        otherwise: What maps on this machine: `map`, or that of a pool.
    """
    return otherwise if address is None else partial(_in_order, address=address)


def n_slots(address: str) -> int:
    """The number of tasks with one CPU that a cluster runs at once, at least 1."""
    _connected(address)
    return max(1, _n_at_once({"CPU": 1.0}))


def _in_order(function: Callable[[Any], Any], items: Iterable[Any], *, address: str) -> Iterator[Any]:
    early: dict[int, Any] = {}
    n_given = 0
    for index, result in ray_map(function, items, address=address):
        early[index] = result
        while n_given in early:
            yield early.pop(n_given)
            n_given += 1


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError("Searching on several machines needs Ray: pip install 'latency-nas[ray]'") from error
    return ray


def _connected(address: str) -> Any:
    ray = _ray()
    if not ray.is_initialized():
        try:
            ray.init(address=address, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise RunnerLostError(
                f"Expected a Ray cluster at {address!r}, but there is none that answers ({error}): start one by `ray "
                f"start --head`, and add machines by `ray start --address=HEAD:6379`."
            ) from error
    return ray


def _n_at_once(needs: Mapping[str, float]) -> int:
    resources = _ray().cluster_resources()
    return int(min(resources.get(name, 0.0) / amount for name, amount in needs.items()))


def _first_done(tasks: list[Any], needs: Mapping[str, float]) -> Any:
    """The first task to end; waits as long as there are nodes for it."""
    last_seen_s = time.monotonic()
    while True:
        ready, _ = _ray().wait(tasks, timeout=_POLL_S)
        if ready:
            return ready[0]
        if _n_at_once(needs):
            last_seen_s = time.monotonic()
        elif time.monotonic() - last_seen_s > _TIMEOUT_S:
            needed = " and ".join(f"{amount:g} {name}" for name, amount in needs.items())
            raise RunnerLostError(
                f"Expected nodes with {needed} for each task in the Ray cluster, but for {_TIMEOUT_S:.0f} s there has "
                f"been none: add one by `ray start --address=HEAD:6379`. What was computed is kept if there is a file "
                f"for it, and the same call goes on with it."
            )


def _result(task: Any) -> Any:
    ray = _ray()
    try:
        return ray.get(task)
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        raise error if cause is None else cause from None
    except ray.exceptions.RayError as error:
        raise RunnerLostError(
            f"Expected a worker of the Ray cluster to end its task, but {_N_RETRIES + 1} of them died: {error}"
        ) from error


# ---- runs on the cluster's nodes ----


def _call(function: Callable[[Any], Any], item: Any) -> Any:
    return function(item)
