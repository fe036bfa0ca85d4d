"""Op spaces and sessions of strangers: nothing that they name is imported or called unless it is allowed."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from latency_nas.compat.mmt import generate_ops_list, meter_ops
from latency_nas.engine import Target, get_engine
from latency_nas.errors import IllegalOpError, OpSpaceError, UnsafeOpError
from latency_nas.measure.device.runner import LocalRunner, RepetitionOptions
from latency_nas.measure.session.bundle import add_samples, write_bundle
from latency_nas.measure.session.options import SessionOptions
from latency_nas.measure.session.run import run_session
from latency_nas.measure.session.session import Session
from latency_nas.measure.session.survey import survey_space
from latency_nas.measure.session.work_item import WorkItem
from latency_nas.measure.space import ALLOWED_PACKAGES, Op, read_space
from latency_nas.measure.space.allow_list import allowed_packages, is_allowed
from tests.cli.test_main import run_main

FAST = SessionOptions(repetition=RepetitionOptions(n_runs=2, n_yardstick=3), rounds=1, min_rounds=1, contexts=1)
TRACE = "from pathlib import Path\nMARKER = Path(__file__).with_name('marker')\n"
MODULES = {
    "hostile_import": TRACE + "from torch.nn import ReLU as Layer\nMARKER.touch()\n",
    "hostile_kinds": TRACE + "class Plain:\n    def __init__(self):\n        MARKER.touch()\n"
    "def make(**arguments):\n    MARKER.touch()\n",
    "reexports": "from hostile_home import Layer\nfrom torch.nn import ReLU\n",
    "hostile_home": TRACE + "from torch import nn\nclass Layer(nn.ReLU):\n"
    "    def __init__(self):\n        MARKER.touch()\n        super().__init__()\n",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path with the modules above; what is not to run would make a file `marker` in it."""
    for name, text in MODULES.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield tmp_path
    for name in (*MODULES, "my_layers"):  # each test has files of its own
        sys.modules.pop(name, None)


def own_grammar(folder: Path, module: str, name: str, arguments: dict[str, Any]) -> tuple[Path, str]:
    path = folder / "ops.yaml"
    entry = {"class": f"{module}.{name}", "parameters": arguments, "input": [1, 3]}
    path.write_text(json.dumps({"latency_nas": 1, "ops": [entry]}))  # JSON is YAML
    return path, f"{path}: ops.0: "


def mmts_grammar(folder: Path, module: str, name: str, arguments: dict[str, Any]) -> tuple[Path, str]:
    path = folder / "ops.yaml"
    keys = {key: [value] for key, value in arguments.items()} if arguments else {"no_params": True}
    path.write_text(json.dumps({module: {name: {**keys, "input_shape": [[1, 3]]}}}))
    return path, f"{path}: {module}.{name}: "


GRAMMARS = [own_grammar, mmts_grammar]
Grammar = Callable[[Path, str, str, dict[str, Any]], tuple[Path, str]]


def forged_session(folder: Path, **fields: Any) -> Path:
    """A session over a layer, whose row was changed to name something else."""
    path = folder / "s.sqlite"
    Session.create(path, [WorkItem.of(Op(module="torch.nn", name="ReLU", input_shape=(1, 3)))], FAST).close()
    with closing(sqlite3.connect(path)) as connection, connection:
        row = {"module": "torch.nn", "name": "ReLU", "input_shape": [1, 3], "arguments": {}, "origin": "o.yaml"}
        connection.execute("UPDATE work_items SET text = ?, label = 'an op'", [json.dumps(row | fields)])
    return path


def not_allowed(place: str, named: str, home: str, added: str = "") -> str:
    return (
        f"{place}Expected {named} to be a class of an allowed package (torch.nn, torchvision.ops{added}), but it is of "
        f"{home}. Importing a module and making its classes runs their code. If you trust it, say so: `--allow {home}` "
        f"on the command line, allow=['{home}'] in Python."
    )


def assert_untouched(folder: Path) -> None:
    assert not (folder / "marker").exists()


