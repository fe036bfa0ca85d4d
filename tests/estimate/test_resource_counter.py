"""Counts against torch's own, and none of them in milliseconds."""

from __future__ import annotations

import io
import math
import warnings

import onnx
import pytest
import torch
from onnx import parser
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from latency_nas import ResourceCounter
from latency_nas.errors import MissingKernelError, QuantityError, SearchError, TableError
from latency_nas.kernel import QUANTITIES
from latency_nas.report.text import breakdown_table, kernel_table, layer_costs
from tests.networks import Snippet
from tests.zoo import ZOO, densenet121, example_input

ENGINES = ("MNN", "Paddle-Lite")
READ_WHOLE = (
    "ConvNeXt-T",
    "GhostNet",
    "MobileNetV3-small",
    "ShuffleNetV2-1.0",
    "SSDLite",
    "U-Net with resize",
    "ViT-Ti/16",
)


def own(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


class Tied(nn.Module):
    """A language model's embedding, which is its head as well."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(1000, 64), nn.Linear(64, 1000, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.embedding(tokens))


class Tokens(nn.Module):
    """A class token, positions and a layer scale, none of which is a module's weight."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.positions = nn.Parameter(torch.rand(1, 1, 16)), nn.Parameter(torch.rand(1, 9, 16))
        self.scale, self.linear, self.norm = nn.Parameter(torch.rand(16)), nn.Linear(16, 16), nn.LayerNorm(16)
        self.register_buffer("mask", torch.rand(9, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.norm(x * self.mask + self.scale * self.linear(x))


class CrossAttention(nn.Module):
    """Queries from one tensor, keys and values from another: torch cuts its one weight into three."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        return self.attention(x, memory, memory)[0]


class Elastic(nn.Module):
    """The first channels of a convolution, twice, and fewer of them once more."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(16, 16, 5)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight[:8, : x.shape[1], 1:4, 1:4]
        y = functional.conv2d(functional.conv2d(x, weight, self.conv.bias[:8], padding=1)[:, :4], weight)
        return y[:, :4] + functional.conv2d(x, weight[:4], self.conv.bias[:4])


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.unread = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.linear(x).relu())


CASES: dict[str, tuple[nn.Module, tuple[Tensor, ...], int]] = {
    "a tied embedding": (Tied(), (torch.zeros(1, 8, dtype=torch.int64),), 64_000),
    "bare parameters": (Tokens(), (torch.zeros(2, 8, 16),), own(Tokens())),
    "one weight for three products": (CrossAttention(), (torch.zeros(1, 4, 16), torch.zeros(1, 5, 16)), 1088),
    "batch norms, one without weights": (
        nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8, affine=False), nn.ReLU(), nn.BatchNorm2d(8)),
        (torch.zeros(1, 3, 8, 8),),
        216 + 16,
    ),
    "a weight that is computed": (weight_norm(nn.Linear(8, 4)), (torch.zeros(1, 8),), 4 + 32 + 4),
    "parts of a weight": (Elastic(), (torch.zeros(1, 4, 8, 8),), 8 * 4 * 9 + 8),
    "a layer that runs twice": (Twice(), (torch.zeros(1, 8),), 72),
    "DenseNet121": (densenet121(), (torch.zeros(1, 3, 64, 64),), 7_978_856),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES)
def test_parameters_are_the_distinct_ones_that_are_read(case: str, engine: str) -> None:
    module, example, n_params = CASES[case]
    estimate = ResourceCounter("params", engine=engine).predict(module, example)
    assert estimate.value == n_params
    assert estimate.std == 0.0
    assert sum(layer_costs(estimate).values()) == n_params
    assert ResourceCounter("weight_bytes", engine=engine).predict(module, example).value == 4 * n_params


@pytest.mark.parametrize("name", READ_WHOLE)
def test_parameters_of_known_networks(name: str) -> None:
    network = ZOO[name][0]()
    assert ResourceCounter("params").predict(network, example_input(name)).value == own(network)


@pytest.mark.parametrize("name", ["ViT-Ti/16", "MLP-Mixer-S/16"])
def test_an_onnx_file_has_the_parameters_of_its_network(name: str) -> None:
    network = ZOO[name][0]()
    assert onnx_count(network, example_input(name)) == own(network)


def onnx_count(network: nn.Module, *example: Tensor) -> float:
    for parameter in network.parameters():  # the exporter makes one of equal tensors, and drops zeros
        nn.init.normal_(parameter)
    file = io.BytesIO()
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(network.eval(), example, file, dynamo=True, verbose=False)
    return ResourceCounter("params").predict(file.getvalue()).value


def test_an_onnx_file_with_a_tied_weight_and_bare_parameters() -> None:
    assert onnx_count(Tied(), CASES["a tied embedding"][1][0]) == 64_000
    with_mask = own(Tokens()) + 9 * 16  # in the file, a factor looks like a parameter
    assert onnx_count(Tokens(), torch.zeros(1, 8, 16)) == with_mask


