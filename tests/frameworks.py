"""What tests of supernets in torch and in Paddle do differently, by the framework of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import paddle
import torch
from numpy.typing import NDArray

from latency_nas import LatencyLoss, PaddleLatencyLoss
from tests.supernets import snapshot

__all__ = ["gradients", "is_paddle", "loss_for", "numbers", "state_of", "zeros"]


def is_paddle(net: Any) -> bool:
    return isinstance(net, paddle.nn.Layer)


def loss_for(net: Any, *args: Any, **options: Any) -> Any:
    """A latency loss of the network's framework."""
    return (PaddleLatencyLoss if is_paddle(net) else LatencyLoss)(*args, **options)


def zeros(net: Any, *shape: int) -> Any:
    return paddle.zeros(list(shape)) if is_paddle(net) else torch.zeros(shape)


def numbers(tensor: Any) -> NDArray[np.float64]:
    return np.asarray(tensor.detach().numpy(), np.float64)


def gradients(value: Any, tensors: Sequence[Any]) -> list[NDArray[np.float64]]:
    """The gradient of a scalar with respect to each tensor; zeros for one that it does not depend on."""
    differentiate = paddle.grad if isinstance(value, paddle.Tensor) else torch.autograd.grad
    found = differentiate(value, list(tensors), retain_graph=True, allow_unused=True)
    return [
        np.zeros(tuple(tensor.shape)) if gradient is None else numbers(gradient)
        for tensor, gradient in zip(tensors, found, strict=True)
    ]


def state_of(net: Any) -> dict[str, Any]:
    """Everything that attaching could change, compared by value."""
    if not is_paddle(net):
        return snapshot(net)
    layers = list(net.named_sublayers(include_self=True))
    hooks = ("_forward_pre_hooks", "_forward_post_hooks")
    return {
        "values": {name: value.numpy().tobytes() for name, value in net.state_dict().items()},
        "same": {name: id(value) for name, value in net.named_parameters()},
        "needs gradient": {name: value.stop_gradient for name, value in net.named_parameters()},
        "training": {name: layer.training for name, layer in layers},
        "attributes": {name: sorted(layer.__dict__) for name, layer in layers},
        "hooks": {name: [len(getattr(layer, key)) for key in hooks] for name, layer in layers},
        "random": [str(state.current_seed()) for state in paddle.get_rng_state()],
    }
