"""The README's code runs, and its commands exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from latency_nas.engine import registry
from tests.simulation import simulated_device

README = Path(__file__).parents[1] / "README.md"


def run_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the README's code after it ran from top to bottom."""
    monkeypatch.chdir(folder)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) == 6
    scope: dict[str, Any] = {"__name__": "readme"}
    torch.manual_seed(0)
    for block in blocks:
        exec(compile(block, str(README), "exec"), scope)  # noqa: S102
    return scope


def check_code(scope: dict[str, Any]) -> None:
    """Whatever a table says, what was found keeps the target, and the parts of the library agree."""
    plan, target_ms = scope["plan"], scope["latency"].target_ms + 1e-9  # sums of the same costs in another order
    rows, filtered = scope["candidates"].tolist(), scope["filtered"]
    passed = [dict(zip(plan.choices, rows[index], strict=True)) for index in filtered.passed.tolist()]
    assert all(
        plan.latency_ms(one) <= target_ms for one in [*passed, *[found.architecture for found in scope["solutions"]]]
    )
    assert filtered.n_passed + filtered.n_failed + filtered.n_uncertain == len(rows)
    assert scope["estimate"].coverage == 1.0
    assert scope["estimate"].latency_ms == pytest.approx(scope["latency"].argmax_ms(), abs=1e-9)


def test_the_code_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scope = run_code(tmp_path, monkeypatch)
    check_code(scope)
    assert scope["table"].datasheet.engine == "MNN"


def test_the_search_of_the_code_ends_on_its_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the simulated device, since a table of this machine depends on what else it does."""
    (tmp_path / "site").mkdir()
    with simulated_device(tmp_path / "site"):
        monkeypatch.setattr(registry, "_ENGINES", {"simulated": "simulated_device.engine:Simulated"})
        scope = run_code(tmp_path, monkeypatch)
    check_code(scope)
    assert scope["table"].datasheet.engine == "Simulated Device"
    expected, argmax = map(float, re.findall(r"([\d.]+) ms", capsys.readouterr().out.splitlines()[0]))
    assert expected == pytest.approx(float(scope["latency"].target_ms), rel=0.1)
    assert argmax > 0


def test_the_commands_are_targets_of_the_makefile() -> None:
    commands = re.findall(r"```console\nmake (\w+)\n```", README.read_text(encoding="utf-8"))
    rules = re.findall(
        r"^(\w+): \$\(VENV\)", README.with_name("Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert commands == rules == ["demo", "test"]
    ci = README.with_name(".ci") / "run"
    assert ci.read_text(encoding="utf-8").splitlines()[-1] == "make test"
