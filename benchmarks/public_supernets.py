"""Attaches public supernets as their authors wrote them, and prices what they deploy.

    python benchmarks/public_supernets.py FOLDER [--table SD865] [--only quark0/darts ...]

FOLDER holds checkouts of the repositories, each named OWNER+NAME. A line a repository: the lines of code that attach
it, processor seconds of a first attach and of a second one, architectures whose price by the plan is to 1e-9 that of a
network which the repository's own code builds anew, the largest difference, and whether attaching left the supernet's
weights and outputs bit-equal. Each runs in a process of its own. What a repository needs besides torch has to be
importable; whatever fails says so in its line.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import math
import os
import random
import subprocess
import sys
import time
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from latency_nas import LatencyEstimator, LatencyLoss, options_of

_N_PRICED = 20
Architecture = Mapping[str, int]


@dataclass(frozen=True)
class Repository:
    """How a supernet of a repository is made, attached, and deployed.

    Args:
        path: Folder of the modules, within the checkout.
        make: Function of the repository's modules that gives the supernet.
        attach: Function that attaches a loss to it; its lines are what a user writes.
        deployed: Function of the supernet and an architecture that gives the network by the repository's own code.
        size: Height and width of the input, where no choice is its resolution.
    """

    path: str
    make: Callable[[], Any]
    attach: Callable[[LatencyLoss, Any, Tensor], Any]
    deployed: Callable[[Any, Mapping[str, Any]], nn.Module]
    size: int


class OneOp(nn.Module):
    """A candidate in the place of an edge's candidates, whatever else the edge was called with."""

    def __init__(self, op: nn.Module) -> None:
        super().__init__()
        self.op = op

    def forward(self, x: Tensor, *others: Any) -> Any:
        """The candidate's output, and what follows the weights in the arguments as it came."""
        return (self.op(x), *others[1:]) if len(others) > 1 else self.op(x)


def _plain(latency: LatencyLoss, net: nn.Module, x: Tensor) -> None:
    latency.attach(net, x)


# --- quark0/darts


def _darts() -> nn.Module:
    from model_search import Network

    return Network(16, 10, 8, None)  # type: ignore[no-any-return]


def _darts_path(net: Any, architecture: Architecture) -> nn.Module:
    own = deepcopy(net)
    for cell in own.cells:
        kind = "reduce" if cell.reduction else "normal"
        edges = cell.get_submodule("_ops")
        for edge, mixed in enumerate(edges):
            edges[edge] = OneOp(mixed.get_submodule(f"_ops.{architecture[f'alphas_{kind}[{edge}]']}"))
    return own  # type: ignore[no-any-return]


# --- D-X-Y/AutoDL-Projects: NAS-Bench-201


def _nb201() -> nn.Module:
    from xautodl.models.cell_operations import NAS_BENCH_201
    from xautodl.models.cell_searchs.search_model_darts import TinyNetworkDarts

    return TinyNetworkDarts(16, 5, 4, 10, NAS_BENCH_201, False, True)  # type: ignore[no-any-return]


def _nb201_deployed(net: Any, architecture: Architecture) -> nn.Module:
    from xautodl.models.cell_infers.tiny_network import TinyNetwork
    from xautodl.models.cell_searchs.genotypes import Structure

    nodes = []
    for node in range(1, 4):
        places = [(net.edge2index[f"{node}<-{before}"], before) for before in range(node)]
        nodes.append(tuple((net.op_names[architecture[f"arch_parameters[{row}]"]], before) for row, before in places))
    return TinyNetwork(16, 5, Structure(nodes), 10)  # type: ignore[no-any-return]


# --- AnnaAraslanova/FBNet


def _fbnet() -> nn.Module:
    from supernet_functions import lookup_table_builder, model_supernet

    table = lookup_table_builder.LookUpTable(calulate_latency=False)
    return model_supernet.FBNet_Stochastic_SuperNet(table, cnt_classes=10)  # type: ignore[no-any-return]


def _attach_fbnet(latency: LatencyLoss, net: nn.Module, x: Tensor) -> None:
    latency.attach(net, run=lambda net: net(x, 5.0, 0.0)[0])


