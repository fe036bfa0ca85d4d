"""The command line as a whole: help, version, and how an error is printed."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import latency_nas
from latency_nas.cli.main import app, main


def run_main(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The whole command line in this process, which has imported already what a new one would import for seconds."""
    output, errors = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
    ):
        patch.setattr(sys, "argv", ["latency-nas", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(arguments, code, output.getvalue(), errors.getvalue())


def start_main(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The whole command line in a process of its own, as a user starts it."""
    code = "from latency_nas.cli.main import main; main()"
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)  # noqa: S603


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for command in app.registered_commands:
        assert str(command.name) in result.output


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"latency-nas {latency_nas.__version__}\n"


def test_unknown_command_is_a_usage_error() -> None:
    result = start_main("tabels")
    assert result.returncode == 2
    assert run_main("tabels").returncode == 2
    assert "No such command 'tabels'" in result.stderr
