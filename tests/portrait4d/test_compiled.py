"""Where compiled loops stand in for torch, and where torch itself must compute."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from portrait4d.ops.compiled import can_compile, split_range
from portrait4d.ops.winograd import Convolution3x3
from portrait4d.render.planes import TriPlanes


def test_plain_float32_on_the_cpu_can_be_compiled() -> None:
    x = torch.zeros(2)
    with torch.no_grad():
        assert can_compile(x, x)
    with torch.inference_mode():
        assert can_compile(x)
    assert not can_compile(x)  # gradients might be wanted


@pytest.mark.parametrize(
    "other", [torch.zeros(2).double(), torch.zeros(2).bfloat16(), torch.zeros(2).half(), torch.zeros(2, device="meta")]
)
def test_other_devices_and_types_are_torchs(other: torch.Tensor) -> None:
    with torch.no_grad():
        assert not can_compile(other)
        assert not can_compile(torch.zeros(2), other)


def test_a_picture_of_another_device_is_convolved_and_planes_are_read_there() -> None:
    x = torch.zeros(1, 64, 32, 32, device="meta")
    planes = TriPlanes(torch.zeros(1, 3, 32, 8, 8, device="meta"), "eg3d")
    with torch.no_grad():
        assert Convolution3x3(64, 64).to("meta")(x).is_meta
        assert planes.sample(torch.zeros(1, 5, 3, device="meta")).is_meta


@pytest.mark.parametrize("context", [torch.enable_grad, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_gradients_and_autocast_are_torchs(context: Callable[[], AbstractContextManager]) -> None:
    layer, x = Convolution3x3(64, 64), torch.randn(1, 64, 32, 32)
    with torch.no_grad(), context():
        assert torch.equal(layer(x), F.conv2d(x, layer.weight, layer.bias, padding=1))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_what_is_exported_or_traced_is_torchs() -> None:
    layer, x = Convolution3x3(64, 64).requires_grad_(False), torch.randn(1, 64, 32, 32)
    expected = F.conv2d(x, layer.weight, layer.bias, padding=1)
    with torch.no_grad():
        assert not torch.equal(layer(x), expected)
        traced: Any = torch.jit.trace(layer, x, check_trace=False)
        assert torch.equal(traced(x), expected)
        assert torch.equal(torch.export.export(layer, (x,)).module()(x), expected)


def test_another_default_type_changes_nothing() -> None:
    layer, x = Convolution3x3(64, 64), torch.randn(1, 64, 32, 32)
    planes, points = TriPlanes(torch.randn(1, 3, 32, 8, 8), "eg3d"), torch.rand(1, 5, 3)
    with torch.no_grad():
        expected = layer(x), planes.sample(points)
        torch.set_default_dtype(torch.float64)
        try:
            found = layer(x), planes.sample(points)
        finally:
            torch.set_default_dtype(torch.float32)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_every_part_is_done_once(threads: int) -> None:
    done, before = np.zeros(7, int), torch.get_num_threads()

    def work(begin: int, stop: int) -> None:
        done[begin:stop] += 1

    torch.set_num_threads(threads)
    try:
        split_range(7, work)
    finally:
        torch.set_num_threads(before)
    assert (done == 1).all()
