"""Foreign pickles: plain data comes through, and nothing of a hostile one ever runs."""

from __future__ import annotations

import copyreg
import math
import os
import pickle
import pickletools
import shlex
import struct
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_nas.errors import TableFileError, UnsafePickleError
from latency_nas.table.formats.plain_pickle import load_plain_pickle

PROTOCOLS = range(6)
EXTENSION = 201  # a code that nobody has registered
DATA = {"conv2d in=(1, 3)": 4.4, "relu": [1, 2.5, None, True, [], ["ä", -(2**70)]], "deep": {"a": {"b": [[]]}}}

leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
modern_leaves = leaves | st.binary()  # older protocols call a function to make bytes


def _nested(leaves: st.SearchStrategy[Any], keys: st.SearchStrategy[Hashable]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner) | st.dictionaries(keys, inner),
        max_leaves=12,
    )


plain_data = _nested(leaves, leaves)
modern_data = _nested(modern_leaves, modern_leaves)


class _Shell:
    """An object whose pickle runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


class _Stateful:
    """An object whose pickle runs a command by its state."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __getstate__(self) -> str:
        return self.command

    def __setstate__(self, state: str) -> None:
        os.system(state)  # noqa: S605


def _by_extension(command: str) -> bytes:
    name = (os.system.__module__, "system")
    copyreg.add_extension(*name, EXTENSION)
    try:
        return pickle.dumps(_Shell(command), protocol=2)
    finally:
        copyreg.remove_extension(*name, EXTENSION)


HOSTILE: dict[str, Callable[[str], bytes]] = {
    **{
        f"reduce {protocol}": lambda command, protocol=protocol: pickle.dumps(  # type: ignore[misc]
            {"relu": 1.0, "conv2d": _Shell(command)}, protocol=protocol
        )
        for protocol in PROTOCOLS
    },
    **{
        f"state {protocol}": lambda command, protocol=protocol: pickle.dumps([_Stateful(command)], protocol=protocol)  # type: ignore[misc]
        for protocol in PROTOCOLS
    },
    "INST": lambda command: b"(S" + repr(command).encode() + b"\nios\nsystem\n.",
    "OBJ": lambda command: b"(cos\nsystem\nS" + repr(command).encode() + b"\no.",
    "optimised": lambda command: pickletools.optimize(pickle.dumps(_Shell(command))),
    "after a harmless start": lambda command: pickle.dumps([0] * 1000)[:-1] + b"0" + pickle.dumps(_Shell(command))[2:],
}


