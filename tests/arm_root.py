"""An aarch64 Python with MNN's aarch64 wheel, to run under QEMU: Debian's packages, unpacked; nothing is installed."""

# ruff: noqa: S603 - clients as they are found on the PATH

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_MNN = "3.6.1"
_PACKAGES = ("python3.11-minimal", "python3.11", "libstdc++6", "libgomp1")
_APT = """
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
APT::Architecture "arm64";
APT::Architectures {{ "arm64"; }};
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Debug::NoLocking "1";
"""
_PLATFORMS = ("manylinux2014", "manylinux_2_17", "manylinux_2_27", "manylinux_2_28")


def arm_command() -> list[str]:
    """The command that starts the aarch64 Python here; what it needs is fetched once and kept in the user's cache."""
    for program, package in (("qemu-aarch64-static", "qemu-user-static"), ("apt-get", "apt"), ("dpkg-deb", "dpkg")):
        if not shutil.which(program):
            pytest.skip(f"no {program} here: apt-get install {package}")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    folder = cache / "latency-nas-tests" / f"aarch64-mnn-{_MNN}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as partial:
            try:
                _fetch(Path(partial))
            except subprocess.CalledProcessError as error:
                said = (error.stderr.strip() or error.stdout.strip()).splitlines()
                pytest.skip(f"no aarch64 Python could be fetched: {' '.join(map(str, error.cmd[:2]))}: {said[-1:]}")
            Path(partial, "made").rename(folder)
    root = folder / "root"
    qemu = ["qemu-aarch64-static", "-L", str(root), "-E", f"PYTHONPATH={folder / 'site'}"]
    return [*qemu, str(root / "usr/bin/python3.11")]


def _run(*command: object, **environment: str) -> None:
    words = [str(word) for word in command]
    subprocess.run(words, check=True, capture_output=True, text=True, env={**os.environ, **environment})


def _fetch(folder: Path) -> None:
    made = folder / "made"
    for part in ("state/lists/partial", "cache/archives/partial", "made/root"):
        (folder / part).mkdir(parents=True)
    (folder / "state/status").touch()
    (folder / "apt.conf").write_text(_APT.format(folder=folder))
    apt = {"APT_CONFIG": str(folder / "apt.conf")}
    _run("apt-get", "update", "-qq", **apt)
    _run("apt-get", "install", "-y", "-qq", "--download-only", *_PACKAGES, **apt)
    for package in (folder / "cache/archives").glob("*.deb"):
        _run("dpkg-deb", "-x", package, made / "root")
    platforms = [word for name in _PLATFORMS for word in ("--platform", f"{name}_aarch64")]
    _run(
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--target", made / "site", *platforms, "--only-binary=:all:", "--python-version", "3.11",
        "--implementation", "cp", f"MNN=={_MNN}",
    )  # fmt: skip
