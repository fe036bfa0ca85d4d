"""The registry of table formats, and the recognition of a file's format."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from latency_nas.errors import TableError, TableFileError
from latency_nas.table.formats.blocks.fbnet_text import import_fbnet_text, recognises_fbnet_text
from latency_nas.table.formats.blocks.mapping import import_blocks_mapping, recognises_blocks_mapping
from latency_nas.table.formats.blocks.nni_lut import import_nni_lut, recognises_nni_lut
from latency_nas.table.formats.blocks.tf_nas import import_tf_nas, recognises_tf_nas
from latency_nas.table.formats.content import HEAD_BYTES, looks_like
from latency_nas.table.formats.csv_file import export_csv, import_csv, recognises_csv
from latency_nas.table.formats.evaluator_text import import_evaluator_text, recognises_evaluator_text
from latency_nas.table.formats.format import Format
from latency_nas.table.formats.lite_text import import_lite_text, recognises_lite_text
from latency_nas.table.formats.mmt import recognises_mmt, refuse_mmt
from latency_nas.table.formats.networks.ai_hub import read_ai_hub, recognises_ai_hub
from latency_nas.table.formats.networks.nnlqp import read_nnlqp, recognises_nnlqp
from latency_nas.table.formats.paddleslim.exporter import export_paddleslim
from latency_nas.table.formats.paddleslim.importer import import_paddleslim, recognises_paddleslim
from latency_nas.table.formats.parquet_file import read_table, recognises_parquet, save_table
from latency_nas.table.formats.unit import UNIT

__all__ = ["ENTRY_POINTS", "format_of_suffix", "is_own", "listed", "named_format", "recognised_format", "table_formats"]

logger = logging.getLogger(__name__)

ENTRY_POINTS = "latency_nas.formats"  # group of the entry points of other packages: name = "package.module:FORMAT"

# name, as `file_format=` and `--format` take it -> the format
_FORMATS: dict[str, Format] = {
    "parquet": Format(
        title="a table of this library in Parquet", suffixes=(".parquet",), recognises=recognises_parquet,
        read=read_table, write=save_table,
    ),
    "csv": Format(
        title="CSV, as `latency-nas table export` writes it, or with the columns kernel and latency_ms",
        suffixes=(".csv",), recognises=recognises_csv, read=import_csv, write=export_csv, read_options={"unit": UNIT},
    ),
    "paddleslim": Format(
        title="a pickle of PaddleSlim's TableLatencyPredictor", suffixes=(".pkl",), recognises=recognises_paddleslim,
        read=import_paddleslim, write=export_paddleslim,
        write_options={
            "dialect": "dialect of the keys, 2022 or 2021",
            "partial": "whether kernels that the format cannot express are left out, instead of refusing the table",
        },
    ),
    "evaluator-text": Format(
        title="a text of PaddleSlim's TableLatencyEvaluator", suffixes=(".txt", ".csv"),
        recognises=recognises_evaluator_text, read=import_evaluator_text,
        read_options={"unit": UNIT, "delimiter": "text between an op's parameters"},
    ),
    "lite-text": Format(
        title="latency_lookup_table.txt of Paddle-Lite's benchmark of operators", suffixes=(".txt",),
        recognises=recognises_lite_text, read=import_lite_text,
    ),
    "mmt": Format(
        title="meta_latency.pkl of MMT (mnn-meter)", suffixes=(".pkl",), recognises=recognises_mmt, read=refuse_mmt,
    ),
    "blocks": Format(
        title="blocks in JSON or YAML: of Once-for-All and ProxylessNAS, of this library, or {group: {candidate: ms}}",
        suffixes=(".yaml", ".yml", ".json"), recognises=recognises_blocks_mapping, read_blocks=import_blocks_mapping,
        read_options={"unit": UNIT},
    ),
    "tf-nas": Format(
        title="a pickle of TF-NAS's blocks", suffixes=(".pkl",), recognises=recognises_tf_nas,
        read_blocks=import_tf_nas, read_options={"unit": UNIT},
    ),
    "nni-lut": Format(
        title="lut.txt of NNI's FBNet", suffixes=(".txt",), recognises=recognises_nni_lut, read_blocks=import_nni_lut,
        read_options={"unit": UNIT},
    ),
    "fbnet-text": Format(
        title="a text of FBNet's: a row for each layer, a column for each candidate", suffixes=(".txt",),
        recognises=recognises_fbnet_text, read_blocks=import_fbnet_text, read_options={"unit": UNIT},
    ),
    "ai-hub": Format(
        title="perf.yaml of Qualcomm AI Hub Models", suffixes=(".yaml", ".yml"), recognises=recognises_ai_hub,
        read_runs=read_ai_hub,
        read_options={"device": "device", "runtime": "runtime, such as tflite", "precision": "precision, as in w8a8"},
    ),
    "nnlqp": Format(
        title="gt.txt of NNLQP's data sets", suffixes=(".txt",), recognises=recognises_nnlqp, read_runs=read_nnlqp,
        read_options={"platform": "number of the platform", "family": "family of networks, such as resnet"},
    ),
}  # fmt: skip


@cache
def _of_other_packages() -> Mapping[str, Format]:
    """Formats of other packages, by name. One that cannot be loaded is left out with a warning."""
    found: dict[str, Format] = {}
    for point in entry_points(group=ENTRY_POINTS):
        try:
            loaded = point.load()
        except Exception as error:  # a fault in another package must not affect this library's formats
            logger.warning("The format %s of %s cannot be loaded: %r.", point.name, point.value, error)
            continue
        if isinstance(loaded, Format) and point.name not in _FORMATS:
            found[point.name] = loaded
        else:
            logger.warning("%s of %s is left out: it is no Format, or its name is taken.", point.name, point.value)
    return found


def table_formats() -> dict[str, Format]:
    """All formats by name: this library's, then those of other packages.

    Example:
        >>> list(table_formats())[:3]
        ['parquet', 'csv', 'paddleslim']
    """
    return {**_FORMATS, **_of_other_packages()}


def is_own(found: Format) -> bool:
    """Whether a format is this library's. Their readers leave out impossible times, or warn of them, themselves."""
    return any(found is item for item in _FORMATS.values())


