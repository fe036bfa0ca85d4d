"""Bundles: a session's networks and the device side as one file, for a device that cannot be reached from here.

On the device, ``python3 bundle.pyz`` writes raw samples to a file; `add_samples` adds that file to the session.
"""

from __future__ import annotations

import json
import os
import tempfile
import uuid
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latency_nas.errors import GraphError, MeasureError
from latency_nas.measure.device.boot import packages, sources
from latency_nas.measure.session import bundle_main
from latency_nas.measure.session.chunk import Chunk
from latency_nas.measure.session.run import check_device
from latency_nas.measure.session.session import Session, StoredNetwork
from latency_nas.measure.yardstick import write_yardstick

__all__ = ["add_samples", "write_bundle"]

_SHEBANG = b"#!/usr/bin/env python3\n"


def write_bundle(session: Session, target: str | os.PathLike[str], *, allow: Sequence[str] = ()) -> int:
    """Write a session's networks, with the programs that time them, as one file that ``python3`` runs.

    Args:
        session: Session, open for writing, since its networks are composed here.
        target: Path of the file, ``bundle.pyz``.
        allow: Packages that ops' classes may be of beside `ALLOWED_PACKAGES`.

    Returns:
        Number of networks in the bundle.

    Raises:
        UnsafeOpError: if an op's class is of a package that is not allowed.
        MeasureError: if no network of the session can be built.
    """
    path = Path(target)
    identity = session.fact("bundle") or uuid.uuid4().hex
    engine, suffix = session.engine, session.engine.suffixes[0]
    networks: dict[int, float] = {}
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        with tempfile.TemporaryDirectory() as folder, partial.open("wb") as file:
            file.write(_SHEBANG)
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.write(bundle_main.__file__, "__main__.py")
                modules = sources(engine)
                for module, source in modules.items():
                    archive.writestr(f"{module.replace('.', '/')}.py", source)
                for package in packages(modules):  # the device does not need this library
                    archive.writestr(f"{package.replace('.', '/')}/__init__.py", "")
                yardstick = write_yardstick(engine, Path(folder))
                archive.write(yardstick, yardstick.name)
                for network, built, min_ms in _built(session, Path(folder), allow):
                    archive.write(built, built.name)
                    built.unlink()
                    networks[network.id] = min_ms
                options = {"repetition": asdict(session.options.repetition), "rounds": session.options.rounds}
                options |= {"engine": engine.title, "suffix": suffix}
                archive.writestr("bundle.json", json.dumps({"id": identity, "networks": networks, **options}))
        if not networks:
            raise MeasureError(f"Expected networks to meter in {session.path}, but none of them can be built.")
        session.note("bundle", identity)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return len(networks)


def _built(session: Session, folder: Path, allow: Sequence[str]) -> Iterator[tuple[StoredNetwork, Path, float]]:
    """Each network, its file and its minimum time. If one fails, its work items are built one by one instead."""
    for number in range(session.n_chunks):
        chunk = Chunk(session, number, folder, allow=allow)
        chunk.compose_networks()
        seen: set[int] = set()
        while due := [network for network in chunk.networks() if network.id not in seen]:
            for network in due:
                seen.add(network.id)
                try:
                    built = chunk.build(network), chunk.min_ms(network)
                except (MeasureError, GraphError) as error:
                    chunk.fail(network, error)
                else:
                    yield network, *built


def add_samples(session: Session, source: str | os.PathLike[str], *, allow: Sequence[str] = ()) -> int:
    """Add the samples that a bundle of this session has written; lines that were added before are skipped.

    Args:
        session: Session, open for writing.
        source: Path of the file of samples.
        allow: Packages that ops' classes may be of beside `ALLOWED_PACKAGES`.

    Returns:
        Number of repetitions that were added.

    Raises:
        UnsafeOpError: if an op's class is of a package that is not allowed.
        MeasureError: if the file is of another session's bundle or of another device, or is damaged.
    """
    path = Path(source)
    lines = _lines(path)
    first = next(lines, {})
    if not session.fact("bundle") or first.get("bundle") != session.fact("bundle"):
        raise MeasureError(f"Expected {path} to hold samples of a bundle of {session.path}, but it does not.")
    check_device(session, {**first["hello"], "at": "a device that ran a bundle"})
    folder = path.parent  # nothing is written there
    chunks = [Chunk(session, number, folder, allow=allow) for number in range(session.n_chunks)]
    known = {network.id: (chunk, network) for chunk in chunks for network in chunk.networks()}
    name = f"samples {first['run']}"
    last_position, n_added = int(session.fact(name, "0")), 0
    for position, line in enumerate(lines, start=1):
        if position <= last_position or "begun" in line or line["network"] not in known:
            continue
        chunk, network = known[line["network"]]
        try:
            if "error" in line:
                raise MeasureError(line["error"])
            samples = chunk.checked(network, line)
        except (MeasureError, GraphError) as error:
            chunk.fail(network, error)
            del known[network.id]
            continue
        session.add_repetition(network.id, samples, facts={name: str(position)})
        n_added += 1
    return n_added


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The file's objects, without an incomplete last line, whose repetition was interrupted."""
    with path.open() as file:
        for number, text in enumerate(file, start=1):
            if not text.endswith("\n"):
                return
            try:
                line = json.loads(text)
                if not isinstance(line, dict) or not line.keys() & {"bundle", "network"}:
                    raise ValueError(f"it is {text[:40]!r}")
            except ValueError as error:
                raise MeasureError(f"Expected line {number} of {path} to be a bundle's, but {error}.") from error
            yield line
