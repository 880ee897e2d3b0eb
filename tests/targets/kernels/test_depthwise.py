"""Depthwise convolution: strides, borders, odd channel counts."""

from __future__ import annotations

import numpy as np
import pytest

from targets.kernels.conv2d import conv2d
from targets.kernels.registry import Call

from .kernel_case import ISAS, leaf
from .test_conv import check


@pytest.mark.parametrize("target", ISAS)
@pytest.mark.parametrize(
    "case",
    [
        dict(shape=(1, 30, 30, 16), kernel=(3, 3), pads=(1, 1, 1, 1), residual=True),
        dict(shape=(2, 14, 14, 24), kernel=(3, 3), strides=(2, 2), pads=(0, 0, 1, 1)),
        dict(shape=(1, 7, 7, 67), kernel=(5, 5), pads=(2, 2, 2, 2)),
        dict(shape=(1, 9, 33, 3), kernel=(5, 5), strides=(2, 2), pads=(2, 2, 2, 2)),
        dict(shape=(2, 17, 15, 40), kernel=(3, 3), strides=(2, 1), pads=(1, 0, 1, 3), dilations=(2, 3)),
        dict(shape=(1, 1, 60, 8), kernel=(1, 9), pads=(0, 8, 0, 0)),
        dict(shape=(1, 2, 2, 5), kernel=(3, 3), pads=(1, 1, 1, 1)),
        dict(shape=(1, 8, 3, 2), kernel=(7, 7), pads=(3, 3, 3, 3)),
    ],
    ids=lambda c: "x".join(map(str, c["shape"])),
)
def test_depthwise(target, case: dict) -> None:
    channels = case["shape"][3]
    check(target, out=channels, group=channels, **case)


@pytest.mark.parametrize("target", ISAS)
def test_every_plan_of_the_space_gives_the_same(target) -> None:
    shape = (1, 10, 9, 20)
    x, w = leaf(np.zeros(shape, np.float32), "x"), leaf(np.zeros((20, 1, 3, 3), np.float32), "w", constant=True)
    attrs = {"pads": [1, 1, 1, 1], "group": 20}
    configs = conv2d.space(Call("edgert.Conv2d", attrs, [x, w], [x], x, [x]), target)
    assert len(configs) >= 6 and all(set(c) == {"pixels", "rows", "vectors"} for c in configs)
    for config in configs[:: len(configs) // 3]:
        check(target, shape, out=20, kernel=(3, 3), pads=(1, 1, 1, 1), group=20, config=config)
