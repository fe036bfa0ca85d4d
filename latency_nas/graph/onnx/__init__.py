"""ONNX models: read, and written for engines that take them."""

from latency_nas.errors import MissingExtraError

try:
    import onnx  # noqa: F401 - asked for once, before any file of this folder needs it
except ImportError as error:
    raise MissingExtraError("ONNX models need onnx: pip install 'latency-nas[onnx]'") from error
