"""What was decided when a family was fitted, kept as JSON: nothing of it is ever executed."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pooch

from latency_nas.estimate.regressor.choice_of_form import Choice
from latency_nas.table.download import CACHE_VARIABLE

__all__ = ["cache_folder", "read_choice", "shipped_folders", "write_choice"]

logger = logging.getLogger(__name__)

_FORMAT = 4  # to be raised when the features or the forms change: older files are then decided anew


def cache_folder() -> Path:
    """The folder that the environment variable `LATENCY_NAS_CACHE` names, else the user's own."""
    return Path(os.environ.get(CACHE_VARIABLE) or pooch.os_cache("latency_nas")).expanduser() / "regressors"


def shipped_folders() -> list[Path]:
    """Where the choices for the named tables lie: those of the library, installed or in a checkout."""
    package = Path(__file__).resolve().parents[2]
    return [folder / "tables" / "regressors" for folder in (package, package.parent)]


def read_choice(path: Path) -> Choice | None:
    """A kept choice; None where there is none, or none that can be used."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(data, dict) or data.pop("format", None) != _FORMAT:
            raise ValueError(f"not format {_FORMAT}")
        return Choice.from_dict(data)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        logger.warning("%s cannot be used (%s): it is made again.", path, error)
        return None


def write_choice(path: Path, choice: Choice) -> None:
    """Keep a choice; where that fails it is only logged."""
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps({"format": _FORMAT, **choice.to_dict()}), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        logger.warning("%s cannot be written (%s): the regressor is fitted again next time.", path, error)
