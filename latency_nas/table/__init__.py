"""Latency tables: the latency of each kernel on a device."""

from latency_nas.table.block_table import BlockTable
from latency_nas.table.catalogue import load_table, named_tables
from latency_nas.table.datasheet import Datasheet
from latency_nas.table.formats.blocks.mapping import save_block_table
from latency_nas.table.formats.exchange import (
    export_table,
    import_blocks,
    import_table,
    load_block_table,
    read_network_runs,
)
from latency_nas.table.formats.format import ExportReport, Format, ImportReport
from latency_nas.table.formats.networks.run import NetworkRun, NetworkRuns
from latency_nas.table.formats.paddleslim.importer import import_paddleslim
from latency_nas.table.formats.parquet_file import read_table, save_table
from latency_nas.table.formats.registry import table_formats
from latency_nas.table.identity import Identity, check_identity
from latency_nas.table.latency_table import Entry, LatencyTable

__all__ = [
    "BlockTable",
    "Datasheet",
    "Entry",
    "ExportReport",
    "Format",
    "Identity",
    "ImportReport",
    "LatencyTable",
    "NetworkRun",
    "NetworkRuns",
    "check_identity",
    "export_table",
    "import_blocks",
    "import_paddleslim",
    "import_table",
    "load_block_table",
    "load_table",
    "named_tables",
    "read_network_runs",
    "read_table",
    "save_block_table",
    "save_table",
    "table_formats",
]
