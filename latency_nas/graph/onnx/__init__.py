"""Reads ONNX models, and writes them for engines."""

from latency_nas.errors import MissingExtraError

try:
    import onnx  # noqa: F401 - checked here, before any file of this folder imports it
except ImportError as error:
    raise MissingExtraError("ONNX models need onnx: pip install 'latency-nas[onnx]'") from error
