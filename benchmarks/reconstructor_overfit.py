"""Whether the reconstructor can learn by heart: 4 people in 8 motions each, every pair of frames; PSNR over time.

    python benchmarks/reconstructor_overfit.py [--minutes 18]

The recipe is `configs/portrait4d/toy64.yaml`; the goal is 31 dB at 64 px in
20 minutes of two cores.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from material import table
from portrait4d.reconstructor.network import Reconstructor
from portrait4d.reconstructor.training.batches import Batches
from portrait4d.reconstructor.training.samples import ClipSamples
from portrait4d.reconstructor.training.task import ReconstructorTraining
from portrait4d.train.config_file import read_config_file
from portrait4d.train.trainer import Trainer
from preprocess.dataset.toy.build import build_toy_faces
from preprocess.dataset.toy.options import ToyOptions
from preprocess.media.image import to_uint8
from reconstructor_measures import psnr

PEOPLE, MOTIONS, SIDE = 4, 8, 64
REPORT_SECONDS = 60.0
CHANGES = ("train.batch_size=8", "train.average.half_life_images=500")


def main() -> None:
    """Trains and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=18.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        options = ToyOptions(num_identities=PEOPLE, pictures_per_identity=MOTIONS, size=SIDE, seed=40_000)
        build_toy_faces(folder, options)
        rows = train(folder, 60 * arguments.minutes)
    print(table(["images", "CPU seconds", "wall seconds", "whole dB", "foreground dB"], rows, digits=1))


def train(clips: Path, seconds: float) -> list[list[float]]:
    """Trains for so long; a row of measures each minute."""
    changes = [f"data.clips=[{clips}]", *CHANGES]
    config = read_config_file(ReconstructorTraining, "portrait4d/toy64", changes)
    task = config.make_task(torch.device("cpu"))
    task.network.train()
    trainer = Trainer(task, config.train, optimisers=config.optimisers())
    samples = ClipSamples([str(clips)], config.network, seed=0, is_rectified=False)
    began, used, rows = time.monotonic(), time.process_time(), []
    due = REPORT_SECONDS
    while time.monotonic() - began < seconds:
        trainer.step()
        if time.monotonic() - began >= due:
            rows.append(_row(trainer, samples, time.process_time() - used, time.monotonic() - began))
            print(rows[-1], flush=True)
            due += REPORT_SECONDS
    return [*rows, _row(trainer, samples, time.process_time() - used, time.monotonic() - began)]


def _row(trainer: Trainer, samples: ClipSamples, cpu: float, wall: float) -> list[float]:
    average = trainer.averages["reconstructor"].network
    assert isinstance(average, Reconstructor)
    return [trainer.images_seen, cpu, wall, *measure(average, samples)]


@torch.no_grad()
def measure(network: Reconstructor, samples: ClipSamples) -> tuple[float, float]:
    """PSNR of the whole pictures and of the people in them."""
    batches = Batches(None, None, has_maps=False, device=torch.device("cpu"))
    pairs = [
        samples.pair(person * MOTIONS + (motion + 1) % MOTIONS, person * MOTIONS + motion)
        for person in range(PEOPLE)
        for motion in range(MOTIONS)
    ]
    wanted = batches.wanted(pairs, [1.0] * len(pairs))
    source = network.encode(wanted.source, wanted.source_motion, motion_scale=wanted.motion_scale)
    planes = network.animate(source, wanted.driver_motion, motion_scale=wanted.motion_scale)
    made = to_uint8(network.render(planes, source, wanted.camera).image)
    true = np.stack([pair.image for pair in pairs])
    mask = np.stack([255 * pair.mask for pair in pairs])
    return psnr(made, true), psnr(made, true, mask)


if __name__ == "__main__":
    main()
