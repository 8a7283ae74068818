"""What the benchmark of the reconstructor's memory counts: storages that live, parts of a step, sizes of networks."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import nn

import reconstructor_memory
import training_memory
from live_memory import LiveMemory, drop_gradients, tensors_of
from loss_networks import FaceVectors, VggDistance
from part_times import STEP_PARTS, PartTimer, time_step
from portrait4d.reconstructor.network import Reconstructor
from reconstructor_parts import named_parts
from toy_reconstructor import DISCRIMINATOR, NETWORK, SIDE, make_subjects, toy_training, with_loss
from training_memory import measure_held, measure_phase

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_two_layers_keep_what_their_gradients_need(device: str) -> None:
    layers = nn.Sequential(nn.Linear(8, 32), nn.Sigmoid(), nn.Linear(32, 4)).to(device)
    x = torch.ones(5, 8, device=device)
    memory = LiveMemory([x, *tensors_of([layers])])
    with memory:
        hidden = layers[0](x)
        with memory.part("second"):
            result = layers[2](layers[1](hidden))
        del hidden
        assert memory.by_part() == {
            "second": 4 * (5 * 32 + 5 * 4)
        }  # of the first layer nothing: sigmoid keeps its result
        assert memory.peak == 4 * (5 * 32 + 5 * 32 + 5 * 4)
        loss = result.sum()
        del result
        loss.backward()
    assert memory.live == loss.nbytes + sum(value.nbytes for value in layers.parameters())  # gradients


def test_gradients_that_are_added_up_do_not_stay() -> None:
    layer = nn.Linear(64, 64, device="meta")
    drop_gradients(layer)
    x = torch.ones(2, 64, device="meta")
    memory = LiveMemory([x, *tensors_of([layer])])
    with memory:
        layer(x).sum().backward()
    assert memory.live == 0 and memory.peak >= layer.weight.nbytes


def test_a_view_and_what_is_given_are_not_counted() -> None:
    given = torch.ones(100)
    memory = LiveMemory([given])
    with memory:
        made = given.view(10, 10) + 1
        views = made[:5], given.view(5, 20), made.mT
    assert memory.live == made.nbytes and len(views) == 3


def test_networks_of_the_losses_have_their_published_sizes() -> None:
    """VGG-16's 13 convolutions, 14.7 million, with five weightings; ArcFace's 43.6 million."""
    with torch.device("meta"):
        vgg, faces = VggDistance(), FaceVectors()
    counts = [sum(value.numel() for value in network.parameters()) for network in (vgg, faces)]
    assert counts[0] == 14_714_688 + 1472
    assert counts[1] == pytest.approx(43.6e6, rel=0.01)


def test_the_networks_of_the_losses_compare() -> None:
    picture = torch.rand(2, 3, 32, 32, requires_grad=True)
    distance = VggDistance()
    assert torch.equal(distance(picture, picture), torch.zeros(2))
    distance(picture, torch.zeros(2, 3, 32, 32)).sum().backward()
    assert picture.grad is not None and picture.grad.isfinite().all()
    assert FaceVectors()(torch.rand(1, 3, 112, 112)).shape == (1, 512)


def test_a_sample_more_takes_as_much_again_and_recomputing_less() -> None:
    config = with_loss(toy_training(), region_weight=0.0)
    config = replace(config, train=replace(config.train, total_images=10**6))
    peaks = {
        (phase, batch): measure_phase(config, phase, batch=batch, size=SIDE // 2).peak
        for phase in get_args(training_memory.Phase)
        for batch in (2, 4, 8)
    }
    for phase in get_args(training_memory.Phase):
        first, second, third = (peaks[phase, batch] for batch in (2, 4, 8))
        assert third - second == pytest.approx(2 * (second - first), rel=0.05), phase
    recomputing = replace(config, train=replace(config.train, recompute=True))
    plain, less = (measure_phase(each, "reconstructor", batch=8, size=SIDE // 2) for each in (config, recomputing))
    assert set(reconstructor_memory.PARTS) < set(plain.kept)
    for name in ("transformers", "plane decoder", "rendering", "super-resolution"):
        assert less.kept.get(name, 0) < 0.5 * plain.kept[name], name
    assert less.peak < plain.peak


def test_what_is_held_follows_from_the_numbers_of_parameters() -> None:
    held = measure_held(toy_training(), batch_size=3)
    with torch.device("meta"):
        count, judge = (
            sum(value.numel() for value in network.parameters())
            for network in (Reconstructor(NETWORK), training_memory.DualDiscriminator(DISCRIMINATOR))
        )
    assert (held.weights, held.moments, held.average) == (4 * (count + judge), 8 * (count + judge), 4 * count)
    assert held.total == sum(vars(held).values())


def test_time_is_of_the_innermost_part() -> None:
    clock = iter([0.0, 1.0, 3.0, 7.0, 15.0, 31.0])
    timer = PartTimer(lambda: next(clock))
    with timer.part("losses"), timer.part("rendering"):
        pass
    assert timer.take() == {"rest": 1.0 + 16.0, "losses": 2.0 + 8.0, "rendering": 4.0}


def test_parts_are_entered_only_meanwhile() -> None:
    network, timer = Reconstructor(NETWORK), PartTimer()
    before = network.encoder_canonical.reenact
    with named_parts(network, timer.part):
        assert network.encoder_canonical.reenact != before
        network.encode(torch.zeros(1, 3, 32, 32), None, motion_scale=0.0)
    assert network.encoder_canonical.reenact == before
    assert {"encoders", "transformers", "plane decoder"} <= set(timer.take())


def test_a_step_is_told_apart(tmp_path) -> None:
    config = toy_training(subjects=make_subjects(tmp_path))
    found = time_step(config, steps=1)
    assert list(found) == list(STEP_PARTS) and all(value >= 0 for value in found.values())
    assert min(found["backward"], found["encoders"], found["losses"]) > 0
