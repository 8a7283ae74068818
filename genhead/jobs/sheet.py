"""A contact sheet of synthesised subjects: persons by motions and cameras, rendered anew from the records."""

from pathlib import Path

import numpy as np
import torch

from flame.geometry.camera import Camera
from flame.heads.head_model import HeadParams
from genhead.generator import GenHeadGenerator
from genhead.synthesis.config import SynthesisConfig
from preprocess.dataset.synthetic.record import SyntheticFolder, SyntheticSubject
from preprocess.media.contact_sheet import contact_sheet
from preprocess.media.image import to_uint8

NUM_PERSONS, NUM_MOTIONS, NUM_CAMERAS = 4, 3, 3
_CELL_PX = 128


@torch.no_grad()
def write_sheet(generator: GenHeadGenerator, folder: str | Path, path: str | Path, config: SynthesisConfig) -> None:
    """A row a person; each motion from each camera. Whatever changes with the motion but the face is entangled.

    Args:
        generator: that the folder was made with.
        folder: of subjects; the first ones give persons, the motions of their last views, and cameras.
        path: the PNG.
        config: says the truncation.
    """
    subjects = SyntheticFolder(folder)
    first = [subjects[index] for index in range(min(NUM_PERSONS, len(subjects)))]
    motions, cameras = ([first[index % len(first)] for index in range(count)] for count in (NUM_MOTIONS, NUM_CAMERAS))
    views = [index % 3 for index in range(NUM_MOTIONS)]  # of a single subject, its three views
    like = generator.backbone.mapping.w_avg
    rows: list[list[np.ndarray]] = []
    for person in first:
        label = np.concatenate([person.condition, person.shape])
        latent = torch.from_numpy(person.latent)[None].to(like)
        volume = generator.sample(latent, torch.from_numpy(label)[None].to(like), psi=config.psi, cutoff=config.cutoff)
        row = []
        for number, motion in enumerate(motions):
            posed = generator.head.pose(_params(person, motion, views[number]).to(like.device, like.dtype))
            for place, other in enumerate(cameras):
                view = torch.from_numpy(other.label[views[place]])[None].to(like)
                camera = Camera.from_label25(view, axes="opengl")
                row.append(to_uint8(generator.render(volume, camera, posed).image)[0])
        rows.append(row)
    names = [
        f"motion {motion + 1}, camera {place + 1}" for motion in range(NUM_MOTIONS) for place in range(NUM_CAMERAS)
    ]
    contact_sheet(rows, path, [names] * len(rows), cell_height=_CELL_PX)


def _params(person: SyntheticSubject, motion: SyntheticSubject, view: int) -> HeadParams:
    expression, jaw, eyes = (
        torch.from_numpy(array[view : view + 1]) for array in (motion.expression, motion.jaw, motion.eyes)
    )
    return HeadParams(torch.from_numpy(person.shape)[None], expression, torch.zeros_like(jaw), jaw, eyes)
