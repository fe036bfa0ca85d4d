"""Options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from latency_nas.errors import SearchError, TableError

if TYPE_CHECKING:
    from latency_nas.search.select.budget import Budget

__all__ = ["Allow", "Budgets", "EngineName", "named_values", "parse_budget", "parse_number"]

_FIELDS = {"max": "max_cost", "min": "min_cost", "confidence": "confidence"}

EngineName = Annotated[str, typer.Option("--engine", help="The engine; by default the first one of the registry.")]
Allow = Annotated[
    list[str] | None,
    typer.Option(metavar="PACKAGE", help="Package whose classes ops may name, too; its code is run. Can be repeated."),
]
Budgets = Annotated[
    list[str] | None,
    typer.Option(
        "--budget", metavar="PLAN:max=X,min=X", help="Further budget, e.g. params.npz:max=3e6. Can be repeated."
    ),
]


def parse_budget(text: str) -> Budget:
    """A budget from text such as ``params.npz:max=3e6`` or ``phone.npz:max=20,min=15,confidence=0.9``.

    Args:
        text: File of a plan, a colon, and an upper limit, a lower limit or both; and a confidence.

    Raises:
        SearchError: if the text has another form, or the limits make no budget.
    """
    from latency_nas.search.plan.plan import CostPlan
    from latency_nas.search.select.budget import Budget

    path, _, limits = text.rpartition(":")
    pairs = [part.partition("=") for part in limits.split(",")]
    if not path or any(name not in _FIELDS or not value for name, _, value in pairs):
        raise SearchError(
            f"Expected --budget to be PLAN:max=X, PLAN:min=X or both, such as params.npz:max=3e6,confidence=0.9, but "
            f"got {text!r}."
        )
    values = {_FIELDS[name]: parse_number(value, f"--budget {text}") for name, _, value in pairs}
    return Budget(CostPlan.load(path), **values)


def parse_number(text: str, option: str) -> float:
    """The number that an option has.

    Args:
        text: Text of the number.
        option: Name of the option, for the message.

    Raises:
        SearchError: if the text is no number.
    """
    try:
        return float(text)
    except ValueError:
        raise SearchError(f"Expected numbers in {option}, but got {text!r}.") from None


def named_values(options: list[str] | None, *, flag: str = "--option") -> dict[str, str]:
    """Parse options of the form ``NAME=VALUE``.

    Args:
        options: Texts to parse.
        flag: Name of the option, for messages.

    Raises:
        TableError: if a text has another form.
    """
    pairs = [text.partition("=") for text in options or []]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise TableError(f"Expected {flag} to be NAME=VALUE, but got {name!r}.")
    return {name: value for name, _, value in pairs}
