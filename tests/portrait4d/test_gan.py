"""The discriminator, its losses and R1, by their mathematics."""

import math

import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from portrait4d.gan.adversarial import R1Weights, discriminator_loss, generator_loss, r1_gradients, r1_penalty
from portrait4d.gan.blur import blur
from portrait4d.gan.discriminator import DualDiscriminator, DualDiscriminatorConfig, JudgedImages
from portrait4d.stylegan.discriminator import DiscriminatorBlock, DiscriminatorEpilogue, append_batch_deviation

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = DualDiscriminatorConfig(
    resolution=8, condition_dim=3, channel_base=16, channel_max=4, num_mapping_layers=1, group_size=2
)
TINY_HEAD = DualDiscriminatorConfig(
    resolution=8,
    condition_dim=3,
    has_correspondence=True,
    has_mask=True,
    channel_base=16,
    channel_max=4,
    num_mapping_layers=1,
    group_size=2,
)


def _seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=_seeded(seed), dtype=torch.float64)


def _images(batch: int = 2, *, side: int = 8, raw_side: int = 4, is_head: bool = False) -> JudgedImages:
    image, raw = _draw(batch, 3, side, side), _draw(batch, 3, raw_side, raw_side, seed=1)
    if not is_head:
        return JudgedImages(image, raw)
    return JudgedImages(image, raw, _draw(batch, 3, side, side, seed=2), _draw(batch, 1, raw_side, raw_side, seed=3))


def _network(config: DualDiscriminatorConfig) -> DualDiscriminator:
    """Weights of unit effect everywhere, also in the mapping, in float64."""
    network = DualDiscriminator(config).double()
    with torch.no_grad():
        for index, (name, parameter) in enumerate(network.named_parameters()):
            scale = 100.0 if name.startswith("mapping.fc") else 1.0
            parameter.copy_(scale * _draw(*parameter.shape, seed=index))
    return network


# --- minibatch standard deviation ---------------------------------------------------------------


def test_batch_deviation_by_hand() -> None:
    x = _draw(6, 4, 2, 3)
    found = append_batch_deviation(x, group_size=3, num_channels=2)
    assert torch.equal(found[:, :4], x)
    for first in range(2):  # pictures first, first + 2, first + 4 are one group
        group = x[[first, first + 2, first + 4]]
        for part in range(2):
            deviations = [
                math.sqrt(float(((values - values.mean()) ** 2).mean()) + 1e-8)
                for values in group[:, 2 * part : 2 * part + 2].flatten(1).T
            ]
            expected = sum(deviations) / len(deviations)
            assert found[[first, first + 2, first + 4], 4 + part].sub(expected).abs().max() < 1e-12


def test_equal_pictures_do_not_deviate() -> None:
    x = _draw(1, 3, 4, 4).expand(4, -1, -1, -1)
    assert append_batch_deviation(x)[:, 3].allclose(torch.tensor(1e-4, dtype=x.dtype))
    one = x[:1].clone().requires_grad_()
    found = append_batch_deviation(one)
    assert found[:, 3].allclose(torch.tensor(1e-4, dtype=x.dtype))
    assert torch.autograd.grad(found[:, 3].sum(), one)[0].equal(torch.zeros_like(one))


def test_batch_deviation_says_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="multiple of the group of 4 .* got 6"):
        append_batch_deviation(_draw(6, 3, 4, 4), group_size=4)
    with pytest.raises(ValueError, match="3 channels"):
        append_batch_deviation(_draw(4, 3, 4, 4), num_channels=2)


# --- discriminator ------------------------------------------------------------------------------


def test_block_halves_and_keeps_variance() -> None:
    torch.manual_seed(0)
    block = DiscriminatorBlock(128, 128)
    x = torch.randn(8, 128, 1, 1, generator=_seeded()).expand(-1, -1, 16, 16)  # nothing for the FIR filter to take
    found = block(x).detach()
    assert found.shape == (8, 128, 8, 8)
    assert float(found[:, :, 2:-2, 2:-2].square().mean()) == pytest.approx(1.0, abs=0.15)


def test_epilogue_is_linear_in_the_condition() -> None:
    torch.manual_seed(0)
    epilogue = DiscriminatorEpilogue(4, condition_dim=5, group_size=2).double()
    x, first, second = _draw(2, 4, 4, 4), _draw(2, 5, seed=1), _draw(2, 5, seed=2)
    assert epilogue(x, first + second).allclose(epilogue(x, first) + epilogue(x, second))
    one = torch.zeros(2, 5, dtype=torch.float64)
    one[:, 3] = 1
    hidden = append_batch_deviation(x, group_size=2)
    expected = epilogue.out(epilogue.fc(epilogue.conv(hidden).flatten(1)))[:, 3:4] / math.sqrt(5)
    assert epilogue(x, one).allclose(expected)


@pytest.mark.parametrize("config", [TINY, TINY_HEAD])
def test_every_input_matters_and_groups_are_independent(config: DualDiscriminatorConfig) -> None:
    network, images, label = _network(config), _images(4, is_head=config.has_mask), _draw(4, 3, seed=4)
    logits = network(images, label)
    assert logits.shape == (4, 1)
    for gradient in r1_gradients(network, images, label).values():
        assert (gradient.abs().amax([1, 2, 3]) > 0).all()
    assert not network(images, label + 1).allclose(logits)
    # pictures 1 and 3 are a group of their own: they do not change the logits of 0 and 2
    others = JudgedImages(
        *(value * torch.tensor([1, 3, 1, 3])[:, None, None, None] for value in images.parts().values())
    )
    changed = network(others, label)
    assert changed[::2].allclose(logits[::2]) and not changed[1::2].allclose(logits[1::2])


