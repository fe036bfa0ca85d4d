"""The command line as a whole: help, version, and how an error is printed."""

from __future__ import annotations

import subprocess
import sys

from typer.testing import CliRunner

import latency_nas
from latency_nas.cli.main import app


def run_main(*arguments: str) -> subprocess.CompletedProcess[str]:
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
    result = run_main("tabels")
    assert result.returncode == 2
    assert "No such command 'tabels'" in result.stderr
