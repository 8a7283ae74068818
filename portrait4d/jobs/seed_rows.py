"""Pictures of a generator's heads by seed: one row of views each, with depth and raw pictures if asked for.

As in `batch`, a run can be killed and repeated: a seed is finished when its files exist and its record
(`records/seedN.json`, written last) has the key of the present network and options.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from portrait4d.jobs.eg3d.depth_pictures import depth_limits, depth_to_grey
from portrait4d.jobs.eg3d.options import SampleOptions
from portrait4d.reenactment.compose import beside
from portrait4d.runtime.progress import Progress, ignore_progress
from portrait4d.runtime.records import digest, file_facts, read_record, write_record
from portrait4d.weights.folder import embedded_weights, present_weights
from preprocess.files.atomic import atomic_path
from preprocess.media.image import read_image, to_uint8, write_png

_FORMAT = 1
"""Increased whenever results of an older program must not count as finished."""

_LONGEST_GRID_PX = 16384


@dataclass(frozen=True)
class SeedResult:
    """The files of a seed, which were `done` now or `kept` from an earlier run."""

    seed: int
    state: Literal["done", "kept"]
    files: tuple[str, ...]


@dataclass(frozen=True)
class SampleReport:
    """The results of all seeds in the order of the options, and the path of the grid if it was asked for."""

    results: tuple[SeedResult, ...]
    grid: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON-ready values."""
        return asdict(self)


class View(Protocol):
    """What a generator gives of one view, batch 1."""

    @property
    def image(self) -> Tensor:
        """`[1, 3, H, H]` in [-1, 1]."""
        ...

    @property
    def image_raw(self) -> Tensor:
        """`[1, 3, h, h]` before super-resolution."""
        ...

    @property
    def depth(self) -> Tensor:
        """`[1, 1, h, h]` in world units."""
        ...

    @property
    def alpha(self) -> Tensor:
        """`[1, 1, h, h]` opacity."""
        ...


RenderSeed = Callable[[int], Sequence[View]]


def write_seed_rows(
    folder: Path,
    load: Callable[[], RenderSeed],
    facts: Any,
    *,
    options: SampleOptions,
    progress: Progress = ignore_progress,
    on_result: Callable[[SeedResult], None] | None = None,
) -> SampleReport:
    """Writes `seedN.png` for every seed that is not finished, and `grid.png` if asked for.

    Args:
        folder: of the results.
        load: loads the network; called once, and only if there is something to do.
        facts: about the network and other inputs, JSON-ready; results of other facts are made again.
        options: seeds, views and kinds of pictures.
        progress: called after each seed.
        on_result: called with the result of each seed.
    """
    render: RenderSeed | None = None
    results = []
    seeds = tuple(dict.fromkeys(options.seeds))
    for done, seed in enumerate(seeds):
        progress("render", done, len(seeds))
        files = _file_names(folder, seed, options)
        record, key = folder / "records" / f"{_stem(seed)}.json", _key(facts, seed, options)
        state = "kept"
        if read_record(record).get("key") != key or not all(file.is_file() for file in files):
            state = "done"
            if render is None:
                render = load()
            _write_seed(render(seed), files[0], options)
            write_record(record, key, {"seed": seed, "files": [file.name for file in files]})
        results.append(SeedResult(seed, state, tuple(str(file) for file in files)))
        if on_result is not None:
            on_result(results[-1])
    progress("render", len(seeds), len(seeds))
    grid = _write_grid(folder, [Path(result.files[0]) for result in results]) if options.has_grid else None
    return SampleReport(tuple(results), grid)


def network_facts(network: str | Path) -> list[Any]:
    """Facts that change when the weights change; a name comes before a path, as in loading."""
    path = {**embedded_weights(), **present_weights()}.get(str(network), Path(network))
    return file_facts(path) if path.exists() else [str(network)]


def _write_seed(views: Sequence[View], picture: Path, options: SampleOptions) -> None:
    if options.has_raw:
        write_png(_beside(picture, "_raw.png"), beside(*(to_uint8(view.image_raw)[0] for view in views)))
    depth, alpha = (
        torch.cat(channel).float().cpu().numpy()[:, 0]
        for channel in ([view.depth for view in views], [view.alpha for view in views])
    )
    if options.has_depth:
        write_png(_beside(picture, "_depth.png"), beside(*depth_to_grey(depth, depth_limits(depth, alpha))))
    if options.has_depth_array:
        with atomic_path(_beside(picture, "_depth.npy")) as temporary:
            np.save(temporary, depth)
    write_png(picture, beside(*(to_uint8(view.image)[0] for view in views)))


def _write_grid(folder: Path, pictures: list[Path]) -> str:
    """Writes all rows below each other, scaled down together where the picture would be too large."""
    from PIL import Image

    first = read_image(pictures[0])
    height, width = first.shape[:2]
    scale = min(1.0, _LONGEST_GRID_PX / (height * len(pictures)), _LONGEST_GRID_PX / width)
    cell = max(1, int(width * scale)), max(1, int(height * scale))
    grid = np.empty((cell[1] * len(pictures), cell[0], 3), np.uint8)
    for row, picture in enumerate(pictures):
        image = Image.fromarray(read_image(picture))
        if image.size != cell:
            image = image.resize(cell, Image.Resampling.LANCZOS)
        grid[row * cell[1] : (row + 1) * cell[1]] = np.asarray(image)
    path = folder / "grid.png"
    write_png(path, grid)
    return str(path)


def _file_names(folder: Path, seed: int, options: SampleOptions) -> list[Path]:
    picture = folder / f"{_stem(seed)}.png"
    wanted = {
        "_raw.png": options.has_raw,
        "_depth.png": options.has_depth,
        "_depth.npy": options.has_depth_array,
    }
    return [picture, *(_beside(picture, ending) for ending, is_wanted in wanted.items() if is_wanted)]


def _beside(picture: Path, ending: str) -> Path:
    return picture.with_name(picture.stem + ending)


def _stem(seed: int) -> str:
    return f"seed{seed:04d}"


def _key(facts: Any, seed: int, options: SampleOptions) -> str:
    """A key that changes with the network and with every option that a seed's pictures depend on."""
    chosen = {name: value for name, value in asdict(options).items() if name not in ("seeds", "has_grid")}
    return digest({"network": facts, "seed": seed, "options": chosen, "format": _FORMAT})
