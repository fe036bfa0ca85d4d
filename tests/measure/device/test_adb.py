"""The real adb client, against a loopback device."""

# ruff: noqa: S603 - the client itself

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_nas.errors import RunnerLostError
from latency_nas.measure.device import Adb, RemoteRunner
from latency_nas.measure.session.result import build_table
from latency_nas.measure.session.run import run_session
from tests.adb_device import AdbDevice, adb_device
from tests.measure.session.test_session import KERNELS, new_session


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdbDevice]:
    with pytest.MonkeyPatch.context() as patch, adb_device(tmp_path_factory.mktemp("adb"), patch) as device:
        yield device


def test_commands_and_files(device: AdbDevice, tmp_path: Path) -> None:
    command = device.adb.command(["sh", "-c", "cat; echo err >&2; exit 7"])
    done = subprocess.run(command, input="in\n", capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("in\n", "err\n", 7)
    (tmp_path / "a").write_bytes(bytes(range(256)) * 1000)
    device.adb.push(tmp_path / "a", str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == bytes(range(256)) * 1000


def test_a_session_goes_on_when_the_cable_is_pulled(device: AdbDevice, tmp_path: Path) -> None:
    def cut(n_repetitions: int, _: int) -> None:
        if n_repetitions in (2, 5):
            device.drop()
            device.connect()

    with (
        new_session(tmp_path / "s.sqlite", KERNELS[:6]) as session,
        RemoteRunner(device.adb, python=sys.executable, wait_s=0.5) as runner,
    ):
        run_session(session, runner, on_progress=cut)
        assert session.problems() == {}
        assert set(KERNELS[:6]) <= set(build_table(session))


def test_a_phone_that_is_not_there(device: AdbDevice) -> None:
    with RemoteRunner(Adb(serial="R58M"), n_attempts=1) as runner, pytest.raises(RunnerLostError) as caught:
        runner.hello()
    assert str(caught.value) == (
        "adb:R58M was lost (exit status 1, saying: error: device 'R58M' not found). Nothing more was heard in "
        "1 attempts. What was measured is kept: see to the device, and run the same command again to go on."
    )
