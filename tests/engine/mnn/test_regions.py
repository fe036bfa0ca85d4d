"""Joined regions against a composition of the copies, element by element."""

from __future__ import annotations

import random

from latency_nas.engine.mnn.regions import Region, Tensor, box_regions, full, join


def copied(region: Region, source: list[int], size: int) -> list[int]:
    """What a region writes into a list of that size, from the elements of its origin."""
    made = [-1] * size
    for i in range(region.size[0]):
        for j in range(region.size[1]):
            for k in range(region.size[2]):
                read, write = (
                    at + sum(n * stride for n, stride in zip((i, j, k), strides, strict=True))
                    for at, strides in (
                        (region.read_at, region.read_strides), (region.write_at, region.write_strides)
                    )
                )  # fmt: skip
                made[write] = source[read]
    return made


def test_a_join_copies_what_both_copies_do() -> None:
    draw, joined = random.Random(0), 0
    for _ in range(3000):
        n, c, h, w = (draw.choice((1, 2, 3, 4)) for _ in range(4))
        origin, size = Tensor((n, c, h, w)), n * c * h * w
        (inner,) = draw.choice((
            [full(origin)],
            box_regions(origin, (c, n, h * w), (h * w, c * h * w, 1), (n * h * w, h * w, 1)),
            box_regions(origin, (n, h * w, c), (c * h * w, 1, h * w), (c * h * w, c, 1)),
            box_regions(origin, (n * c, w, h), (h * w, 1, w), (h * w, h, 1)),
        ))  # fmt: skip
        view = Tensor((size,), regions=[inner])
        first = draw.randrange(size)
        (outer,) = draw.choice((
            [full(view)],
            box_regions(view, (1, 1, size - first), (0, 0, 1), (0, 0, 1), read_at=first),
            box_regions(view, (n, h * w, c), (c * h * w, 1, h * w), (c * h * w, c, 1)),
            box_regions(view, (n, c, h), (c * h * w, h * w, w), (c * h, h, 1)),
        ))  # fmt: skip
        result = join(inner, outer)
        if result is not None:
            joined += 1
            source = list(range(size))
            assert copied(result, source, size) == copied(outer, copied(inner, source, size), size)
            assert result.origin is origin
    assert joined > 1000


def test_a_region_that_repeats_elements_joins_nothing() -> None:
    view = Tensor((4, 6), regions=box_regions(Tensor((1, 6)), (1, 4, 6), (0, 0, 1), (24, 6, 1)))
    assert view.regions is not None
    assert join(view.regions[0], full(view)) is None


def test_a_box_of_more_than_three_axes_is_several_regions() -> None:
    regions = box_regions(Tensor((2, 3, 4, 5)), (2, 3, 4, 5), (60, 20, 5, 1), (60, 20, 5, 1), read_at=7)
    assert [(region.read_at, region.write_at) for region in regions] == [(7, 0), (67, 60)]
    assert {region.size for region in regions} == {(3, 4, 5)}
