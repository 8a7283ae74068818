"""GenHead learns the same where the generator's activations are computed again."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genhead.training.supervised import SupervisedConfig
from genhead.training.task import GenHeadTask
from kept_bytes import assert_recomputed_is_the_same
from portrait4d.headparts.head import PartHead
from portrait4d.train.task import Part, Step
from toy_genhead import BATCH, toy_genhead

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("phase", "share"), [("supervised", 0.3), ("generator", 0.3), ("density", 0.95)])
def test_genhead_learns_the_same(toy_faces: Path, open_head: PartHead, phase: str, share: float) -> None:
    start = SupervisedConfig(images=2 * BATCH if phase == "supervised" else BATCH)
    config = toy_genhead(toy_faces, supervised=start)
    recomputing = replace(config, train=replace(config.train, recompute=True))
    part = Part(Step(index=0, images_seen=BATCH, batch_size=BATCH, seed=1), (0, 1), torch.device("cpu"))
    plain, other = (GenHeadTask(each, head=open_head) for each in (config, recomputing))
    for task in (plain, other):
        torch.manual_seed(0)
        torch.nn.init.normal_(task.generator.decoder.get_parameter("out_sigma.weight"))  # flat density has no change
    assert_recomputed_is_the_same(plain, other, phase, part, share=share)
