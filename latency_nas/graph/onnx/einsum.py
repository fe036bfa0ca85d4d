"""ONNX's `Einsum`, as the sums, moves and products that it is made of: one product for each two operands."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from latency_nas.graph.onnx.rewrite import NotRewrittenError, Rewrite

__all__ = ["rewrite_einsum"]


def rewrite_einsum(r: Rewrite) -> None:
    """Rewrite an Einsum without an ellipsis and without a diagonal. The operands are multiplied from left to right."""
    terms, arrow, target = str(r.attrs["equation"]).replace(" ", "").partition("->")
    operands = terms.split(",")
    if "." in terms or any(len(set(term)) < len(term) for term in (*operands, target)):
        raise NotRewrittenError
    target = target if arrow else "".join(sorted(letter for letter in set(terms) - {","} if terms.count(letter) == 1))
    sizes: dict[str, int] = {}
    for position, term in enumerate(operands):
        for letter, size in zip(term, r.shape(position), strict=True):
            if sizes.setdefault(letter, size) != size:
                raise NotRewrittenError
    name, term = r.name(0), operands[0]
    for position, other in enumerate(operands[1:], start=1):
        later = set(target).union(*operands[position + 1 :])
        name, term = _product(r, (name, term), (r.name(position), other), later, sizes)
    name, term = _summed(r, name, term, set(target))
    r.give(_ordered(r, name, term, target))


def _summed(r: Rewrite, name: str, term: str, kept: set[str]) -> tuple[str, str]:
    """Sum over the letters that are not kept."""
    axes = [axis for axis, letter in enumerate(term) if letter not in kept]
    if not axes:
        return name, term
    return r.one("ReduceSum", name, axes=axes, keepdims=0), "".join(letter for letter in term if letter in kept)


def _ordered(r: Rewrite, name: str, term: str, wanted: str) -> str:
    return name if term == wanted else r.one("Transpose", name, perm=tuple(term.index(letter) for letter in wanted))


def _shaped(r: Rewrite, name: str, source: Sequence[int], target: Sequence[int]) -> str:
    return name if tuple(source) == tuple(target) else r.reshape(name, target)


def _product(
    r: Rewrite, one: tuple[str, str], two: tuple[str, str], later: set[str], sizes: dict[str, int]
) -> tuple[str, str]:
    """The product of two operands, summed over the letters that nothing later needs; its name and its letters."""
    left, a = _summed(r, *one, later | set(two[1]))
    right, b = _summed(r, *two, later | set(a))
    batch = "".join(letter for letter in a if letter in b and letter in later)
    inner = "".join(letter for letter in a if letter in b and letter not in later)
    rows, columns = ("".join(letter for letter in x if letter not in y) for x, y in ((a, b), (b, a)))

    def of(letters: str) -> list[int]:
        return [sizes[letter] for letter in letters]

    if not (inner or rows or columns):
        return r.one("Mul", left, _ordered(r, right, b, a)), a
    # Without a batch the rows keep their axes, as in a linear layer.
    kept = of(rows) if not batch and rows else [*of(batch), prod(of(rows))]
    left = _shaped(r, _ordered(r, left, a, batch + rows + inner), of(batch + rows + inner), [*kept, prod(of(inner))])
    right = _ordered(r, right, b, batch + inner + columns)
    right = _shaped(r, right, of(batch + inner + columns), [*of(batch), prod(of(inner)), prod(of(columns))])
    made = r.one("MatMul", left, right)
    return _shaped(r, made, [*kept, prod(of(columns))], of(batch + rows + columns)), batch + rows + columns
