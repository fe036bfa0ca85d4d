"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Allow", "EngineName"]

EngineName = Annotated[str, typer.Option("--engine", help="The engine, by name; the registry's first by default.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(metavar="PACKAGE", help="Ops may name its classes too, and its code runs. Can be repeated."),
]