def assert_refused(path: Path, position: int, what: str) -> None:
    with pytest.raises(UnsafePickleError) as caught:
        load_plain_pickle(path)
    assert str(caught.value) == (
        f"Refused {path}: at byte {position} the pickle holds {what}, and only numbers, text, lists and dicts are "
        f"read. Nothing of the file was run. If you trust it, write its data as JSON where it was made."
    )


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickle_is_refused_before_anything_runs(tmp_path: Path, kind: str) -> None:
    path, mark = tmp_path / "hostile.pkl", tmp_path / "mark"
    path.write_bytes(HOSTILE[kind](f"touch {shlex.quote(str(mark))}"))
    with pytest.raises(UnsafePickleError) as caught:
        load_plain_pickle(path)
    assert not mark.exists()
    assert str(caught.value).startswith(f"Refused {path}: at byte ")
    pickle.loads(path.read_bytes())  # noqa: S301 - to see that it was hostile indeed
    assert mark.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_refusal_says_what_and_where(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "hostile.pkl"
    content = pickle.dumps({"relu": 1.0, "conv2d": _Shell("true")}, protocol=protocol)
    path.write_bytes(content)
    module = os.system.__module__
    if protocol < 4:
        assert_refused(path, content.index(b"c" + module.encode()), f"GLOBAL '{module} system'")
    else:
        assert_refused(path, content.index(b"\x93"), "STACK_GLOBAL")


@pytest.mark.parametrize(
    ("content", "position", "what"),
    [
        (b"cos\nsystem\n.", 0, "GLOBAL 'os system'"),
        (b"(S'true'\nios\nsystem\n.", 9, "INST 'os system'"),
        (b"(I01\no.", 5, "OBJ"),
        (b"NNb.", 2, "BUILD"),
        (b"NNR.", 2, "REDUCE"),
        (b"\x80\x02NN\x81.", 4, "NEWOBJ"),
        (b"\x80\x04NN}\x92.", 5, "NEWOBJ_EX"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", 14, "STACK_GLOBAL"),
        (b"\x80\x02\x82\xc9.", 2, "EXT1 201"),
        (b"\x80\x02\x83\xc9\x00.", 2, "EXT2 201"),
        (b"\x80\x02\x84\xc9\x00\x00\x00.", 2, "EXT4 201"),
        (b"Psomething\n.", 0, "PERSID 'something'"),
        (b"I1\nQ.", 3, "BINPERSID"),
        (b"\x80\x05\x97.", 2, "NEXT_BUFFER"),
        (b"\x80\x05N\x98.", 3, "READONLY_BUFFER"),
        (b"\x80\x05\x96\x02" + b"\x00" * 7 + b"ab.", 2, "BYTEARRAY8 bytearray(b'ab')"),
        (b").", 0, "EMPTY_TUPLE"),
        (b"(NNNNt.", 5, "TUPLE"),
        (b"\x80\x02N\x85.", 3, "TUPLE1"),
        (b"\x80\x02NN\x86.", 4, "TUPLE2"),
        (b"\x80\x02NNN\x87.", 5, "TUPLE3"),
        (b"\x80\x04\x8f.", 2, "EMPTY_SET"),
        (b"\x80\x04](N\x90.", 5, "ADDITEMS"),
        (b"\x80\x04(N\x91.", 4, "FROZENSET"),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_every_opcode_that_is_not_plain_is_refused(tmp_path: Path, content: bytes, position: int, what: str) -> None:
    path = tmp_path / "hostile.pkl"
    path.write_bytes(content)
    assert_refused(path, position, what)


# how each protocol writes an empty one
EMPTY: dict[type, tuple[str, ...]] = {
    tuple: ("TUPLE", *("EMPTY_TUPLE",) * 5),
    set: (*("GLOBAL '__builtin__ set'",) * 3, "GLOBAL 'builtins set'", "EMPTY_SET", "EMPTY_SET"),
    frozenset: (*("GLOBAL '__builtin__ frozenset'",) * 3, "GLOBAL 'builtins frozenset'", "FROZENSET", "FROZENSET"),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", EMPTY)
def test_tuples_and_sets_are_refused(tmp_path: Path, kind: type, protocol: int) -> None:
    path = tmp_path / "tuple.pkl"
    content = pickle.dumps(["relu", kind()], protocol=protocol)
    path.write_bytes(content)
    what = EMPTY[kind][protocol]
    places = [place for opcode, _, place in pickletools.genops(content) if opcode.name == what.split()[0]]
    assert_refused(path, places[0] or 0, what)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_ordered_dicts_become_dicts(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "ordered.pkl"
    data = OrderedDict(base=1.5, block=OrderedDict({8: 0.5, 16: 0.75}), empty=OrderedDict())
    content = pickle.dumps(data, protocol=protocol)
    path.write_bytes(content)
    loaded = load_plain_pickle(path)
    assert loaded == data
    assert {type(item) for item in (loaded, loaded["block"], loaded["empty"])} == {dict}
    path.write_bytes(content.replace(b"OrderedDict", b"defaultdict"))
    with pytest.raises(UnsafePickleError):
        load_plain_pickle(path)


@pytest.mark.parametrize("made", ["(lR", ")(lR", "N)R", "]\x85R", ")R)R", ")R(R"])
def test_nothing_else_is_called_by_an_ordered_dict(tmp_path: Path, made: str) -> None:
    path = tmp_path / "call.pkl"
    path.write_bytes(b"\x80\x02ccollections\nOrderedDict\n" + made.encode("latin-1") + b".")
    with pytest.raises((UnsafePickleError, TableFileError)):
        load_plain_pickle(path)


def test_a_huge_pickle_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.pkl"
    with path.open("wb") as file:
        file.truncate((1 << 28) + 1)
    with pytest.raises(TableFileError) as caught:
        load_plain_pickle(path)
    assert str(caught.value) == f"Expected {path} to have at most 256 MiB, but it is larger."


def test_extension_that_is_registered_and_cached_is_refused(tmp_path: Path) -> None:
    path, mark = tmp_path / "hostile.pkl", tmp_path / "mark"
    path.write_bytes(_by_extension(f"touch {shlex.quote(str(mark))}"))
    name = (os.system.__module__, "system")
    copyreg.add_extension(*name, EXTENSION)
    try:
        assert_refused(path, 2, f"EXT1 {EXTENSION}")
        assert not mark.exists()
        pickle.loads(path.read_bytes())  # noqa: S301 - to see that it was hostile indeed
        assert mark.exists()
    finally:
        copyreg.remove_extension(*name, EXTENSION)


def _check(folder: Path, data: object, protocol: int) -> None:
    path = folder / "plain.pkl"
    content = pickle.dumps(data, protocol=protocol)
    for variant in (content, pickletools.optimize(content), pickle._dumps(data, protocol)):  # type: ignore[attr-defined]
        path.write_bytes(variant)
        loaded = load_plain_pickle(path)
        assert loaded == pickle.loads(variant) == data  # noqa: S301
        assert repr(loaded) == repr(pickle.loads(variant))  # noqa: S301 - equality does not tell 1, 1.0 and True apart


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(data=plain_data)
@settings(deadline=None, max_examples=25)
def test_plain_data_is_what_pickle_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory, protocol: int, data: object
) -> None:
    _check(tmp_path_factory.getbasetemp(), data, protocol)


@pytest.mark.parametrize("protocol", [4, 5])
@given(data=modern_data)
@settings(deadline=None, max_examples=25)
def test_bytes_are_plain_in_later_protocols(
    tmp_path_factory: pytest.TempPathFactory, protocol: int, data: object
) -> None:
    _check(tmp_path_factory.getbasetemp(), data, protocol)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_and_endless_lists_stay_so(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "shared.pkl"
    shared: list[Any] = [math.inf]
    endless: list[Any] = [shared, shared]
    endless.append(endless)
    path.write_bytes(pickle.dumps(endless, protocol=protocol))
    loaded = load_plain_pickle(path)
    assert loaded[0] is loaded[1]
    assert loaded[0] == [math.inf]
    assert loaded[2] is loaded


def assert_unreadable(path: Path) -> None:
    """The file is refused by a message that holds pickle's own."""
    with pytest.raises(TableFileError) as caught:
        load_plain_pickle(path)
    reason = str(caught.value.__cause__)
    assert reason
    assert str(caught.value) == (
        f"Expected {path} to be a pickle, but it is truncated or of another format ({reason})."
    )


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_truncated_pickle_is_refused(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "truncated.pkl"
    content = pickle.dumps(DATA, protocol=protocol)
    for tenths in range(10):
        path.write_bytes(content[: len(content) * tenths // 10])
        assert_unreadable(path)


@pytest.mark.parametrize(
    "content",
    [b"PAR1", b"kernel,ms\n", b"\x80\x63N.", b"N", b"l.", b"h\x07.", b"]]Ns.", b"L" + b"1" * 5000 + b"L\n."],
    ids=["Parquet", "CSV", "protocol 99", "no stop", "no mark", "no memo", "unhashable key", "long number"],
)
def test_what_is_no_sound_pickle_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "foreign.pkl"
    path.write_bytes(content)
    assert_unreadable(path)


def test_frame_that_ends_amid_a_value_is_refused(tmp_path: Path) -> None:
    """Python itself reads such a file in one way from memory and in another from a stream."""
    path = tmp_path / "frames.pkl"
    content = bytearray(pickle.dumps(DATA, protocol=4))
    assert content[2:3] == pickle.FRAME
    assert load_plain_pickle(_written(path, content)) == DATA
    end = content.index(pickle.BINFLOAT + struct.pack(">d", 4.4)) + 3
    content[3] = end - 11
    with pytest.raises(TableFileError) as caught:
        load_plain_pickle(_written(path, content))
    assert str(caught.value) == f"Expected {path} to be a sound pickle, but a frame ends at byte {end}, in an opcode."


def _written(path: Path, content: bytes | bytearray) -> Path:
    path.write_bytes(content)
    return path


@given(data=st.data(), protocol=st.sampled_from(PROTOCOLS))
@settings(deadline=None, max_examples=200)
def test_damaged_pickle_gives_data_or_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, protocol: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    content = bytearray(pickle.dumps(DATA, protocol=protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        loaded = load_plain_pickle(path)
    except (TableFileError, UnsafePickleError) as error:
        loaded = str(error)
    assert str(path) in str(loaded) or repr(loaded) == repr(pickle.loads(content))  # noqa: S301 - it proved plain


@pytest.mark.parametrize(
    ("content", "position"),
    [(b"\x80\x02}r\xff\xff\xff\x7f.", 3), (b"}p2147483647\n.", 1), (b"]" * 40 + b"q\x30.", 40)],
    ids=["LONG_BINPUT", "PUT", "BINPUT"],
)
def test_memory_bomb_is_refused_without_the_memory(tmp_path: Path, content: bytes, position: int) -> None:
    path = tmp_path / "bomb.pkl"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(TableFileError) as caught:
            load_plain_pickle(path)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert str(caught.value) == f"Expected {path} to be a sound pickle, but at byte {position} it skips memory."
    assert peak_bytes < 1_000_000


def test_missing_file_is_an_ordinary_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_plain_pickle(tmp_path / "none.pkl")


@pytest.mark.parametrize("start", [b")", b"K\x01"], ids=["tuple", "number"])
def test_key_that_takes_for_ever_to_hash_is_refused(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "slow.pkl"
    path.write_bytes(b"\x80\x02}" + start + b"2\x86" * 60 + b"Ns.")  # equal halves: 2**60 steps would never end
    assert_refused(path, 3 if start == b")" else 6, "EMPTY_TUPLE" if start == b")" else "TUPLE2")


def test_refused_bytearray_is_not_printed_whole(tmp_path: Path) -> None:
    path = tmp_path / "array.pkl"
    path.write_bytes(pickle.dumps(bytearray(10_000), protocol=5))
    with pytest.raises(UnsafePickleError) as caught:
        load_plain_pickle(path)
    message = str(caught.value)
    assert message.startswith(f"Refused {path}: at byte 11 the pickle holds BYTEARRAY8 bytearray(b'")
    assert "'), and only numbers, text, lists and dicts are read. Nothing of the file was run." in message
    assert len(message) < 500


@pytest.mark.parametrize("value", [np.float64(1.5), np.ones(1)], ids=["scalar", "array"])
def test_refusal_says_the_whole_name(tmp_path: Path, value: object) -> None:
    path = tmp_path / "numpy.pkl"
    content = pickle.dumps({"relu": value}, protocol=2)
    path.write_bytes(content)
    name, position = next(
        (argument, place) for code, argument, place in pickletools.genops(content) if code.code == "c"
    )
    assert_refused(path, position or 0, f"GLOBAL {name!r}")