def test_an_onnx_file_that_keeps_its_batch_norms() -> None:
    """Statistics are none; one number that is added or clipped by is none; a PReLU's one slope is."""
    model = parser.parse_model(
        """<ir_version: 9, opset_import: ["": 18]>
        g (float[1, 4, 8, 8] x) => (float[1, 4, 4, 4] y)
        <float[4, 4, 3, 3] w, float[4] scale = {1, 1, 1, 1}, float[4] shift = {0, 0, 0, 0},
         float[4] mean = {0, 0, 0, 0}, float[4] variance = {1, 1, 1, 1}, float half = {0.5}, float low = {0},
         float high = {6}, float[1] slope = {0.25}, float[4] scales = {1, 1, 0.5, 0.5}, int64[2] axes = {2, 3}> {
            a = Conv <pads = [1, 1, 1, 1]> (x, w)
            b = BatchNormalization (a, scale, shift, mean, variance)
            c = Clip (b, low, high)
            d = Mul (c, half)
            e = PRelu (d, slope)
            y = Resize <mode = "nearest"> (e, , scales)
        }"""
    )
    weight = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [4, 4, 3, 3], [0.0] * 144)
    model.graph.initializer.append(weight)
    assert ResourceCounter("params").predict(model).value == 144 + 8 + 1


def test_macs_and_bytes_that_are_kept() -> None:
    network, example = nn.Sequential(nn.Linear(8, 4), nn.ReLU()), torch.zeros(2, 8)
    assert ResourceCounter("macs").predict(network, example).value == 2 * 8 * 4
    kept = ResourceCounter("kept_bytes").predict(network, example)
    outputs = sum(math.prod(shape) for item in kept.kernels for shape in item.kernel.outputs)
    assert kept.value == 4 * (8 * 4 + 4 + outputs)


def test_a_count_has_no_milliseconds() -> None:
    estimate = ResourceCounter("params").predict(nn.Linear(8, 4), input_shape=(1, 8))
    assert str(estimate) == "36 params (3 kernels: 3 counted)"
    assert estimate.sources == {"counted": 3}
    assert estimate.coverage == 1.0
    assert estimate.quantity == QUANTITIES["parameters"]
    for priced in (estimate, estimate.kernels[0]):
        for name, instead in (("latency_ms", "value"), ("std_ms", "std")):
            with pytest.raises(QuantityError) as caught:
                getattr(priced, name)
            assert str(caught.value) == (
                f"Expected a latency where `{name}` is used, but got parameters in params: use `{instead}`."
            )


def test_tables_of_a_count_have_its_unit() -> None:
    estimate = ResourceCounter("params").predict(nn.Linear(8, 4), input_shape=(1, 8))
    kernels, layers = kernel_table(estimate), breakdown_table(estimate)
    assert [str(column.header) for column in kernels.columns][2:4] == ["params", "± params"]
    assert list(kernels.columns[2].cells) == ["0", "36", "0", "36"]
    assert list(kernels.columns[4].cells)[-1] == "100.0% counted"
    assert str(layers.columns[2].header) == "params"
    assert list(layers.columns[2].cells)[-1] == "36"


def test_an_unknown_resource_is_refused() -> None:
    with pytest.raises(SearchError) as caught:
        ResourceCounter("flops")
    assert str(caught.value) == (
        "Expected `resource` to be one of macs, params, weight_bytes, kept_bytes, but got 'flops'."
    )


@pytest.mark.parametrize(
    ("equation", "sizes", "expected"),
    [("bsd,dhk->bshk", (16, 4, 8), 2 * 5 * 16 * 32), ("bsd,dk->bsk", (16, 4), 2 * 5 * 16 * 4),
     ("bsd,bdk->bsk", (2, 16, 4), 2 * 5 * 16 * 4), ("bsd,d->bs", (16,), 2 * 5 * 16)],
)  # fmt: skip
def test_products_with_weights_of_any_rank(equation: str, sizes: tuple[int, ...], expected: int) -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.rand(sizes))

        def forward(self, x: Tensor) -> Tensor:
            return torch.einsum(equation, x, self.weight)

    assert ResourceCounter("macs").predict(Product(), torch.rand(2, 5, 16)).value == expected


def unknown() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 4), Snippet(lambda _, x: torch.linalg.inv(x.reshape(2, 2, 2))))


def test_multiplications_of_an_op_that_is_not_known_are_missing() -> None:
    with pytest.raises(MissingKernelError) as caught:
        ResourceCounter("macs").predict(unknown(), torch.zeros(2, 8))
    assert str(caught.value) == (
        "1 of 4 different kernels have no known count of macs: "
        "aten.linalg_inv_ex [2,2,2] -> [2,2,2] dtype=fp32 (layer `1`). "
        "Spell them by ops that are known, or pass on_missing='warn' to leave them out of the sum."
    )


def test_what_an_unknown_op_does_not_hide_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    estimate = ResourceCounter("macs", on_missing="warn").predict(unknown(), torch.zeros(2, 8))
    assert estimate.value == 2 * 8 * 4
    assert estimate.sources == {"counted": 3, "missing": 1}
    assert "aten.linalg_inv_ex" in caplog.text
    assert "left out of the sum" in caplog.text
    assert ResourceCounter("params").predict(unknown(), torch.zeros(2, 8)).value == 8 * 4 + 4


def test_a_count_is_never_regressed() -> None:
    with pytest.raises(TableError) as caught:
        ResourceCounter("macs", on_missing="regress")  # type: ignore[arg-type]
    assert str(caught.value) == "Expected `on_missing` of a count to be error or warn, but got 'regress'."
