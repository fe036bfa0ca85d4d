"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Allow", "EngineName"]

EngineName = Annotated[str, typer.Option("--engine", help="The engine; by default the first one of the registry.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(metavar="PACKAGE", help="Package whose classes ops may name, too; its code is run. Can be repeated."),
]
