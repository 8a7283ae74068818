"""The blocks that compute in half precision do so in the type that is asked for, and the others do not."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from portrait4d.eg3d.training import EG3DTask
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig, JudgedImages
from portrait4d.stylegan.half import HalfBlock, set_half_dtype
from portrait4d.stylegan.synthesis import SynthesisBlock, SynthesisNetwork
from portrait4d.train.config import Precision, RunConfig
from portrait4d.train.trainer import Trainer
from toy_eg3d import BATCH, make_discs, toy_training

pytestmark = pytest.mark.usefixtures("one_thread")


def _convolved(network: nn.Module) -> dict[str, torch.dtype]:
    """Filled when the network runs: the type of the features in each block."""
    found: dict[str, torch.dtype] = {}

    def note(name: str):
        return lambda module, arguments: found.__setitem__(name, arguments[0].dtype)

    for name, block in network.named_modules():
        if isinstance(block, HalfBlock):
            last = "torgb" if isinstance(block, SynthesisBlock) else "conv1"
            block.get_submodule(last).register_forward_pre_hook(note(name))
    return found


@pytest.mark.parametrize(("dtype", "on_a_cpu"), [(torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)])
def test_the_finest_blocks_take_the_type(dtype: torch.dtype, on_a_cpu: torch.dtype) -> None:
    torch.manual_seed(0)
    sizes = {"resolution": 16, "channel_base": 128, "channel_max": 8}
    network = SynthesisNetwork(style_dim=8, picture_channels=4, num_half_resolutions=1, clamp=256.0, **sizes)
    styles = torch.randn(2, network.num_styles, 8)
    exact = network(styles)
    set_half_dtype(network, dtype)
    found = _convolved(network)
    picture = network(styles)
    assert found == {"b4": torch.float32, "b8": torch.float32, "b16": on_a_cpu}
    assert picture.dtype == torch.float32
    assert torch.equal(picture, exact) == (on_a_cpu == torch.float32)
    assert (picture - exact).abs().max() < 0.03 * exact.std()
    set_half_dtype(network, None)
    assert torch.equal(network(styles), exact)


def test_gradients_of_gradients_in_bf16_are_near_those_in_fp32() -> None:
    torch.manual_seed(0)
    config = DualDiscriminatorConfig(resolution=32, channel_base=256, channel_max=16, num_half_resolutions=2)
    network = DualDiscriminator(config)
    raw, label = torch.randn(4, 3, 16, 16), torch.randn(4, 25)

    def penalty() -> Tensor:
        image = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
        logits = network(JudgedImages(image, raw), label)
        (gradient,) = torch.autograd.grad(logits.sum(), image, create_graph=True)
        (second,) = torch.autograd.grad(gradient.square().sum(), network.get_parameter("b32.conv0.weight"))
        return second

    exact = penalty()
    set_half_dtype(network, torch.bfloat16)
    found = _convolved(network)
    half = penalty()
    assert found == {"b32": torch.bfloat16, "b16": torch.bfloat16, "b8": torch.float32}
    assert half.dtype == torch.float32
    assert (half - exact).norm() < 0.05 * exact.norm()


@pytest.mark.slow
def test_a_training_computes_as_its_configuration_says(tmp_path: Path) -> None:
    data = make_discs(tmp_path / "discs.zip")
    types: dict[Precision, torch.dtype | None]
    types = {"bf16": torch.bfloat16, "fp16": torch.float16, "tf32": None, "fp32": None}
    for precision, expected in types.items():
        config = toy_training(data, train=RunConfig(precision=precision, batch_size=BATCH, grid_images=0))
        assert config.train.half_dtype == expected
        task = EG3DTask(config)
        finest = task.generator.get_submodule("superresolution.block1"), task.discriminator.get_submodule("b128")
        assert {block.half_dtype for block in finest} == {expected}
        if precision == "bf16":
            found = {name: _convolved(network) for name, network in task.networks.items()}
            report = Trainer(task, config.train, optimisers=config.optimisers()).step()
            assert report.num_bad == 0
            assert found["discriminator"]["b128"] == found["generator"]["superresolution.block1"] == torch.bfloat16
            assert found["discriminator"]["b8"] == found["generator"]["backbone.synthesis.b8"] == torch.float32
        task.samples.close()
