"""Engines: the kernels that each runs for a network, its files, and its times. Each engine has a folder."""

from latency_nas.engine.engine import Engine, ExecutedOp, Program
from latency_nas.engine.op_times import OpTimes
from latency_nas.engine.registry import default_engine, engine_names, get_engine, title_of
from latency_nas.engine.rules import fuse, read_branches, read_kernels
from latency_nas.engine.target import Target

__all__ = [
    "Engine",
    "ExecutedOp",
    "OpTimes",
    "Program",
    "Target",
    "default_engine",
    "engine_names",
    "fuse",
    "get_engine",
    "read_branches",
    "read_kernels",
    "title_of",
]
