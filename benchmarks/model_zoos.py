"""Reads the models of two libraries that nobody here wrote, from their definitions; counts and prices them.

    pip install --no-deps --target ZOOS timm==1.0.31 transformers==5.24.0 torchvision==0.28.0
    pip install --no-deps --target ZOOS fvcore iopath yacs portalocker tabulate termcolor
    PYTHONPATH=.:ZOOS python benchmarks/model_zoos.py timm [NAME ...]
    PYTHONPATH=.:ZOOS python benchmarks/model_zoos.py transformers [NAME ...]

timm: the smallest model of each family. A line each has the multiply-accumulates that are read, the products of
constants that every converter folds and that are therefore not read, and what fvcore counts for the same products
(without its counts for norms and poolings, which are no multiply-accumulates). Where fvcore names products that it does
not count, the line names them, and there is no ratio. Attention is written out, since fvcore does not count it fused.

transformers: small models made of configurations, encoders, decoders and both. A line each has the number of kernels on
SD865 with ``on_missing="regress"`` and the latency, or the ops without a price.

No weights are downloaded. The CPU wheel of torch has no torchvision beside it that imports: its operators are declared
first. A model may take 150 s; all of timm take half an hour.
"""

from __future__ import annotations

import logging
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from latency_nas import LatencyEstimator
from latency_nas.errors import LatencyNASError
from latency_nas.graph import OpGraph
from latency_nas.graph.torch.reader import read_torch
from latency_nas.kernel import OPS, n_macs

_LIMIT_S = 150
_VISION_OPS = (
    "roi_align", "_roi_align_backward", "ps_roi_align", "_ps_roi_align_backward", "roi_pool", "_roi_pool_backward",
    "ps_roi_pool", "_ps_roi_pool_backward", "qroi_align", "deform_conv2d", "_deform_conv2d_backward", "nms", "qnms",
)  # fmt: skip
_PRODUCTS = ("conv", "linear", "matmul", "bmm", "einsum", "addmm", "mm")  # names of fvcore
_NOT_COUNTED = {"aten::_convolution_mode", "aten::lstm", "aten::gru", "aten::scaled_dot_product_attention"}
_SMALL = ("atto", "femto", "pico", "nano", "xx", "_t0", "xs", "mini", "tiny", "_s0", "small", "_b0", "_050", "_s")

