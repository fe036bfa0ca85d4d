"""Devices: the system's own clients against real servers on loopback, with the real engine behind them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_nas.engine.mnn.converter import convert
from latency_nas.errors import MeasureError, RunnerLostError
from latency_nas.measure.device import Adb, Here, Prefix, RemoteRunner, Ssh, Transport
from latency_nas.measure.device.address import open_runner, parse_address
from latency_nas.measure.device.runner import LocalRunner
from latency_nas.measure.session.result import build_table
from latency_nas.measure.session.run import run_session
from latency_nas.measure.yardstick import yardstick_graph
from tests.cli.test_measure import YAML
from tests.cli.test_measure import run as run_command
from tests.measure.session.test_session import FAST, KERNELS, new_session
from tests.ssh_server import Server, free_port, ssh_server


@pytest.fixture(scope="module")
def yardstick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(yardstick_graph(), tmp_path_factory.mktemp("yardstick") / "yardstick.mnn")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as server:
        yield server


def test_addresses() -> None:
    assert parse_address("local") == Here()
    assert parse_address("ssh://pi@board") == Ssh(host="pi@board")
    assert parse_address("ssh://pi@board:2222/").name == "ssh://pi@board:2222"
    assert parse_address("adb:R58M").command(["echo", "a b"]) == ["adb", "-s", "R58M", "shell", "echo 'a b'"]
    assert parse_address("adb") == Adb()
    assert parse_address("prefix:docker exec -i 'my board'").command(["x"]) == ["docker", "exec", "-i", "my board", "x"]
    for text in ("", "board", "ssh://", "ssh://board:x"):
        with pytest.raises(MeasureError) as caught:
            parse_address(text)
        assert str(caught.value) == (
            f"Expected a device to be local, ssh://user@host[:port], adb, adb:serial or prefix:command, "
            f"but got {text!r}."
        )
    with pytest.raises(MeasureError, match=r"^Expected `host` to be a host, or user@host, but got '-oProxyCommand=x'"):
        parse_address("ssh://-oProxyCommand=x")
    with pytest.raises(MeasureError, match=r"^Expected a command after `prefix:`, such as .*, but got none\.$"):
        parse_address("prefix:")
    assert isinstance(open_runner("local"), LocalRunner)


def test_a_command_prefix_gives_what_this_machine_gives(yardstick: Path, tmp_path: Path) -> None:
    with LocalRunner() as here, RemoteRunner(Prefix(words=("env", "A=b")), python=sys.executable) as prefixed:
        assert prefixed.hello() == {**here.hello(), "at": "prefix:env A=b"}
        mine = here.repeat(yardstick, yardstick, FAST, describe=True)
        theirs = prefixed.repeat(yardstick, yardstick, FAST, describe=True)
        assert mine["ops"] == theirs["ops"]
        assert mine.keys() == theirs.keys()
        assert theirs["whole_ms"][0] > 0
        (tmp_path / "bad.mnn").write_bytes(b"no network")
        with pytest.raises(MeasureError, match=r"could not open .*bad.mnn: it is missing, truncated or no MNN model"):
            prefixed.repeat(tmp_path / "bad.mnn", yardstick, FAST, describe=False)


def test_files_go_there_once_and_those_that_are_gone_here_go_there_too(yardstick: Path, tmp_path: Path) -> None:
    with RemoteRunner(Here(), python=sys.executable) as runner:
        first = tmp_path / "first.mnn"
        first.write_bytes(yardstick.read_bytes())
        runner.repeat(first, yardstick, FAST, describe=False)
        there = {path.name: Path(name) for path, name in runner._sent.items()}
        assert sorted(there) == ["first.mnn", "yardstick.mnn"]
        stamp = there["yardstick.mnn"].stat().st_mtime_ns
        second = first.rename(tmp_path / "second.mnn")
        runner.repeat(second, yardstick, FAST, describe=False)
        assert not there["first.mnn"].exists()
        assert there["yardstick.mnn"].stat().st_mtime_ns == stamp
    assert not there["yardstick.mnn"].parent.exists()


def test_a_session_over_ssh_goes_on_when_its_connection_is_cut(server: Server, tmp_path: Path) -> None:
    """Every few repetitions the server's end of the connection is killed."""
    drops = []

    def cut(n_repetitions: int, _: int) -> None:
        if n_repetitions in (2, 5, 6):
            drops.append(len(server.connections()))
            server.drop()

    with (
        new_session(tmp_path / "s.sqlite", KERNELS[:6]) as session,
        RemoteRunner(server.ssh, python=sys.executable, wait_s=0.1) as runner,
    ):
        run_session(session, runner, on_progress=cut)
        assert drops == [1, 1, 1]
        assert session.problems() == {}
        table = build_table(session)
        assert set(KERNELS[:6]) <= set(table)
        assert table.datasheet.device.startswith(f"{server.ssh.name} (")