def _fbnet_path(net: Any, architecture: Architecture) -> nn.Module:
    own = deepcopy(net)
    for stage, mixed in enumerate(own.stages_to_search):
        own.stages_to_search[stage] = OneOp(mixed.ops[architecture[f"stages_to_search.{stage}"]])
    own.forward = lambda x, forward=own.forward: forward(x, 5.0, 0.0)[0]
    return own  # type: ignore[no-any-return]


# --- mit-han-lab/once-for-all


def _ofa() -> nn.Module:
    from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3

    return OFAMobileNetV3(  # type: ignore[no-any-return]
        width_mult=1.2, ks_list=[3, 5, 7], expand_ratio_list=[3, 4, 6], depth_list=[2, 3, 4]
    )


def _ofa_deployed(net: Any, config: Mapping[str, Any]) -> nn.Module:
    net.set_active_subnet(
        ks=[config[f"k{block}"] for block in range(20)],
        e=[config[f"e{block}"] for block in range(20)],
        d=[config[f"d{stage}"] for stage in range(5)],
    )
    return net.get_active_subnet()  # type: ignore[no-any-return]


def _attach_ofa(latency: LatencyLoss, net: nn.Module, x: Tensor) -> None:
    options: dict[str, Sequence[int]] = {f"d{stage}": (2, 3, 4) for stage in range(5)}
    options |= {f"k{block}": (3, 5, 7) for block in range(20)} | {f"e{block}": (3, 4, 6) for block in range(20)}
    latency.attach(net, x, choices=options_of(options, _ofa_deployed))


# --- microsoft/Cream: AutoFormer


def _autoformer() -> nn.Module:
    from model.supernet_transformer import Vision_TransformerSuper

    return Vision_TransformerSuper(  # type: ignore[no-any-return]
        embed_dim=256, depth=14, num_heads=4, mlp_ratio=4, qkv_bias=True, gp=True, relative_position=True,
        change_qkv=True, num_classes=10,
    )  # fmt: skip


def _configure_autoformer(net: Any, config: Mapping[str, Any]) -> Any:
    depth = config["depth"]
    net.set_sample_config({
        "layer_num": depth,
        "embed_dim": [config["width"]] * depth,
        "mlp_ratio": [config[f"mlp{block}"] for block in range(depth)],
        "num_heads": [config[f"heads{block}"] for block in range(depth)],
    })  # fmt: skip
    return net


def _attach_autoformer(latency: LatencyLoss, net: nn.Module, x: Tensor) -> None:
    options: dict[str, Sequence[float]] = {"depth": (12, 13, 14), "width": (192, 216, 240)}
    options |= {f"mlp{block}": (3.5, 4) for block in range(14)} | {f"heads{block}": (3, 4) for block in range(14)}
    latency.attach(net, x, choices=options_of(options, _configure_autoformer))


def _autoformer_deployed(net: Any, config: Mapping[str, Any]) -> nn.Module:
    own = deepcopy(net)
    _configure_autoformer(own, config)
    own.blocks = own.blocks[: config["depth"]]
    return own  # type: ignore[no-any-return]


# --- facebookresearch/AttentiveNAS


