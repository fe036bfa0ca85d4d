"""Shapes of a model's inputs as users give them: one, or one for each input by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from latency_nas.errors import InputMismatchError, short_repr

__all__ = ["InputShape", "check_input_shape", "parse_input_shapes", "parse_shape"]

InputShape = Sequence[int] | Mapping[str, Sequence[int]]

_EXAMPLE = "1,3,224,224"


def check_input_shape(given: InputShape | None) -> tuple[int, ...] | dict[str, tuple[int, ...]] | None:
    """The given shapes as tuples of plain integers.

    Raises:
        InputMismatchError: if a shape is not one of positive integers.

    Example:
        >>> check_input_shape([1, 3, 64, 64]), check_input_shape({"ids": (1, 16), "scale": ()})
        ((1, 3, 64, 64), {'ids': (1, 16), 'scale': ()})
    """
    if given is None:
        return None
    if isinstance(given, Mapping):
        return {str(name): _checked(shape, f"`input_shape` of `{name}`") for name, shape in given.items()}
    return _checked(given, "`input_shape`")


def _checked(shape: object, what: str) -> tuple[int, ...]:
    sizes = None if isinstance(shape, str | bytes) or not isinstance(shape, Sequence) else tuple(shape)
    if sizes is None or not all(_is_size(size) for size in sizes):
        raise InputMismatchError(
            f"Expected {what} to be a sequence of positive integers such as (1, 3, 224, 224), but got "
            f"{short_repr(shape)}."
        )
    return tuple(map(int, sizes))


def _is_size(size: object) -> bool:
    return hasattr(size, "__index__") and not isinstance(size, bool) and size.__index__() > 0


def parse_input_shapes(texts: Sequence[str], option: str = "--input-shape") -> InputShape | None:
    """The shapes in texts such as ``1,3,224,224``, or ``image=1,3,64,64`` where a model has several inputs.

    Args:
        texts: Texts of one input each. The shape of a scalar is empty: ``rate=``.
        option: Name of what the user gave, for messages.

    Returns:
        One shape, a mapping name -> shape, or None where there is no text.

    Raises:
        InputMismatchError: if a text is not a shape, or several shapes are not named.

    Example:
        >>> parse_input_shapes(["image=1,3,64,64", "ids=1,16"]), parse_input_shapes(["1,8"])
        ({'image': (1, 3, 64, 64), 'ids': (1, 16)}, (1, 8))
    """
    given = [text for text in texts if text.strip()]
    if not given:
        return None
    if len(given) == 1 and "=" not in given[0]:
        return parse_shape(given[0], option)
    pairs = {text: text.rpartition("=") for text in given}
    if unnamed := [text for text, (name, _, _) in pairs.items() if not name.strip()]:
        raise InputMismatchError(
            f"Expected each {option} to name its input, such as image={_EXAMPLE}, but got {short_repr(unnamed[0])}."
        )
    shapes = {
        name.strip(): parse_shape(shape, f"{option} of {name.strip()}") if shape.strip() else ()
        for name, _, shape in pairs.values()
    }
    if len(shapes) < len(given):
        raise InputMismatchError(f"Expected {option} once for each input, but got {', '.join(map(short_repr, given))}.")
    return shapes


def parse_shape(text: str, option: str = "--input-shape") -> tuple[int, ...]:
    """The shape in a text such as ``1,3,224,224``.

    Args:
        text: Sizes, separated by commas.
        option: Name of what the user gave, for messages.

    Raises:
        InputMismatchError: if the text is not a shape.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(map(_is_text_of_size, parts)):
        raise InputMismatchError(
            f"Expected {option} to be positive integers such as {_EXAMPLE}, but got {short_repr(text)}."
        )
    return tuple(map(int, parts))


def _is_text_of_size(part: str) -> bool:
    return part.isascii() and part.isdecimal() and len(part) <= 10 and int(part) > 0