def test_wrong_inputs_are_named() -> None:
    network, label = _network(TINY), _draw(2, 3)
    with pytest.raises(ValueError, match="expected images with image, image_raw; got .*mask"):
        network(_images(is_head=True), label)
    with pytest.raises(ValueError, match="expected images with .*correspondence, mask; got image, image_raw"):
        _network(TINY_HEAD)(_images(), label)
    with pytest.raises(ValueError, match=r"image must be \[2, 3, 8, 8\]"):
        network(_images(side=16), label)
    with pytest.raises(ValueError, match=r"image_raw must be \[2, 3, h, h\]"):
        network(JudgedImages(_draw(2, 3, 8, 8), _draw(2, 1, 4, 4)), label)
    with pytest.raises(ValueError, match="a camera for each of 2 images, got 3"):
        network(_images(), _draw(3, 3))


# --- second derivatives -------------------------------------------------------------------------


def _check_twice(function, *inputs: Tensor) -> None:
    inputs = tuple(value.requires_grad_() for value in inputs)
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def test_layers_can_be_differentiated_twice() -> None:
    torch.manual_seed(0)
    block = DiscriminatorBlock(2, 3, picture_channels=2).double()
    values = dict(block.named_parameters())
    _check_twice(
        lambda x, *weights: functional_call(block, dict(zip(values, weights, strict=True)), (x,)),
        _draw(1, 2, 4, 4),
        *(value.detach() for value in values.values()),
    )
    _check_twice(lambda x: append_batch_deviation(x, group_size=2), _draw(4, 2, 2, 2))
    epilogue = DiscriminatorEpilogue(2, condition_dim=3, group_size=2).double()
    _check_twice(epilogue, _draw(2, 2, 4, 4), _draw(2, 3, seed=1))
    _check_twice(lambda x: blur(x, 0.8), _draw(1, 1, 4, 4))


def test_logits_can_be_differentiated_twice() -> None:
    """Through concatenation and resizing, by every part."""
    network, label = _network(TINY_HEAD), _draw(2, 3, seed=4)
    parts = _images(raw_side=3, is_head=True).parts()
    _check_twice(lambda raw, mask: network(JudgedImages(parts["image"], raw, parts["correspondence"], mask), label),
                 parts["image_raw"], parts["mask"])  # fmt: skip


def test_r1_parameter_gradient() -> None:
    """The derivative of the penalty, itself made of derivatives, against differences."""
    network, images, label = _network(TINY_HEAD), _images(is_head=True), _draw(2, 3, seed=4)
    names = ["b8.fromrgb.weight", "b8.conv1.bias", "b8.skip.weight", "mapping.embed.weight", "b4.out.weight"]

    def penalty(*values: Tensor) -> Tensor:
        chosen = dict(zip(names, values, strict=True))
        return r1_penalty(lambda *given: functional_call(network, chosen, given), images, label)

    values = tuple(network.get_parameter(name).detach().requires_grad_() for name in names)
    assert torch.autograd.gradcheck(penalty, values)
    gradients = torch.autograd.grad(penalty(*values).sum(), values)
    assert all(gradient.abs().max() > 0 for gradient in gradients)


# --- losses -------------------------------------------------------------------------------------


def test_losses_are_logarithms_of_probabilities() -> None:
    real, fake = _draw(5, 1), _draw(4, 1, seed=1)
    assert generator_loss(fake).allclose(-fake.sigmoid().log().mean())
    expected = -real.sigmoid().log().mean() - (1 - fake.sigmoid()).log().mean()
    assert discriminator_loss(real, fake).allclose(expected)
    assert float(generator_loss(torch.tensor([-1e4]))) == 1e4  # no overflow, and no vanishing gradient


def test_r1_of_a_linear_discriminator() -> None:
    """Its gradient is its weights, whatever the images."""
    images = _images(3, is_head=True)
    weights = {
        name: _draw(*value.shape[1:], seed=10 + index) for index, (name, value) in enumerate(images.parts().items())
    }

    def linear(images: JudgedImages, condition: object) -> Tensor:
        logits = ((value * weights[name]).sum([1, 2, 3]) for name, value in images.parts().items())
        return sum(logits, start=torch.zeros(()))[:, None]

    squares = {name: float(value.square().sum()) for name, value in weights.items()}
    expected = (
        1 / 2 * (squares["image"] + squares["image_raw"]) + 10 / 2 * squares["correspondence"] + squares["mask"] / 2
    )
    found = r1_penalty(linear, images, _draw(3, 3))
    assert found.allclose(torch.full((3,), expected, dtype=torch.float64))
    found = r1_penalty(linear, images, _draw(3, 3), weights=R1Weights(image=0.3, correspondence=0.0, mask=4.0))
    expected = 0.15 * (squares["image"] + squares["image_raw"]) + 2 * squares["mask"]
    assert found.allclose(torch.full((3,), expected, dtype=torch.float64))


def test_r1_of_a_quadratic_discriminator() -> None:
    """D = a/2 |x|^2: penalty a^2/2 |x|^2, its derivative in a is a |x|^2; and none reaches the images."""
    images, scale = _images(), torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    images.image.requires_grad_()
    square = images.image.detach().square().sum([1, 2, 3]) + images.image_raw.square().sum([1, 2, 3])

    def quadratic(images: JudgedImages, condition: object) -> Tensor:
        squares = (value.square().sum([1, 2, 3]) for value in images.parts().values())
        return scale / 2 * sum(squares, start=torch.zeros(()))[:, None]

    penalty = r1_penalty(quadratic, images, _draw(2, 3))
    assert penalty.allclose(scale.detach() ** 2 / 2 * square)
    penalty.sum().backward()
    assert scale.grad is not None and scale.grad.allclose(scale.detach() * square.sum())
    assert images.image.grad is None
