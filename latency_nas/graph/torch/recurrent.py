"""Reads recurrent layers of aten: one op a layer, over the whole sequence and in both directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from latency_nas.kernel import AttrValue

__all__ = ["read_recurrent"]

# name in aten -> our name
_OPS = {"lstm": "lstm", "gru": "gru", "rnn_tanh": "rnn", "rnn_relu": "rnn"}

Emit = Callable[..., Tensor]  # of op, attributes, inputs, the shape of the output, and its type where it is another


def read_recurrent(func: Any, args: Sequence[Any], emit: Emit) -> Any:
    """The results of a recurrent call, each layer of which is emitted; None where the call is of no known form.

    Packed sequences, whose lengths are values, are of no known form. The last states are parts of the
    output sequence, which costs what an engine pays for them: a copy.

    Args:
        func: Aten op.
        args: Its arguments: the input of shape ``(steps, batch, features)``, or with the first two swapped, the first
            states, the weights of each layer and direction, and options.
        emit: Function that adds a node: its op, attributes, inputs and the shape of its output.
    """
    op = _OPS.get(func.overloadpacket.__name__)
    if op is None or func._schema.overload_name != "input":
        return None
    x, states, weights, has_biases, n_layers, _, _, bidirectional, batch_first = args
    n_directions, n_weights = 1 + bool(bidirectional), 4 if has_biases else 2
    cell = states[1] if isinstance(states, list | tuple) else states
    hidden, size = int(cell.shape[-1]), int(weights[1].shape[1])
    n_weights += size != hidden  # a projection of the hidden state
    if len(weights) != n_layers * n_directions * n_weights:
        return None
    both: dict[str, AttrValue] = {"directions": 2} if bidirectional else {}
    projection: dict[str, AttrValue] = {"projection": size} if size != hidden else {}
    attrs: dict[str, AttrValue] = {"hidden": hidden, **both, **projection}
    output = x.transpose(0, 1) if batch_first else x
    last = []
    for layer in range(n_layers):
        start = layer * n_directions * n_weights
        own = weights[start : start + n_directions * n_weights]
        output = emit(op, attrs, [output, *own], (*output.shape[:2], n_directions * size))
        ends = output[-1].reshape(-1, n_directions, size).transpose(0, 1)
        last.append(ends)
    state = torch.cat(last) if len(last) > 1 else last[0]
    output = output.transpose(0, 1) if batch_first else output
    return (output, state, _cells(state, cell)) if op == "lstm" else (output, state)


def _cells(state: Tensor, cell: Tensor) -> Tensor:
    """The last cell states; they have another size than the hidden states if these are projected."""
    size = cell.shape[-1]
    return state if state.shape[-1] == size else state.repeat_interleave(-(-size // state.shape[-1]), -1)[..., :size]
