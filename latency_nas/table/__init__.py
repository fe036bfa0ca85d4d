"""Latency tables: what each kernel costs on a device."""

from latency_nas.table.catalogue import load_table, named_tables
from latency_nas.table.datasheet import Datasheet
from latency_nas.table.formats.paddleslim.importer import ImportReport, import_paddleslim
from latency_nas.table.identity import Identity, check_identity
from latency_nas.table.latency_table import Entry, LatencyTable
from latency_nas.table.parquet_file import read_table, save_table

__all__ = [
    "Datasheet",
    "Entry",
    "Identity",
    "ImportReport",
    "LatencyTable",
    "check_identity",
    "import_paddleslim",
    "load_table",
    "named_tables",
    "read_table",
    "save_table",
]