def test_scp_brings_a_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)))
    server.ssh.push(tmp_path / "a", str(tmp_path / "b"))
    assert (tmp_path / "b").read_bytes() == bytes(range(256))


def test_a_device_without_mnn_or_without_python(server: Server) -> None:
    name = server.ssh.name
    with RemoteRunner(server.ssh, python=f"{sys.executable} -I -S") as runner, pytest.raises(MeasureError) as caught:
        runner.hello()
    assert str(caught.value) == (
        f"{name}: Expected MNN to be installed for {sys.executable}, but it is not (No module named 'MNN'): "
        f"pip install MNN"
    )
    with RemoteRunner(server.ssh, python="/no/python3") as runner, pytest.raises(MeasureError) as caught:
        runner.hello()
    assert str(caught.value).startswith(f"Expected `/no/python3` to run on {name}, but it does not: {name} was lost (")
    assert str(caught.value).endswith(
        "). Install Python 3.8 or newer with MNN there (pip install MNN), or say how it is started, as "
        "--python '/opt/venv/bin/python'."
    )


def test_a_device_that_is_not_there() -> None:
    port = free_port()
    transport = Ssh(host="127.0.0.1", port=port)
    with RemoteRunner(transport, n_attempts=2, wait_s=0.1) as runner, pytest.raises(RunnerLostError) as caught:
        runner.hello()
    assert str(caught.value) == (
        f"ssh://127.0.0.1:{port} was lost (exit status 255, saying: ssh: connect to host 127.0.0.1 port {port}: "
        f"Connection refused). Nothing more was heard in 2 attempts. What was measured is kept: see to the device, "
        f"and run the same command again to go on."
    )
    with pytest.raises(RunnerLostError) as caught:
        transport.push(Path(__file__), "x")
    assert str(caught.value).startswith(f"ssh://127.0.0.1:{port} cannot be reached: scp ended with exit status ")
    nothing: Transport = Prefix(words=("no-such-client",))
    with RemoteRunner(nothing) as runner, pytest.raises(MeasureError) as caught_too:
        runner.hello()
    assert str(caught_too.value) == (
        "Reaching prefix:no-such-client needs `no-such-client`, but it is not installed here."
    )


def test_a_crash_is_the_networks_fault_when_it_comes_twice(yardstick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine's process is killed in the middle of every repetition, as a crash would end it."""
    with RemoteRunner(Here(), python=sys.executable, wait_s=0.1) as runner:
        runner.hello()
        send = RemoteRunner._send

        def killing(self: RemoteRunner, request: dict[str, object]) -> object:
            if request["do"] == "repeat":
                assert self._process is not None
                self._process.send_signal(signal.SIGSEGV)
            return send(self, request)

        monkeypatch.setattr(RemoteRunner, "_send", killing)
        with pytest.raises(MeasureError) as caught:
            runner.repeat(yardstick, yardstick, FAST, describe=False)
        assert not isinstance(caught.value, RunnerLostError)
        assert str(caught.value) == "MNN crashed on yardstick: local was lost (exit status -11)"


def test_another_device_at_the_same_address_is_refused(yardstick: Path) -> None:
    with RemoteRunner(Here(), python=sys.executable) as runner:
        runner._hello = {**runner.hello(), "processor": "Kryo"}
        runner.close()
        with pytest.raises(MeasureError, match=r"^Expected local to be the device that it was, with processor Kryo, "):
            runner.repeat(yardstick, yardstick, FAST, describe=False)


def test_the_command_measures_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "ops.yaml").write_text(YAML)
    start = ("measure", tmp_path / "ops.yaml", "-s", tmp_path / "s.sqlite", "--rounds", 1)
    run_command(*start, "--on", "prefix:env", "--python", sys.executable)
    built = run_command("table", "build", tmp_path / "s.sqlite", "-o", tmp_path / "t.parquet")
    assert "kernels. prefix:env: MNN " in built
    with pytest.raises(MeasureError, match=r"^Expected a device to be local, ssh://.*, but got 'board'\.$"):
        run_command(*start, "--on", "board")
