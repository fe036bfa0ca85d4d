"""Exports a torch module with its weights through torch's own ONNX exporter, as a user would deploy it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from latency_nas.errors import MeasureError, MissingExtraError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["export_onnx"]


def export_onnx(model: nn.Module, example_input: Tensor | tuple[Tensor, ...], target: Path) -> Path:
    """Export a module in evaluation mode to an ONNX file that contains its weights.

    Raises:
        MeasureError: if torch cannot export it.
    """
    import torch

    from latency_nas.graph.torch.unchanged import unchanged

    inputs = (example_input,) if isinstance(example_input, torch.Tensor) else tuple(example_input)
    with _silent_exporter():
        try:
            with unchanged(model):
                torch.onnx.export(model, inputs, target, dynamo=True, external_data=False, verbose=False)
        except ImportError as error:
            raise MissingExtraError("Exporting needs onnxscript: pip install onnxscript") from error
        except Exception as error:
            raise MeasureError(f"torch could not export {type(model).__name__} to ONNX: {error}") from error
    return target


@contextmanager
def _silent_exporter() -> Iterator[None]:
    """Silence the exporter, which warns of its own use of torch and of packages that it does not need."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
