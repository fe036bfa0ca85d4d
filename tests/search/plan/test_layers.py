"""What layers depend on, found from few architectures of a large space whose kernels are written out."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

import pytest

from latency_nas.kernel import Kernel
from latency_nas.kernel.kernel_call import KernelCall
from latency_nas.search.plan.call_sizes import joined, split
from latency_nas.search.plan.pricing import make_plan
from latency_nas.search.plan.space import Space
from tests.supernets import MadeUp

RESOLUTIONS = (192, 224, 256, 288)
WIDTHS, DEPTHS, KERNELS, EXPANSIONS = (16, 24, 32), (1, 2, 3), (3, 5), (4, 5, 6)
N_STAGES = 7


def conv(layer: str, channels: tuple[int, int], size: tuple[int, int], kernel: int, group: int = 1) -> KernelCall:
    shapes = [(1, count, side, side) for count, side in zip(channels, size, strict=True)]
    stride = size[0] // size[1]
    attrs = {"kernel": (kernel, kernel), "stride": (stride, stride), "pad": (kernel // 2,) * 4, "dilation": (1, 1)}
    return KernelCall(
        kernel=Kernel.of("conv2d", shapes[:1], shapes[1:], **attrs, group=group, bias=1),
        layer=layer,
        nodes=(f"{layer}/conv2d",),
    )


def inverted_residuals(picked: Mapping[str, int]) -> list[KernelCall]:
    """The kernels of a space like AttentiveNAS's (arXiv 2011.09011): sizes depend on up to four choices."""
    side, c_in = RESOLUTIONS[picked["resolution"]] // 2, 16
    calls = [conv("stem", (3, c_in), (2 * side, side), 3)]
    for stage in range(N_STAGES):
        width, kernel = WIDTHS[picked[f"width{stage}"]], KERNELS[picked[f"kernel{stage}"]]
        for block in range(DEPTHS[picked[f"depth{stage}"]]):
            name, after = f"stages.{stage}.{block}", side // 2 if block == 0 and stage % 2 else side
            inner = c_in * EXPANSIONS[picked[f"expansion{stage}"]]
            calls += [
                conv(f"{name}.expand", (c_in, inner), (side, side), 1),
                conv(f"{name}.depthwise", (inner, inner), (side, after), kernel, group=inner),
                conv(f"{name}.project", (inner, width), (after, after), 1),
            ]
            side, c_in = after, width
    return calls


SPACE = Space(
    candidates={
        "resolution": tuple(map(str, RESOLUTIONS)),
        **{
            f"{what}{stage}": tuple(map(str, options))
            for stage in range(N_STAGES)
            for what, options in (
                ("width", WIDTHS), ("depth", DEPTHS), ("kernel", KERNELS), ("expansion", EXPANSIONS),
            )
        },
    },
    calls=inverted_residuals,
)  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_a_space_of_4_times_54_to_the_seventh_takes_at_most_150_configurations(seed: int) -> None:
    asked: list[Mapping[str, int]] = []

    def calls(architecture: Mapping[str, int]) -> list[KernelCall]:
        asked.append(architecture)
        return inverted_residuals(architecture)

    estimator = MadeUp()
    plan = make_plan(Space(candidates=SPACE.candidates, calls=calls), estimator, seed=seed)
    assert len(asked) <= 150
    random = Random(seed)
    for _ in range(100):
        architecture = {name: random.randrange(len(names)) for name, names in SPACE.candidates.items()}
        expected_ms = estimator.price(inverted_residuals(architecture)).value
        assert plan.cost(architecture) == pytest.approx(expected_ms, rel=1e-9)


def test_kernels_are_joined_as_they_were() -> None:
    random = Random(0)
    for _ in range(20):
        calls = inverted_residuals({name: random.randrange(len(names)) for name, names in SPACE.candidates.items()})
        for call, again in zip(calls, joined(*split(calls)), strict=True):
            assert call.kernel == again.kernel
    odd = KernelCall(
        kernel=Kernel.of("aten.elu", [(1, 8)], [(1, 8)], alpha=0.1, mode="exact"), layer="", nodes=(), n_params=7
    )
    assert joined(*split([odd])) == [odd]