def _attentive_nas() -> nn.Module:
    import yaml
    from models.attentive_nas_dynamic_model import AttentiveNasDynamicModel

    def sections(data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return SimpleNamespace(**{key: sections(value) for key, value in data.items()})

    config = sections(yaml.safe_load(Path("configs/train_attentive_nas_models.yml").read_text()))
    return AttentiveNasDynamicModel(config.supernet_config)  # type: ignore[no-any-return]


def _configure_attentive_nas(net: Any, config: Mapping[str, Any]) -> Any:
    def values(kind: str, lists: Sequence[Sequence[int]]) -> list[int]:
        return [config.get(f"{kind}{number}", some[0]) for number, some in enumerate(lists)]

    widths, depths = values("width", net.width_list), values("depth", net.depth_list)
    kernels, expands = values("kernel", net.ks_list), values("expand", net.expand_ratio_list)
    net.set_active_subnet(config["resolution"], widths, depths, kernels, expands)
    side = config["resolution"]
    return net, torch.zeros(1, 3, side, side)


def _attach_attentive_nas(latency: LatencyLoss, net: Any, x: Tensor) -> None:
    lists = {"width": net.width_list, "depth": net.depth_list, "kernel": net.ks_list, "expand": net.expand_ratio_list}
    options = {f"{kind}{n}": some for kind, each in lists.items() for n, some in enumerate(each) if len(some) > 1}
    options["resolution"] = net.resolution_list
    latency.attach(net, x, choices=options_of(options, _configure_attentive_nas))


def _attentive_nas_deployed(net: Any, config: Mapping[str, Any]) -> nn.Module:
    _configure_attentive_nas(net, config)
    return net.get_active_subnet()  # type: ignore[no-any-return]


REPOSITORIES: dict[str, Repository] = {
    "quark0/darts": Repository("cnn", _darts, _plain, _darts_path, 32),
    "D-X-Y/AutoDL-Projects": Repository(".", _nb201, _plain, _nb201_deployed, 32),
    "AnnaAraslanova/FBNet": Repository(".", _fbnet, _attach_fbnet, _fbnet_path, 224),
    "mit-han-lab/once-for-all": Repository(".", _ofa, _attach_ofa, _ofa_deployed, 224),
    "microsoft/Cream": Repository("AutoFormer", _autoformer, _attach_autoformer, _autoformer_deployed, 224),
    "facebookresearch/AttentiveNAS": Repository(
        ".", _attentive_nas, _attach_attentive_nas, _attentive_nas_deployed, 224
    ),
}


def _try(name: str, folder: Path, table: str) -> str:
    """The line of one repository; its modules are imported into this process."""
    repository = REPOSITORIES[name]
    os.chdir(folder / name.replace("/", "+") / repository.path)
    sys.path.insert(0, str(Path.cwd()))
    for kind in (Tensor, nn.Module):
        kind.cuda = lambda self, *_, **__: self  # type: ignore[assignment, method-assign, misc] # as if there were a GPU
    sys.modules["torch._six"] = SimpleNamespace(container_abcs=abc, inf=math.inf)  # type: ignore[assignment] # of torch 1
    torch.manual_seed(0)
    generator = random.Random(0)  # noqa: S311 - which architectures are compared is no secret
    net = repository.make().eval()
    size = repository.size
    x = torch.randn(1, 3, size, size)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    seconds = []
    for _ in range(2):
        latency = LatencyLoss(table, on_missing="regress")
        start = time.process_time()
        repository.attach(latency, net, x)
        seconds.append(time.process_time() - start)
    unchanged = all(torch.equal(value, before[key]) for key, value in net.state_dict().items())
    estimator = LatencyEstimator(table, on_missing="regress")
    plan, differences = latency.plan, []
    for _ in range(_N_PRICED):
        picks = {
            choice: generator.randrange(len(names)) for choice, names in zip(plan.choices, plan.candidates, strict=True)
        }
        config = latency.config(picks) if latency.options else picks
        side = config.get("resolution", size)
        image = torch.zeros(1, 3, side, side)
        own = estimator.predict(repository.deployed(net, config).eval(), image).latency_ms
        differences.append(abs(plan.latency_ms(picks) / own - 1))
    exact = sum(difference <= 1e-9 for difference in differences)
    lines = len(inspect.getsource(repository.attach).splitlines()) - 1
    return (
        f"{name}: {len(plan.choices)} choices, {len(plan.terms)} terms; {lines} lines, {seconds[0]:.1f} s, then "
        f"{seconds[1]:.1f} s; {exact} of {_N_PRICED} as deployed (largest difference {max(differences):.2g}); "
        f"{'unchanged' if unchanged else 'CHANGED'}"
    )


def main() -> None:
    """Try each repository in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", default="SD865")
    parser.add_argument("--only", nargs="*", default=list(REPOSITORIES), help="names of repositories")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        logging.disable()
        print(_try(args.here, args.folder.resolve(), args.table))
        return
    for name in args.only:
        command = [sys.executable, __file__, str(args.folder), "--table", args.table, "--here", name]
        run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this file itself
        failed = run.stderr.strip().splitlines()[-1:] or ["no output"]
        print(run.stdout.strip() if run.returncode == 0 else f"{name}: {failed[0]}", flush=True)


if __name__ == "__main__":
    main()
