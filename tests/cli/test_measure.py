"""The commands from an op space to a table, one after the other as a person runs them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from latency_nas.cli.main import app
from latency_nas.errors import MeasureError
from latency_nas.table import load_table
from tests.cli.test_main import run_main

YAML = """
latency_nas: 1
ops:
  - class: torch.nn.Conv2d
    parameters: {in_channels: [8], out_channels: [8, 16], kernel_size: 3, padding: 1, groups: [1, 3]}
    sizes: {size: 8}
"""


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "ops.yaml").write_text(YAML)
    return folder


def test_from_an_op_space_to_a_table(folder: Path) -> None:
    output = run("space", "show", folder / "ops.yaml", "--reasons", 1)
    assert "4 combinations: 2 ops, 2 illegal, 0 that fail\n2 distinct kernels, all of them in 2 of the ops\n" in output
    assert re.search(r"a session on this machine takes \d+ s to \d+ s\n", output)
    assert (
        "illegal: torch.nn.Conv2d(in_channels=8, out_channels=8, kernel_size=3, padding=1, groups=3) on [1, 8, 8, 8]: "
        "the constructor raises ValueError: in_channels must be divisible by groups\n"
        "illegal: and 1 more (--reasons 2 lists them)\n"
    ) in output
    session, table = folder / "s.sqlite", folder / "t.parquet"
    measured = run("measure", folder / "ops.yaml", "-s", session, "--batch", 2, "--rounds", 3, "--device", "Board")
    assert "put aside: torch.nn.Conv2d(" in measured
    assert f"next: latency-nas table build {session} -o TABLE" in measured
    again = run("measure", folder / "ops.yaml", "-s", session)
    assert f"going on with {session} after " in again
    assert "kernels. Board: MNN 3.6.1 on CPU, fp32, 1 thread, batch 2, measured" in run(
        "table", "build", session, "-o", table
    )
    assert {kernel.outputs[0] for kernel in load_table(str(table))} >= {(2, 8, 8, 8), (2, 16, 8, 8)}
    info = run("table", "info", table)
    assert re.search(r"batch\s+2", info)
    assert re.search(r"kernels\s+\d+: ", info)
    assert "the second takes 1.000 x the first's time, in the median" in run("table", "diff", table, table)
    run("table", "merge", table, table, "-o", folder / "m.parquet")
    assert set(load_table(str(folder / "m.parquet"))) == set(load_table(str(table)))
    run("table", "export", table, folder / "t.csv")
    assert (folder / "t.csv").read_text().count("\nconv2d") == 0
    assert (folder / "t.csv").read_text().count(",conv2d,") == 2


def test_the_op_space_of_a_supernet_holds_every_kernel_of_it(folder: Path) -> None:
    output = run("space", "from", "tests.supernets:ChainNet", "--input-shape", "1,1,8,8", "-o", folder / "net.yaml")
    count = int(re.search(r"net\.yaml: (\d+) kernels", output)[1])  # type: ignore[index]
    assert f"{count} combinations: {count} ops, 0 illegal, 0 that fail" in run("space", "show", folder / "net.yaml")
    run("measure", "tests.supernets:ChainNet", "-s", folder / "net.sqlite", "--input-shape", "1,1,8,8", "--rounds", 1)
    run("table", "build", folder / "net.sqlite", "-o", folder / "net.parquet", "--statistic", "min")
    table = {kernel.key for kernel in load_table(str(folder / "net.parquet"))}
    assert set(re.findall(r"  - '(.*)'", (folder / "net.yaml").read_text())) <= table


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("space show none.yaml", "FileNotFoundError: Expected an op space at none.yaml, but there is no such file."),
        (
            "measure a:b -s s.sqlite",
            "GraphError: Expected --input-shape beside a model, such as --input-shape 1,3,224,224.",
        ),
        (
            "measure nomodule:b -s s.sqlite --input-shape 1,3,8,8",
            (
                "GraphError: Expected 'nomodule:b' to be package.module:callable that gives a torch module, but it "
                "fails (ModuleNotFoundError: No module named 'nomodule')."
            ),
        ),
        (
            "space from torch.nn:ReLU --input-shape 1,x -o y.yaml",
            "InputMismatchError: Expected --input-shape to be positive integers such as 1,3,224,224, but got '1,x'.",
        ),
        (
            "table build none.sqlite -o t",
            "FileNotFoundError: Expected a session at none.sqlite, but there is no such file.",
        ),
    ],
)
def test_what_is_wrong_is_one_message(command: str, message: str) -> None:
    result = run_main(*command.split())
    assert (result.returncode, result.stdout, result.stderr) == (1, "", f"error: {message}\n")


def test_a_session_is_of_one_op_space(tmp_path: Path) -> None:
    for name in ("ops", "others"):
        (tmp_path / f"{name}.yaml").write_text(YAML)
    session, bundle = tmp_path / "s.sqlite", tmp_path / "b.pyz"
    run("measure", tmp_path / "ops.yaml", "-s", session, "--bundle", bundle)
    run("measure", tmp_path / "ops.yaml", "-s", session, "--bundle", bundle)
    with pytest.raises(MeasureError) as caught:
        run("measure", tmp_path / "others.yaml", "-s", session, "--bundle", bundle)
    assert str(caught.value) == (
        f"Expected {session} to go on with {tmp_path / 'ops.yaml'}, which it was begun for, but got "
        f"{tmp_path / 'others.yaml'}: name another session."
    )