def shell(folder: Path) -> dict[str, Any]:
    return {"command": f"touch {folder / 'marker'}"}


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("subprocess", "Popen"),
        ("builtins", "eval"),
        ("hostile_import", "Layer"),
        ("torch.jit", "ScriptModule"),
        ("torch", "load"),
        ("torch.nn_more", "ReLU"),
    ],
)
def test_what_is_of_no_allowed_package_is_neither_imported_nor_called(
    grammar: Grammar, module: str, name: str, folder: Path
) -> None:
    path, place = grammar(folder, module, name, shell(folder))
    space = read_space(path)
    (op,) = space.items
    calls: list[Callable[[], object]] = [
        space.check_imports,
        lambda: survey_space(space),
        lambda: op.find_class(),  # type: ignore[union-attr]
        lambda: op.read(),  # type: ignore[union-attr]
        lambda: WorkItem.of(op).graph(get_engine(), Target()),
        lambda: generate_ops_list(path, folder / "ops"),
    ]
    for call in calls:
        with pytest.raises(UnsafeOpError) as caught:
            call()
        assert str(caught.value) == not_allowed(place, f"{module}.{name}", module)
    assert not (folder / "ops").exists()
    assert_untouched(folder)


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize("command", [("space", "show"), ("measure", "-s", "s.sqlite")])
def test_the_commands_refuse_in_one_message(grammar: Grammar, command: tuple[str, ...], folder: Path) -> None:
    path, place = grammar(folder, "os", "system", shell(folder))
    options = [str(folder / item) if item == "s.sqlite" else item for item in command]
    result = run_main(*options, str(path))
    message = not_allowed(place, "os.system", "os")
    last = result.stderr.splitlines()[-1]  # below the progress
    assert (result.returncode, result.stdout, last) == (1, "", f"error: UnsafeOpError: {message}")
    assert not (folder / "s.sqlite").exists()
    assert_untouched(folder)


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize(
    ("module", "name", "kind"),
    [
        ("posix", "system", "a builtin_function_or_method"),
        ("hostile_kinds", "make", "a function"),
        ("hostile_kinds", "Plain", "another class"),
        ("torch.nn.functional", "relu", "a function"),
        ("torch.nn.utils", "skip_init", "a function"),
        ("torch.nn", "Parameter", "another class"),
    ],
)
def test_an_allowed_package_has_only_its_modules_made(
    grammar: Grammar, module: str, name: str, kind: str, folder: Path
) -> None:
    path, place = grammar(folder, module, name, shell(folder))
    space = read_space(path)
    for call in (space.check_imports, lambda **allow: survey_space(space, **allow)):
        with pytest.raises(OpSpaceError) as caught:
            call(allow=["posix", "hostile_kinds"])
        assert str(caught.value) == (
            f"{place}Expected {module}.{name} to be a subclass of torch.nn.Module, but it is {kind}."
        )
    assert_untouched(folder)


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_a_name_that_an_allowed_package_took_from_elsewhere_is_refused(grammar: Grammar, folder: Path) -> None:
    path, place = grammar(folder, "reexports", "Layer", {})
    with pytest.raises(UnsafeOpError) as caught:
        survey_space(read_space(path), allow=["reexports"])
    assert str(caught.value) == not_allowed(place, "reexports.Layer", "hostile_home", ", reexports")
    assert_untouched(folder)


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("torch.nn.functional.os", "No module named 'torch.nn.functional.os'; 'torch.nn.functional' is not a package"),
        ("torch.nn.os", "No module named 'torch.nn.os'"),
    ],
)
def test_a_dotted_name_does_not_lead_out_of_an_allowed_package(
    grammar: Grammar, name: str, reason: str, folder: Path
) -> None:
    path, place = grammar(folder, name, "system", shell(folder))
    with pytest.raises(OpSpaceError) as caught:
        survey_space(read_space(path))
    assert str(caught.value) == (
        f"{place}Expected a Python module that imports, but `import {name}` fails (ModuleNotFoundError: {reason}). "
        f"Is the folder that holds it on the PYTHONPATH?"
    )
    assert_untouched(folder)


