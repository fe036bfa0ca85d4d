"""Devices other than this process: transports (how a program is started there) and runners (which time networks)."""

from latency_nas.measure.device.address import open_runner
from latency_nas.measure.device.program_runner import ProgramRunner
from latency_nas.measure.device.remote_runner import RemoteRunner
from latency_nas.measure.device.transport import Adb, Here, Prefix, Ssh, Transport

__all__ = ["Adb", "Here", "Prefix", "ProgramRunner", "RemoteRunner", "Ssh", "Transport", "open_runner"]