def recognised_format(source: Path) -> Format:
    """The format that recognises a file: first of those with its suffix, then of all; this library's first.

    Raises:
        TableFileError: if no format recognises it, or several do.
    """
    with source.open("rb") as file:
        head = file.read(HEAD_BYTES)
    for candidates in _candidates(source):
        names = [name for name, item in candidates.items() if item.recognises(head, source)]
        if len(names) == 1:
            return candidates[names[0]]
        if names:
            raise TableFileError(
                f"Expected {source} to be of one format, but it could be {' or '.join(names)}: name the one that is "
                f"meant, by file_format= or by --format."
            )
    raise TableFileError(
        f"Expected {source} to be a latency table, but it looks like {looks_like(head)}. Formats that can be read: "
        f"{listed()}. docs/adding-an-importer.md says how to add one."
    )


def _candidates(source: Path) -> Iterator[Mapping[str, Format]]:
    """Groups of formats to try, in order. Formats of other packages are loaded only where ours with the suffix fail."""
    yield _of_suffix(_FORMATS, source)
    yield _of_suffix(table_formats(), source)
    yield _FORMATS
    yield table_formats()


def _of_suffix(known: Mapping[str, Format], path: Path) -> dict[str, Format]:
    return {name: item for name, item in known.items() if path.suffix.lower() in item.suffixes}


def format_of_suffix(target: Path) -> Format:
    """The only format that can write files with this suffix.

    Raises:
        TableError: if there is no such format, or there are several.
    """
    found = [item for item in _of_suffix(table_formats(), target).values() if item.write is not None]
    if len(found) != 1:
        raise TableError(
            f"Expected {target} to end in the suffix of one format that can be written ({listed(written=True)}), but "
            f"it ends in {target.suffix or 'none'}: name the format, by file_format= or by --format."
        )
    return found[0]


def named_format(given: str | Format) -> Format:
    """The format of a name.

    Raises:
        TableError: if there is no such format.
    """
    if isinstance(given, Format):
        return given
    known = table_formats()
    if given not in known:
        raise TableError(f"Expected `file_format` to be one of {', '.join(known)}, but got {given!r}.")
    return known[given]


def listed(*, written: bool = False) -> str:
    """A list of formats with their suffixes, for messages: of all, or of those that can be written."""
    return ", ".join(
        f"{name} ({' '.join(item.suffixes)})" for name, item in table_formats().items() if item.write or not written
    )
