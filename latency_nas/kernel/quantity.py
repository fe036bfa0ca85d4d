"""`Quantity`: what a number measures or counts, and its unit, so that no count is reported in milliseconds."""

from __future__ import annotations

import re
from dataclasses import dataclass

from latency_nas.errors import QuantityError, short_repr

__all__ = ["LATENCY", "QUANTITIES", "Quantity"]

_TEXT = re.compile(r"\S(.*\S)?")
_MAX_DECIMALS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What a number measures or counts, and its unit.

    Args:
        name: Name of the quantity, for axes of figures and messages.
        unit: Unit that follows the number in texts.
        n_decimals: Number of decimals in texts; 0 for a count.

    Raises:
        QuantityError: if a field is empty, or the number of decimals is not from 0 to 9.

    Example:
        >>> LATENCY.figure(0.3041, 0.0021), QUANTITIES["parameters"].figure(7978856.0, 0.0)
        ('0.304 ± 0.002 ms', '7,978,856 params')
    """

    name: str
    unit: str
    n_decimals: int = 3

    def __post_init__(self) -> None:
        for field in ("name", "unit"):
            text = getattr(self, field)
            if not isinstance(text, str) or not _TEXT.fullmatch(text):
                raise QuantityError(
                    f"Expected `{field}` of a quantity to be a word or more, but got {short_repr(text)}."
                )
        if type(self.n_decimals) is not int or not 0 <= self.n_decimals <= _MAX_DECIMALS:
            raise QuantityError(
                f"Expected `n_decimals` to be an integer from 0 to {_MAX_DECIMALS}, "
                f"but got {short_repr(self.n_decimals)}."
            )

    @property
    def suffix(self) -> str:
        """The unit as the last part of a logged figure's name: ``ms``, ``params``, ``tokens_per_s``."""
        return re.sub(r"\W+", "_", self.unit.replace("/", " per ")).strip("_").lower()

    @property
    def is_latency(self) -> bool:
        """Whether the unit is milliseconds."""
        return self.unit == "ms"

    def check_latency(self, attribute: str, instead: str) -> None:
        """Refuse to read or set a quantity in another unit as milliseconds.

        Args:
            attribute: Name of the attribute or argument in milliseconds.
            instead: Name of the one to use for any quantity.

        Raises:
            QuantityError: if this is not a latency.
        """
        if not self.is_latency:
            raise QuantityError(
                f"Expected a latency where `{attribute}` is used, but got {self.name} in {self.unit}: use `{instead}`."
            )

    def number(self, value: float, n_decimals: int | None = None) -> str:
        """A number as text. A count has commas and no decimals."""
        if not self.n_decimals:
            return f"{value:,.0f}"
        return f"{value:.{self.n_decimals if n_decimals is None else n_decimals}f}"

    def rounded(self, value: float) -> str:
        """A number as messages show it: a measured one with four digits, a count with all its digits."""
        return f"{value:.4g}" if self.n_decimals else self.number(value)

    def plus_minus(self, std: float | None, n_decimals: int | None = None) -> str:
        """A standard deviation as text, ``± 0.123 ms`` or ``± unknown``."""
        return "± unknown" if std is None else f"± {self.number(std, n_decimals)} {self.unit}"

    def figure(self, value: float, std: float | None) -> str:
        """A number with its standard deviation as text. An exact count has no standard deviation."""
        if std is None:
            return f"{self.number(value)} {self.unit} ± unknown"
        if std == 0 and not self.n_decimals:
            return f"{self.number(value)} {self.unit}"
        return f"{self.number(value)} {self.plus_minus(std)}"


LATENCY = Quantity(name="latency", unit="ms")

# Quantities with a name of their own. For any other one, make a `Quantity`.
QUANTITIES: dict[str, Quantity] = {
    "latency": LATENCY,
    "MACs": Quantity(name="multiply-accumulates", unit="MACs", n_decimals=0),
    "parameters": Quantity(name="parameters", unit="params", n_decimals=0),
    "bytes": Quantity(name="memory", unit="bytes", n_decimals=0),
    "peak memory": Quantity(name="peak memory", unit="MB"),
    "energy": Quantity(name="energy", unit="mJ"),
    "throughput": Quantity(name="throughput", unit="tokens/s"),
}
