"""The reconstructor in bfloat16, as autocast runs it."""

import pytest
import torch

from flame.geometry.camera import Camera
from generated_weights import SMALL
from portrait4d.ops.resample import resize
from portrait4d.reconstructor.network import Reconstructor


@pytest.mark.long  # processors without bfloat16 emulate it
def test_a_frame_in_bfloat16_is_near_the_one_in_float32() -> None:
    torch.manual_seed(0)
    network = Reconstructor(SMALL).eval().requires_grad_(False)
    image, code = torch.rand(1, 3, 512, 512) * 2 - 1, torch.randn(1, 548)
    camera = Camera.orbit(torch.zeros(1), torch.zeros(1), radius=4.2, target=torch.zeros(3))
    found = []
    for is_half in (False, True):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=is_half):
            source = network.encode(image, code)
            planes = network.animate(source, code)
            assert (planes.features.dtype == torch.bfloat16) == is_half
            found.append((planes.features.float(), network.render(planes, source, camera).image.float()))
    for full, half in zip(*found, strict=True):
        assert 0 < (full - half).abs().mean() < 0.1 * full.std()


def test_half_types_are_resized_as_they_are() -> None:
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for dtype in (torch.bfloat16, torch.float16):
        small = resize(x.to(dtype), height=8, width=8)
        assert small.dtype == dtype
        torch.testing.assert_close(small.float(), resize(x.to(dtype).float(), height=8, width=8), rtol=0, atol=4e-3)
