"""`Diagrams`: functions of an architecture as decision diagrams, which say all of its cases without trying them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from math import prod
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

__all__ = ["Diagram", "Diagrams"]

Diagram = int  # number of a node: equal functions have equal numbers
Path = dict[int, tuple[int, ...]]  # choice -> candidates that lead along a path; other choices do not matter


class Diagrams:
    """Functions of the candidates of choices, with any values.

    A function is a node: a value, or a choice with a function for each of its candidates. Choices come in their order
    on every path, and equal nodes are one, so that two functions are equal if and only if their numbers are.

    Args:
        sizes: Number of candidates of each choice.

    References:
        Bryant, Graph-based algorithms for Boolean function manipulation, IEEE Transactions on Computers C-35, 1986.
        Srinivasan, Kam, Malik and Brayton, Algorithms for discrete function manipulation, ICCAD 1990: several values.

    Example:
        >>> diagrams = Diagrams([2, 3])
        >>> first, second = diagrams.choice(0), diagrams.choice(1)
        >>> both = diagrams.apply(lambda one, other: one == 1 and other == 1, first, second)
        >>> diagrams.value(both, [1, 1]), list(diagrams.paths(both))[0]
        (True, ({0: (0,)}, False))
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = tuple(sizes)
        self._nodes: list[tuple[int, tuple[Diagram, ...]]] = []  # the choice, len(sizes) for a value; the candidates'
        self._values: dict[Diagram, Any] = {}
        self._numbers: dict[Hashable, Diagram] = {}
        self._found: dict[Diagram, list[Any]] = {}  # the values of each function that were asked for
        self._reached: dict[Diagram, frozenset[Diagram]] = {}
        self._applied: WeakKeyDictionary[Callable[..., Hashable], dict[tuple[Diagram, ...], Diagram]]
        self._applied = WeakKeyDictionary()  # results of each function that is still in use
        self._choices = [
            self._node(number, tuple([self.constant(index) for index in range(size)]))
            for number, size in enumerate(sizes)
        ]
        self._false, self._true, self._none = map(self.constant, (False, True, None))

    def constant(self, value: Hashable) -> Diagram:
        """The function that is `value` for every architecture."""
        key = (type(value), value)
        if key not in self._numbers:
            self._numbers[key] = len(self._nodes)
            self._values[len(self._nodes)] = value
            self._nodes.append((len(self.sizes), ()))
        return self._numbers[key]

    def choice(self, number: int) -> Diagram:
        """The function that is the index of a choice's candidate."""
        return self._choices[number]

    def branch(self, number: int, functions: Sequence[Diagram]) -> Diagram:
        """As `select`, for functions of later choices only: nothing has to be applied."""
        return self._node(number, tuple(functions))

    def first_choice(self, function: Diagram) -> int | None:
        """The first choice that a function depends on; None for a constant."""
        number = self._nodes[function][0]
        return None if number == len(self.sizes) else number

    def children(self, function: Diagram, number: int) -> tuple[Diagram, ...]:
        """The function that is left of one for each candidate of a choice, which is its first or one before it."""
        first, children = self._nodes[function]
        return children if first == number else (function,) * self.sizes[number]

    def select(self, number: int, functions: Sequence[Diagram]) -> Diagram:
        """The function of the candidate that a choice has."""
        if len(set(functions)) == 1:
            return functions[0]
        return self.apply(_item, self.choice(number), *functions, known=self._item)

    def switch(self, selector: Diagram, functions: Mapping[Any, Diagram], other: Diagram) -> Diagram:
        """The function that belongs to the value of `selector`, and `other` for values without one."""
        done: dict[Diagram, Diagram] = {}

        def result(selector: Diagram) -> Diagram:
            if selector not in done:
                if selector in self._values:
                    done[selector] = functions.get(self._values[selector], other)
                else:
                    choice, children = self._nodes[selector]
                    done[selector] = self.select(choice, [result(child) for child in children])
            return done[selector]

        return result(selector)

    def where(self, condition: Diagram, function: Diagram) -> Diagram:
        """The function where a condition holds, and None elsewhere."""
        return self.apply(_where, condition, function, known=self._where)

    def both(self, one: Diagram, other: Diagram) -> Diagram:
        """Whether two conditions hold."""
        return self.apply(_and, one, other, known=self._both)

    def either(self, one: Diagram, other: Diagram) -> Diagram:
        """Whether one of two conditions holds."""
        return self.apply(_or, one, other, known=self._either)

    def same(self, one: Diagram, other: Diagram) -> Diagram:
        """Whether two functions have the same value."""
        return self.apply(_same, one, other, known=self._same)

    def _same(self, one: Diagram, other: Diagram) -> Diagram | None:
        if one == other:
            return self._true
        return self._false if self._constants(one).isdisjoint(self._constants(other)) else None

    def _constants(self, function: Diagram) -> frozenset[Diagram]:
        if function not in self._reached:
            children = dict.fromkeys(self._nodes[function][1])
            reached = frozenset[Diagram]().union(*map(self._constants, children)) if children else {function}
            self._reached[function] = frozenset(reached)
        return self._reached[function]

    def _item(self, index: Diagram, *functions: Diagram) -> Diagram | None:
        return functions[self._values[index]] if index in self._values else None

    def _where(self, condition: Diagram, function: Diagram) -> Diagram | None:
        return self._none if condition == self._false else function if condition == self._true else None

    def _both(self, one: Diagram, other: Diagram) -> Diagram | None:
        if self._false in (one, other):
            return self._false
        return other if one == self._true else one if other in (self._true, one) else None

    def _either(self, one: Diagram, other: Diagram) -> Diagram | None:
        if self._true in (one, other):
            return self._true
        return other if one == self._false else one if other in (self._false, one) else None

    def apply(
        self,
        function: Callable[..., Hashable],
        *operands: Diagram,
        known: Callable[..., Diagram | None] | None = None,
    ) -> Diagram:
        """The function whose value is `function` of the operands' values.

        Args:
            function: Function of values.
            operands: Functions of the choices.
            known: Function of the operands that gives the result where some operands, as constants, decide it; else
                None.
        """
        done = self._applied.setdefault(function, {})
        nodes, n_choices = self._nodes, len(self.sizes)

        def result(operands: tuple[Diagram, ...]) -> Diagram:
            if operands in done:
                return done[operands]
            if known is not None and (found := known(*operands)) is not None:
                return found
            first = min([nodes[operand][0] for operand in operands], default=n_choices)
            if first == n_choices:
                found = self.constant(function(*[self._values[operand] for operand in operands]))
            else:
                columns = [
                    nodes[operand][1] if nodes[operand][0] == first else (operand,) * self.sizes[first]
                    for operand in operands
                ]
                found = self._node(first, tuple(map(result, zip(*columns, strict=True))))
            done[operands] = found
            return found

        return result(operands)

    def _node(self, choice: int, children: tuple[Diagram, ...]) -> Diagram:
        if len(set(children)) == 1:
            return children[0]
        number = self._numbers.setdefault((choice, children), len(self._nodes))
        if number == len(self._nodes):
            self._nodes.append((choice, children))
        return number

    def value(self, function: Diagram, row: Sequence[int]) -> Any:
        """The value for an architecture, which is given as the candidates' indices."""
        while function not in self._values:
            choice, children = self._nodes[function]
            function = children[row[choice]]
        return self._values[function]

    def values(self, function: Diagram) -> list[Any]:
        """All values of a function, in an order that does not depend on what they are."""
        if function in self._found:
            return self._found[function]
        seen, stack, found = {function}, [function], list[Any]()
        while stack:
            last = stack.pop()
            if last in self._values:
                found.append(self._values[last])
            new = [child for child in dict.fromkeys(self._nodes[last][1]) if child not in seen]
            seen.update(new)
            stack += new
        self._found[function] = found
        return found

    def paths(self, function: Diagram) -> Iterator[tuple[Path, Any]]:
        """The cases of a function, of which every architecture is in one, and the value in each."""
        stack: list[tuple[Diagram, Path]] = [(function, {})]
        while stack:
            last, path = stack.pop()
            if last in self._values:
                yield path, self._values[last]
                continue
            choice, children = self._nodes[last]
            for child in sorted(set(children), reverse=True):
                same = tuple([index for index, other in enumerate(children) if other == child])
                stack.append((child, {**path, choice: same}))

    def n_rows(self, function: Diagram, value: Hashable, at_most: int) -> int:
        """The number of architectures for which a function has a value, or `at_most` if there are more."""
        n = 0
        for path, found in self.paths(function):
            if found == value:
                n += prod(len(path.get(choice, range(size))) for choice, size in enumerate(self.sizes))
            if n >= at_most:
                return at_most
        return n

    def path_to(self, function: Diagram, value: Hashable, random: np.random.Generator) -> Path:
        """A random case in which a function has a value."""
        leads: dict[Diagram, bool] = {}

        def to(node: Diagram) -> bool:
            if node not in leads:
                leads[node] = (
                    self._values[node] == value if node in self._values else any(map(to, self._nodes[node][1]))
                )
            return leads[node]

        path: Path = {}
        while function not in self._values:
            choice, children = self._nodes[function]
            child = random.choice([other for other in dict.fromkeys(children) if to(other)])
            path[choice] = tuple([index for index, other in enumerate(children) if other == child])
            function = int(child)
        return path


def _where(condition: bool, value: Hashable) -> Hashable:
    return value if condition else None


def _and(one: bool, other: bool) -> bool:
    return one and other


def _or(one: bool, other: bool) -> bool:
    return one or other


def _same(one: Hashable, other: Hashable) -> bool:
    return one == other


def _item(index: int, *values: Hashable) -> Hashable:
    return values[index]
