"""The work of `portrait4d fit-scene`: fits a scene to posed pictures, measures held-out views and renders a video."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from flame.errors import InputError
from portrait4d.jobs.scene_options import SceneOptions
from portrait4d.runtime.device import check_device
from portrait4d.runtime.streams import one_torch_thread
from portrait4d.scene.box import SceneBox
from portrait4d.scene.evaluation import psnr, render_views, write_comparison
from portrait4d.scene.fitter import FitterConfig, SceneTask
from portrait4d.scene.model import FittedScene, FittedSceneConfig
from portrait4d.scene.orbit import orbit_cameras
from portrait4d.scene.views import PosedViews, Scene, read_scene
from portrait4d.train.config_file import plain_values
from portrait4d.train.run import RunReport, run_training
from portrait4d.train.run_folder import RunFolder
from portrait4d.train.trainer import Trainer
from preprocess.files.atomic import atomic_path
from preprocess.files.file_check import check_not_input
from preprocess.media.image import to_uint8
from preprocess.media.video_writer import VideoWriter

Progress = Callable[[str, int, int | None], None]

COMPARISON, VIDEO, METRICS = "test_views.png", "orbit.mp4", "metrics.json"
_VIDEO_FRAMES, _VIDEO_RATE = 48, Fraction(16)


@dataclass(frozen=True)
class SceneReport:
    """The result of a fit.

    Attributes:
        output: the folder of the results.
        psnr: PSNR of each held-out view in dB, by file name.
        mean_psnr: mean of `psnr`.
        num_train: number of views that were fitted.
        num_steps: number of the optimiser's steps.
        resumed_at: the step at which this run resumed; 0 if it started anew.
        wall_seconds: time of all steps over all runs.
        cpu_seconds: time of all threads for the same.
        scene: settings of the scene, see `FittedSceneConfig`.
        fitter: settings of the optimisation, see `FitterConfig`.
        format: format of the labels.
        notes: decisions made for the user, one sentence each.
        history: rows of step, PSNR of the rays fitted since the last row, PSNR of some held-out rays.
    """

    output: str
    psnr: dict[str, float]
    mean_psnr: float
    num_train: int
    num_steps: int
    resumed_at: int
    wall_seconds: float
    cpu_seconds: float
    scene: dict[str, Any]
    fitter: dict[str, Any]
    format: str
    notes: tuple[str, ...]
    history: list[dict[str, float]]


# Steps are small. On idle cores, a second thread reduces the time to 0.7 for 1.4 times the CPU seconds; on busy cores,
# both were 7 times as much.
@one_torch_thread()
def fit_scene(
    data: str | Path, output: str | Path, *, options: SceneOptions | None = None, progress: Progress | None = None
) -> SceneReport:
    """Fits a scene and writes it with its quality; resumes where an earlier run of the same job was stopped.

    SIGTERM and Ctrl-C save the fit and end it.

    Args:
        data: folder of posed pictures, see `portrait4d.scene.labels`.
        output: folder for `scene.safetensors`, `config.json`, `test_views.png`, `orbit.mp4`, `metrics.json` and the
            files of a training, see docs/training.md.
        options: see `SceneOptions`.
        progress: called with a stage, the number of steps done and the number of all steps.

    Raises:
        InputError: as `read_scene`; or the output holds a fit of other pictures or settings, a damaged checkpoint, or
            something else.
        KeyboardInterrupt: it was stopped by a signal.
    """
    options, output = options or SceneOptions(), Path(output)
    options = replace(options, device=check_device(options.device))
    progress = progress or (lambda stage, done, total: None)
    if output.is_file():
        raise InputError(f"expected a folder as output, got the file {output}: choose another name")
    check_not_input(output, data)
    scene = read_scene(
        data,
        scene_format=options.format,
        background=options.background,
        max_side=options.size,
        hold_out=options.hold_out,
    )
    task = make_task(scene, options)
    folder = RunFolder(output, _settings(task), data_digest=_digest(scene.train))
    trained = run_training(
        make_trainer(task, options), folder, stepped=lambda done: progress("fit", done, options.steps)
    )
    if not trained.is_finished:
        raise KeyboardInterrupt(f"{trained.images_seen} of {options.steps} steps are kept")
    task.scene.save(output)
    report = _conclude(task, scene, folder, trained, progress)
    with atomic_path(output / METRICS) as temporary:
        temporary.write_text(json.dumps(asdict(report), indent=1))
    return report


def make_task(scene: Scene, options: SceneOptions) -> SceneTask:
    """A scene at its start, on the device of the options, and its rays."""
    box = SceneBox.from_cameras(scene.train.camera, side=options.box)
    config = FittedSceneConfig(box.centre, box.side, scene.is_white, plane_resolution=options.planes)
    fitted = FittedScene(config, generator=torch.Generator().manual_seed(options.seed)).to(options.device)
    return SceneTask(fitted, scene, FitterConfig(num_steps=options.steps, seed=options.seed))


def make_trainer(task: SceneTask, options: SceneOptions) -> Trainer:
    """The loop at step 0."""
    config = task.config
    return Trainer(
        task,
        config.run(checkpoint_seconds=options.checkpoint_seconds),
        optimisers=config.optimisers(),
        device=options.device,
    )


def _conclude(task: SceneTask, scene: Scene, folder: RunFolder, trained: RunReport, progress: Progress) -> SceneReport:
    """Renders the held-out views and the orbit, and makes the report."""
    test, rendered = scene.test, []
    for image in render_views(task.scene, test.camera, side=test.side):
        rendered.append(image)
        progress("evaluate", len(rendered), len(test))
    rendered = torch.cat(rendered)
    quality = psnr(rendered, test.images)
    write_comparison(folder.path / COMPARISON, rendered, test)
    _write_orbit(folder.path / VIDEO, task.scene, scene.train, progress)
    return SceneReport(
        output=str(folder.path),
        psnr={name: round(float(value), 3) for name, value in zip(test.names, quality, strict=True)},
        mean_psnr=round(float(quality.mean()), 3),
        num_train=len(scene.train),
        num_steps=trained.images_seen,
        resumed_at=trained.resumed_at,
        wall_seconds=round(trained.seconds, 1),
        cpu_seconds=round(trained.cpu_seconds, 1),
        scene=asdict(task.scene.config),
        fitter=asdict(task.config),
        format=scene.format,
        notes=scene.notes,
        history=[_history_row(row) for row in folder.rows() if "held_out_psnr" in row],
    )


def _history_row(row: Mapping[str, Any]) -> dict[str, float]:
    return {
        "step": row["images"],
        "fitted_psnr": round(-10 * math.log10(row["fit/error"]), 3),
        "held_out_psnr": round(row["held_out_psnr"], 3),
    }


def _write_orbit(path: Path, scene: FittedScene, views: PosedViews, progress: Progress) -> None:
    cameras = orbit_cameras(views.camera, scene.config.box, num_frames=_VIDEO_FRAMES)
    with VideoWriter(path, height=views.side, width=views.side, frame_rate=_VIDEO_RATE) as writer:
        for index, image in enumerate(render_views(scene, cameras, side=views.side), start=1):
            writer.write(to_uint8(image)[0])
            progress("render", index, _VIDEO_FRAMES)


def _settings(task: SceneTask) -> dict[str, Any]:
    """What two runs must share for one to resume where the other stopped, beside the pictures."""
    return {"scene": plain_values(task.scene.config), "fitter": plain_values(task.config)}


def _digest(views: PosedViews) -> str:
    digest = hashlib.sha256()
    for tensor in (views.images, views.camera.cam2world, views.camera.intrinsics):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()
