"""Latent codes of the persons in the data: persons who look alike have codes that are alike.

A code drawn at random says nothing about a person, so that a network can only learn it by heart. Principal components
of pictures, where Bojanowski et al. 2018 (Optimizing the Latent Space of Generative Networks, section 3) start codes
that they learn, tell the colours of skin, hair and background, and codes between two persons become heads between them.
"""

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from genhead.training.heads import TrainingHeads
from portrait4d.runtime.random import PerSample, derive_seed

_SIDE = 8
"""Pictures are compared in so many cells a side."""

_SEEN = 0.25
"""Share of a cell, added up over a person's pictures, from which its colour is known."""

_LEAST = 1e-4
"""Components that spread less, as a share of the first, are noise."""


def person_codes(heads: TrainingHeads, size: int) -> torch.Tensor:
    """A code for each person of the data, with mean zero and variance one over them, as codes are drawn.

    Half of the numbers are of the person, the others of the background; each half holds principal components of the
    mean colours of cells. Numbers that there are too few persons for are drawn at random, by the person's name.

    Args:
        heads: the pictures; all are read once.
        size: numbers of a code.

    Returns:
        `[P, size]`, P as in `heads.persons`; a mirrored person is another one.
    """
    cells = _cell_colours(heads)
    names = [f"{name}/{side}" for side in ("own", "mirrored") for name in heads.person_names][: len(cells)]
    codes = PerSample([derive_seed("person", name) for name in names]).normal((len(names), size), torch.zeros(()))
    half = size // 2
    for layer, numbers in ((0, slice(0, half)), (1, slice(half, size))):
        found = _components(_filled(cells[:, layer]), count=numbers.stop - numbers.start)
        codes[:, numbers.start : numbers.start + found.shape[1]] = torch.from_numpy(found)
    return codes


def _cell_colours(heads: TrainingHeads) -> NDArray[np.float64]:
    """Sums over each person's pictures, `[P, 2, cells, cells, 4]`: person and background; colour and share."""
    reader, shape = copy.copy(heads), (_SIDE, heads.side // _SIDE, _SIDE, heads.side // _SIDE, 4)
    sums = np.zeros((len(heads.person_names), 2, _SIDE, _SIDE, 4))
    for row in range(heads.num_own):
        picture = reader[row]
        colour = np.concatenate([picture.image / 255.0, np.ones((*picture.mask.shape, 1))], -1)
        mask = picture.mask[..., None] / 255.0
        for layer, share in enumerate((mask, 1 - mask)):
            sums[heads.persons[row], layer] += (share * colour).reshape(shape).mean((1, 3))
    return sums if len(heads) == heads.num_own else np.concatenate([sums, sums[:, :, :, ::-1]])


def _filled(cells: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours `[P, cells * cells * 3]` of sums; where a person shows none, as others differ there from their mean."""
    colour, share = cells[..., :3], cells[..., 3:]
    mean = colour.sum((1, 2), keepdims=True) / np.maximum(share.sum((1, 2), keepdims=True), 1e-6)
    is_seen = share > _SEEN
    own = np.where(is_seen, colour / np.maximum(share, 1e-6) - mean, 0.0)
    usual = own.sum(0) / np.maximum(is_seen.sum(0), 1)
    return (np.where(is_seen, own, usual) + mean).reshape(len(cells), -1)


def _components(values: NDArray[np.float64], *, count: int) -> NDArray[np.float32]:
    """The first principal components `[P, count or fewer]` of `[P, F]`, each with variance one."""
    values = values - values.mean(0)
    variances, directions = np.linalg.eigh(values.T @ values / len(values))
    kept = np.argsort(-variances)[:count]
    kept = kept[variances[kept] > _LEAST**2 * max(variances[-1], 1e-12)]
    directions = directions[:, kept]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(0)[None], 0)
    return (values @ (directions * np.sign(largest)) / np.sqrt(variances[kept])).astype(np.float32)
