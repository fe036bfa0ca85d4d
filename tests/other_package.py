"""A package of somebody else's: what installing it leaves behind, here without an installer."""

from __future__ import annotations

import contextlib
import os
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_nas.engine import registry


def install(project: Path, folder: Path) -> None:
    """Leave in `folder` what installing the project there would: its packages, and metadata with its entry points."""
    metadata = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    for package in project.glob("*/__init__.py") if project != folder else ():
        (folder / package.parent.name).symlink_to(package.parent)
    info = folder / f"{metadata['name'].replace('-', '_')}-{metadata['version']}.dist-info"
    info.mkdir()
    named = f"Name: {metadata['name']}\nVersion: {metadata['version']}\n"
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\n{named}")
    groups = metadata["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {place}\n" for name, place in points.items()) for group, points in groups
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))


@contextlib.contextmanager
def on_the_path(folder: Path) -> Iterator[None]:
    """What is installed in `folder` is there for this process, and for those that it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        registry._of_other_packages.cache_clear()
        yield
    registry._of_other_packages.cache_clear()