@pytest.mark.parametrize("value", ["__import__('os').system('touch {0}')", "!!python/name:os.system", "$(touch {0})"])
@pytest.mark.parametrize("grammar", GRAMMARS)
def test_texts_that_look_like_code_stay_texts(grammar: Grammar, value: str, folder: Path) -> None:
    text = value.format(folder / "marker")
    (op,) = read_space(grammar(folder, "torch.nn", "Softmax", {"dim": text})[0]).items
    assert isinstance(op, Op)
    assert op.arguments == {"dim": text}
    with pytest.raises(IllegalOpError) as caught:
        op.read()
    assert str(caught.value) == (
        f"torch.nn.Softmax(dim={text!r}) on [1, 3]: Expected an input that fits the model, but with the input (1, 3) "
        f"the model's own forward (Softmax) fails: softmax(): argument 'dim' (position 1) must be int, not str"
    )
    assert_untouched(folder)


def test_mappings_among_the_arguments_stay_mappings(folder: Path) -> None:
    nested = {"class": "os.system", "parameters": shell(folder)}
    for arguments, grammar in (({"inplace": nested}, mmts_grammar), ({"inplace": [nested]}, own_grammar)):
        (op,) = read_space(grammar(folder, "torch.nn", "ReLU", arguments)[0]).items
        assert isinstance(op, Op)
        assert op.arguments == {"inplace": nested}
        assert isinstance(op.find_class()(**op.arguments), nn.ReLU)
    path, place = own_grammar(folder, "torch.nn", "ReLU", {"inplace": nested})
    with pytest.raises(OpSpaceError) as caught:
        read_space(path)
    assert str(caught.value) == (
        f"{place}parameters.inplace: Expected values, or a mapping with `range`, `tied_to` or `same_as`, but got the "
        f"keys class, parameters.".replace("ops.0: ", "ops.0.")
    )
    assert_untouched(folder)


@pytest.mark.parametrize(
    ("value", "short"),
    [
        ("2024-01-01", "datetime.date(2024, 1, 1)"),
        ("!!binary aGk=", "b'hi'"),
        ("!!set {a}", "{'a'}"),
        ("{1: 2}", "{1: 2}"),
        ("[[{1: 2}]]", "[[{...}]]"),
    ],
)
def test_arguments_are_plain_data(value: str, short: str, tmp_path: Path) -> None:
    path = tmp_path / "ops.yaml"
    for text, place in (
        (f"torch.nn:\n  ReLU: {{inplace: [{value}], input_shape: [[1, 3]]}}", "torch.nn.ReLU"),
        (f"latency_nas: 1\nops: [{{class: torch.nn.ReLU, parameters: {{inplace: [{value}]}}, input: [1]}}]", "ops.0"),
    ):
        path.write_text(text)
        with pytest.raises(OpSpaceError) as caught:
            read_space(path)
        assert str(caught.value) == (
            f"{path}: {place}: Expected `inplace` to be plain data (numbers, texts, lists, mappings of texts), "
            f"but got {short}."
        )


@pytest.mark.parametrize(
    ("module", "name"),
    [("os", "system"), ("posix", "system"), ("hostile_import", "Layer"), ("torch.fx", "GraphModule")],
)
def test_a_session_that_was_forged_is_not_run(module: str, name: str, folder: Path) -> None:
    path = forged_session(folder, module=module, name=name, arguments=shell(folder))
    message = not_allowed(f"{path}: o.yaml: ", f"{module}.{name}", module)
    with Session.open(path) as session, LocalRunner() as runner:
        for call in (
            lambda: run_session(session, runner),
            lambda: write_bundle(session, folder / "bundle.pyz"),
        ):
            with pytest.raises(UnsafeOpError) as caught:
                call()
            assert str(caught.value) == message
        assert session.problems() == {}, "it goes on once the package is allowed"
    (folder / "ops").mkdir()
    path.rename(folder / "ops" / "session.sqlite")
    with pytest.raises(UnsafeOpError) as caught:
        meter_ops(folder / "ops")
    assert str(caught.value) == message.replace(str(path), str(folder / "ops" / "session.sqlite"))
    assert not (folder / "bundle.pyz").exists()
    assert_untouched(folder)


