"""The README's code runs, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_code_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    scope: dict[str, object] = {"__name__": "readme"}
    for block in blocks:
        exec(compile(block, str(README), "exec"), scope)  # noqa: S102
    assert len(blocks) == 6
    assert all(
        scope["plan"].latency_ms(one) <= scope["latency"].target_ms
        for one in scope["within"]  # type: ignore[attr-defined]
    )
    assert scope["estimate"].coverage == 1.0  # type: ignore[attr-defined]
    assert scope["estimate"].latency_ms == pytest.approx(scope["latency"].argmax_ms(), abs=1e-9)  # type: ignore[attr-defined]
    expected, argmax = map(float, re.findall(r"([\d.]+) ms", capsys.readouterr().out.splitlines()[0]))
    assert expected == pytest.approx(float(scope["latency"].target_ms), rel=0.1)  # type: ignore[attr-defined]
    assert argmax > 0


def test_the_commands_are_targets_of_the_makefile() -> None:
    commands = re.findall(r"```console\nmake (\w+)\n```", README.read_text(encoding="utf-8"))
    rules = re.findall(
        r"^(\w+): \$\(VENV\)", README.with_name("Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert commands == rules == ["demo", "test"]
    ci = README.with_name(".ci") / "run"
    assert ci.read_text(encoding="utf-8").splitlines()[-1] == "make test"
