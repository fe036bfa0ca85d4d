"""Reads files of torch: exported programs (``.pt2``) and TorchScript (``.pt``, ``.jit`` and others).

A file of `torch.save` is a pickle, which may execute anything, and is refused. A TorchScript archive is read by torch's
own reader in C++, which makes tensors and objects of TorchScript classes and calls no Python. It compiles the code in
the archive, and runs the ``__setstate__`` in it. TorchScript has two ops that write files: archives that name them are
refused.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from latency_nas.errors import GraphError
from latency_nas.graph.op_graph import OpGraph
from latency_nas.graph.torch.exported_archive import is_exported
from latency_nas.graph.torch.exported_file import read_exported_file
from latency_nas.graph.torch.reader import read_torch

__all__ = ["read_torch_file"]

_WRITES = (b"save(", b"from_file(", b"rpc_")
_MAX_CODE = 1 << 26


def read_torch_file(path: Path, example_input: Any, input_shape: Sequence[int] | None) -> OpGraph:
    """Read a file of torch.

    Args:
        path: File of an exported program or of TorchScript, told apart by their contents.
        example_input: Input as that of a module.
        input_shape: Shape of the only float input, instead of `example_input`. An exported program needs one of the
            two only where it leaves sizes open.

    Raises:
        GraphError: if the file is neither, is damaged, or holds code that writes files.
        InputMismatchError: if the input does not fit.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            code = _code(archive, path) if not is_exported(names) else None
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise GraphError(
            f"Expected {path} to be an exported program (torch.export.save) or TorchScript (torch.jit.save), but it is "
            f"no archive of these. Pickles are never executed: give the model itself, as package.module:callable."
        ) from error
    except OSError as error:
        raise GraphError(
            f"Expected {path} to be an exported program (torch.export.save) or TorchScript (torch.jit.save), but it "
            f"cannot be read ({error.strerror})."
        ) from error
    if code is None:
        return read_exported_file(path, example_input, input_shape)
    if not code:
        raise GraphError(
            f"Expected {path} to be an exported program (torch.export.save) or TorchScript (torch.jit.save), but it is "
            f"a pickle of torch.save, which is never executed: give the model itself, as package.module:callable."
        )
    found = next((name for name in _WRITES if any(name in text for text in code)), None)
    if found is not None:
        raise GraphError(f"Expected TorchScript that writes no files in {path}, but it calls {found.decode()}...).")
    try:
        with warnings.catch_warnings(action="ignore"):
            script = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise GraphError(f"Expected {path} to be TorchScript, but torch cannot read it.") from error
    return read_torch(script, example_input, input_shape=input_shape)


def _code(archive: zipfile.ZipFile, path: Path) -> list[bytes]:
    """The files of code in an archive of TorchScript; none in an archive of `torch.save`."""
    entries = [item for item in archive.infolist() if "/code/" in item.filename and item.filename.endswith(".py")]
    if sum(item.file_size for item in entries) > _MAX_CODE:
        raise GraphError(f"Expected {path} to have at most {_MAX_CODE >> 20} MiB of code.")
    return [archive.read(item) for item in entries]