def test_a_session_that_was_forged_after_its_plan_is_not_run(folder: Path) -> None:
    path = forged_session(folder)
    with Session.open(path) as session:
        assert write_bundle(session, folder / "bundle.pyz") == 1
        bundle = session.fact("bundle")
    with closing(sqlite3.connect(path)) as connection, connection:
        row = {"module": "posix", "name": "system", "input_shape": [1, 3], "arguments": shell(folder), "origin": "o"}
        connection.execute("UPDATE work_items SET text = ?", [json.dumps(row)])
    samples = folder / "samples.jsonl"
    lines = [{"bundle": bundle, "run": "r", "hello": {}}, {"network": 1, "ops": []}]
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with Session.open(path) as session, LocalRunner() as runner:
        for call in (lambda: add_samples(session, samples), lambda: run_session(session, runner)):
            for name in ("machine", "processor", "engine", "engine_version"):
                session.note(name, "")
            with pytest.raises(UnsafeOpError) as caught:
                call()
            assert str(caught.value) == not_allowed(f"{path}: o: ", "posix.system", "posix")
    assert_untouched(folder)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        (
            {"module": "posix", "name": "system"},
            (
                "o.yaml: Expected posix.system to be a subclass of torch.nn.Module, "
                "but it is a builtin_function_or_method."
            ),
        ),
        (
            {"module": "hostile_kinds", "name": "Plain"},
            "o.yaml: Expected hostile_kinds.Plain to be a subclass of torch.nn.Module, but it is another class.",
        ),
        (
            {"module": None},
            "o.yaml: Expected the names of a Python module and of its class, but got None and 'ReLU'.",
        ),
        ({"arguments": [1]}, "o.yaml: Expected `arguments` to be a mapping, but got [1]."),
        (
            {"name": "modules.os"},
            "o.yaml: Expected torch.nn to have a class modules.os, but it has none.",
        ),
    ],
)  # fmt: skip
def test_what_no_list_can_allow_is_put_aside(fields: dict[str, Any], problem: str, folder: Path) -> None:
    path = forged_session(folder, **fields)
    with Session.open(path) as session, LocalRunner() as runner:
        run_session(session, runner, allow=["posix", "hostile_kinds"])
        assert session.problems() == {"an op": f"OpSpaceError: {problem}"}
    assert_untouched(folder)


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_what_the_user_allows_is_metered_and_said_again_to_go_on(grammar: Grammar, folder: Path) -> None:
    (folder / "my_layers.py").write_text("from torch import nn\nclass Mine(nn.ReLU):\n    pass\n")
    path, place = grammar(folder, "my_layers", "Mine", {})
    assert "1 combinations: 1 ops, 0 illegal, 0 that fail" in run_main(
        "space", "show", str(path), "--allow", "my_layers", "--allow", "other"
    ).stdout  # fmt: skip
    session = folder / "s.sqlite"
    bundle = ("measure", str(path), "-s", str(session), "--bundle", str(folder / "b.pyz"))
    assert run_main(*bundle, "--allow", "my_layers").returncode == 0
    again = run_main(*bundle)
    assert again.returncode == 1
    assert again.stderr.splitlines()[-1] == (
        f"error: UnsafeOpError: {not_allowed(f'{session}: {place}', 'my_layers.Mine', 'my_layers')}"
    )
    with Session.open(session) as opened, LocalRunner() as runner:
        run_session(opened, runner, allow=["my_layers"])
        assert (opened.n_repetitions > 0, opened.problems()) == (True, {})
        assert "my_layers" not in opened.fact("options")


def test_the_fixture_notices_what_runs(folder: Path) -> None:
    """The marker of the tests above does appear when the hostile code runs."""
    (op,) = read_space(own_grammar(folder, "hostile_home", "Layer", {})[0]).items
    assert isinstance(op, Op)
    op.read(allow=["hostile_home"])
    assert (folder / "marker").exists()


def test_the_list_names_packages_with_all_that_is_inside() -> None:
    assert ALLOWED_PACKAGES == ("torch.nn", "torchvision.ops")
    assert allowed_packages(["mine"]) == (*ALLOWED_PACKAGES, "mine")
    assert is_allowed("torch.nn.modules.conv", ALLOWED_PACKAGES)
    assert not is_allowed("torch", ALLOWED_PACKAGES)
    for wrong, text in (("torch", "'torch'"), ([""], "['']"), (["a..b"], "['a..b']"), ([3], "[3]")):
        with pytest.raises(OpSpaceError) as caught:
            allowed_packages(wrong)  # type: ignore[arg-type]
        assert str(caught.value) == (
            f"Expected `allow` to be a list of packages such as ['my_package.blocks'], but got {text}."
        )