_IDS, _TARGETS = torch.zeros(1, 16, dtype=torch.int64), torch.zeros(1, 8, dtype=torch.int64)
_TEXT = {"input_ids": _IDS, "attention_mask": torch.ones(1, 16, dtype=torch.int64)}
_BOTH = {**_TEXT, "decoder_input_ids": _TARGETS}
_IMAGE = {"pixel_values": torch.zeros(1, 3, 64, 64)}
_BERT = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 1000,
}  # fmt: skip
_GROUPED = {**_BERT, "num_key_value_heads": 2, "pad_token_id": 0}
_GPT2 = {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 1000}
_BART = {
    "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128, "decoder_ffn_dim": 128, "vocab_size": 1000, "decoder_vocab_size": 1000, "pad_token_id": 0,
}  # fmt: skip
# name of a family -> its configuration, and the inputs
_CONFIGS: dict[str, tuple[dict[str, Any], dict[str, Tensor]]] = {
    "bert": (_BERT, _TEXT),
    "albert": ({**_BERT, "embedding_size": 32}, _TEXT),
    "distilbert": ({"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 1000}, _TEXT),
    "deberta-v2": ({**_BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}, _TEXT),
    "modernbert": ({**_BERT, "pad_token_id": 0}, _TEXT),
    "gpt2": (_GPT2, _TEXT),
    "gpt_neox": (_BERT, _TEXT),
    "bloom": ({"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 1000}, _TEXT),
    "llama": (_GROUPED, _TEXT),
    "qwen3": ({**_GROUPED, "head_dim": 16}, _TEXT),
    "gemma2": ({**_GROUPED, "head_dim": 16}, _TEXT),
    "phi3": (_GROUPED, _TEXT),
    "mixtral": ({**_GROUPED, "num_local_experts": 4}, _TEXT),
    "t5": ({"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 1000}, _BOTH),
    "bart": (_BART, _BOTH),
    "whisper": (
        {**_BART, "num_mel_bins": 16, "max_source_positions": 32},
        {"input_features": torch.zeros(1, 16, 64), "decoder_input_ids": _TARGETS},
    ),
    "vit": ({**_BERT, "image_size": 64, "patch_size": 16}, _IMAGE),
    "swin": ({"image_size": 64, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}, _IMAGE),
    "segformer": ({"depths": [1] * 4, "hidden_sizes": [16, 16, 32, 32], "num_attention_heads": [1, 2, 2, 4]}, _IMAGE),
    "mobilevit": ({"image_size": 64}, _IMAGE),
    "mamba": ({"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 1000, "state_size": 8}, {"input_ids": _IDS}),
    "rwkv": ({"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 1000}, {"input_ids": _IDS}),
    "fnet": ({**_BERT}, {"input_ids": _IDS}),
}


class ConstantProducts(TorchDispatchMode):
    """Counts the multiply-accumulates of constants while a model is read: only these ops run on real tensors."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.macs = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(isinstance(leaf, FakeTensor) for leaf in tree_leaves((args, kwargs))):
            return func(*args, **kwargs)
        if func.overloadpacket in (torch.ops.aten.linear, torch.ops.aten.matmul, torch.ops.aten.conv2d):
            with self:
                return func.decompose(*args, **kwargs)
        result = func(*args, **kwargs)
        if func.overloadpacket in flop_registry:
            self.macs += flop_registry[func.overloadpacket](*args, **kwargs, out_val=result) // 2
        return result


@contextmanager
def limited() -> Iterator[None]:
    """Raise a `TimeoutError` where the block takes too long."""

    def stop(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(_LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)


def unknown(graph: OpGraph) -> str:
    """The ops of a graph that are not in the vocabulary, as text."""
    ops = sorted({node.op for node in graph.nodes if node.op not in OPS})
    return f"; unknown ops {', '.join(ops)}" if ops else ""


def of_timm(name: str) -> str:
    """The line of a model of timm."""
    import timm
    from fvcore.nn import FlopCountAnalysis

    timm.layers.set_fused_attn(False)
    model: nn.Module = timm.create_model(name).eval()
    x = torch.zeros(1, *model.default_cfg.get("input_size", (3, 224, 224)))  # type: ignore[union-attr, operator]
    with ConstantProducts() as constants:
        graph = read_torch(model, x)
    macs = sum(n_macs(graph.kernel(node)) for node in graph.nodes)
    ours = f"{macs:,} MACs, {constants.macs:,} of constants{unknown(graph)}"
    try:
        counted = FlopCountAnalysis(model, x).unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        products = int(sum(count for op, count in counted.by_operator().items() if op in _PRODUCTS))
    except TimeoutError:
        return f"{ours}; fvcore runs the model, which takes too long"
    left_out = sorted(_NOT_COUNTED & counted.unsupported_ops().keys())
    if left_out:
        return f"{ours}; fvcore {products:,} without {', '.join(left_out)}"
    ratio = (macs + constants.macs) / products
    return f"{ours}; fvcore {products:,}; ratio {ratio:.4f}{'' if abs(ratio - 1) < 0.01 else ' DIFFERENT'}"


def of_transformers(name: str) -> str:
    """The line of a model of transformers."""
    from transformers import AutoConfig, AutoModel

    config, inputs = _CONFIGS[name]
    graph = read_torch(AutoModel.from_config(AutoConfig.for_model(name, **config)).eval(), inputs)
    macs = sum(n_macs(graph.kernel(node)) for node in graph.nodes)
    return f"{macs:,} MACs{unknown(graph)}; {LatencyEstimator('SD865', on_missing='regress').predict(graph)}"


def families_of_timm() -> list[str]:
    """The smallest model of each family, by its name."""
    import timm

    families: dict[str, list[str]] = {}
    for name in timm.list_models():
        families.setdefault(timm.models.model_entrypoint(name).__module__, []).append(name)
    return [min(names, key=lambda name: (_size(name), len(name))) for names in families.values()]


def _size(name: str) -> int:
    """The rank of a model's size, by its name."""
    return next((rank for rank, size in enumerate(_SMALL) if size in name), len(_SMALL))


def main() -> None:
    """Print a line for each model."""
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    library = torch.library.Library("torchvision", "DEF")
    for op in _VISION_OPS:
        library.define(f"{op}(Tensor x) -> Tensor")
    zoo, *names = sys.argv[1:]
    line: Callable[[str], str] = {"timm": of_timm, "transformers": of_transformers}[zoo]
    for name in names or (families_of_timm() if zoo == "timm" else list(_CONFIGS)):
        try:
            with limited():
                result = line(name)
        except (LatencyNASError, TimeoutError) as error:
            result = f"{type(error).__name__}: {error}"
        print(f"{name}: {result}", flush=True)


if __name__ == "__main__":
    main()
