"""Codes of persons: what pictures look like is in them, linearly, and they are spread as codes are drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from genhead.training.codes import person_codes
from genhead.training.heads import HeadDataConfig, HeadPicture, TrainingHeads
from portrait4d.headparts.head import PartHead
from preprocess.dataset.reading.flip import open_head_mirror
from toy_genhead import GENERATOR

SIDE, NUM_PERSONS, PICTURES = 32, 300, 2


class Discs:
    """Persons who are discs of one colour, somewhere before a background of another one on each side."""

    side = SIDE
    num_own = NUM_PERSONS * PICTURES

    def __init__(self, *, is_mirrored: bool = False) -> None:
        random = np.random.default_rng(0)
        self.colours = random.uniform(0, 255, (NUM_PERSONS, 3, 3))  # person, left, right
        self.places = random.uniform(-3, 3, (self.num_own, 2))
        self.person_names = [str(number) for number in range(NUM_PERSONS)]
        own = [number // PICTURES for number in range(self.num_own)]
        self.persons: Sequence[int] = own + [NUM_PERSONS + number for number in own] if is_mirrored else own

    def __len__(self) -> int:
        return len(self.persons)

    def __getitem__(self, row: int) -> HeadPicture:
        disc, left, right = self.colours[row // PICTURES]
        across, down = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
        centre = SIDE / 2 + self.places[row]
        mask = np.hypot(across - centre[0], down - centre[1])[..., None] < SIDE / 3
        image = np.where(mask, disc, np.where(across[..., None] < SIDE / 2, left, right))
        return HeadPicture(image.astype(np.uint8), 255 * mask[..., 0].astype(np.uint8), row)


def _codes(heads: Discs, size: int) -> NDArray[np.float32]:
    return person_codes(cast(TrainingHeads, heads), size).numpy()


def test_colours_are_linear_in_the_code() -> None:
    """Half of the persons tell how to read the colours of the others; codes of chance would tell nothing."""
    heads = Discs()
    codes = np.c_[_codes(heads, 12), np.ones(NUM_PERSONS)]
    colours = heads.colours.reshape(NUM_PERSONS, -1)
    reading, *_ = np.linalg.lstsq(codes[::2], colours[::2], rcond=None)
    unread = (codes[1::2] @ reading - colours[1::2]).var(0) / colours[1::2].var(0)
    assert unread.max() < 0.1, unread
    in_person, in_background = reading[:6].std(0), reading[6:12].std(0)
    assert (in_person[:3] > 10 * in_background[:3]).all() and (in_background[3:] > 10 * in_person[3:]).all()


def test_codes_spread_as_drawn_ones() -> None:
    codes = _codes(Discs(), 12)
    assert np.abs(codes.mean(0)).max() < 0.2 and np.abs(codes.std(0) - 1).max() < 0.15
    person = codes[:, :6]
    assert np.abs(np.corrcoef(person.T) - np.eye(6)).max() < 0.2


def test_a_mirrored_person_has_the_mirrored_background() -> None:
    """Three components tell the sum of both sides' colours and stay, three the difference and change their sign."""
    codes = _codes(Discs(is_mirrored=True), 12)
    slopes = np.sort((codes[:NUM_PERSONS, 6:] * codes[NUM_PERSONS:, 6:]).mean(0))
    assert np.allclose(slopes, [-1, -1, -1, 1, 1, 1], atol=0.05), slopes


def test_numbers_without_persons_are_drawn_by_name(toy_faces: Path, open_head: PartHead) -> None:
    """Ten persons have nine components of each kind at most; the rest does not depend on who else is there."""
    config = HeadDataConfig(paths=(str(toy_faces),))
    heads = TrainingHeads(config, generator=GENERATOR, head=open_head, mirror=open_head_mirror())
    codes = person_codes(heads, 64)
    assert codes.shape == (20, 64) and torch.equal(codes, person_codes(heads, 64))
    assert codes[:, 30:32].unique().numel() == codes[:, 62:].unique().numel() == 40
    assert not torch.allclose(codes[:10], codes[10:], atol=1e-2)
