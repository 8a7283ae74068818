"""The work of `portrait4d fit-scene`: fits a scene to posed pictures, measures held-out views and renders a video."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch

from flame.errors import InputError
from portrait4d.jobs.scene_options import SceneOptions
from portrait4d.runtime.device import check_device
from portrait4d.runtime.streams import one_torch_thread
from portrait4d.scene.box import SceneBox
from portrait4d.scene.checkpoint import FitRecord, restore_checkpoint, save_checkpoint
from portrait4d.scene.evaluation import HeldOutRays, psnr, render_views, write_comparison
from portrait4d.scene.fitter import FitterConfig, SceneFitter
from portrait4d.scene.model import FittedScene, FittedSceneConfig
from portrait4d.scene.orbit import orbit_cameras
from portrait4d.scene.views import PosedViews, Scene, read_scene
from preprocess.files.atomic import atomic_path
from preprocess.files.file_check import check_not_input
from preprocess.media.image import to_uint8
from preprocess.media.video_writer import VideoWriter

Progress = Callable[[str, int, int | None], None]

COMPARISON, VIDEO, METRICS = "test_views.png", "orbit.mp4", "metrics.json"
_HISTORY_STEPS = 100
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
        history: see `FitRecord`.
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

    Args:
        data: folder of posed pictures, see `portrait4d.scene.labels`.
        output: folder for `scene.safetensors`, `config.json`, `test_views.png`, `orbit.mp4`, `metrics.json` and the
            checkpoint.
        options: see `SceneOptions`.
        progress: called with a stage, the number of steps done and the number of all steps.

    Raises:
        InputError: as `read_scene`; or the output holds a fit of other pictures or settings, or a damaged checkpoint.
    """
    options, output = options or SceneOptions(), Path(output)
    check_device(options.device)
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
    fitter = start_fitter(scene, options)
    job = _describe_job(scene, fitter)
    record = restore_checkpoint(output, fitter, job=job) or FitRecord()
    resumed_at = fitter.step_index
    _optimise(fitter, record, scene.test, output, job=job, options=options, progress=progress)
    fitter.scene.save(output)
    report = _conclude(fitter, record, scene, output, resumed_at=resumed_at, progress=progress)
    with atomic_path(output / METRICS) as temporary:
        temporary.write_text(json.dumps(asdict(report), indent=1))
    return report


def start_fitter(scene: Scene, options: SceneOptions) -> SceneFitter:
    """Makes a fitter at step 0, on the device of the options."""
    box = SceneBox.from_cameras(scene.train.camera, side=options.box)
    config = FittedSceneConfig(box.centre, box.side, scene.is_white, plane_resolution=options.planes)
    fitted = FittedScene(config, generator=torch.Generator().manual_seed(options.seed)).to(options.device)
    return SceneFitter(fitted, scene.train, FitterConfig(num_steps=options.steps, seed=options.seed))


def _optimise(
    fitter: SceneFitter,
    record: FitRecord,
    test: PosedViews,
    output: Path,
    *,
    job: dict[str, Any],
    options: SceneOptions,
    progress: Progress,
) -> None:
    """Takes all remaining steps; writes checkpoints and adds rows to the history at intervals."""
    held_out = HeldOutRays(fitter.scene, test)
    total, errors = fitter.config.num_steps, []
    wall, cpu = time.perf_counter(), time.process_time()
    saved = wall
    progress("fit", fitter.step_index, total)
    while fitter.step_index < total:
        errors.append(fitter.step())
        is_last = fitter.step_index == total
        if fitter.step_index % _HISTORY_STEPS == 0 or is_last:
            fitted = float(-10 * torch.log10(torch.tensor(errors).mean()))
            row = {"step": fitter.step_index, "fitted_psnr": fitted, "held_out_psnr": held_out.psnr(fitter.scene)}
            record.history.append({name: round(value, 3) for name, value in row.items()})
            errors = []
        now = time.perf_counter()
        if is_last or now - saved >= options.checkpoint_seconds:
            record.wall_seconds += now - wall
            record.cpu_seconds += time.process_time() - cpu
            wall, cpu = now, time.process_time()
            save_checkpoint(output, fitter, record, job=job)
            saved = time.perf_counter()
        progress("fit", fitter.step_index, total)


def _conclude(
    fitter: SceneFitter, record: FitRecord, scene: Scene, output: Path, *, resumed_at: int, progress: Progress
) -> SceneReport:
    """Renders the held-out views and the orbit, and makes the report."""
    test, rendered = scene.test, []
    for image in render_views(fitter.scene, test.camera, side=test.side):
        rendered.append(image)
        progress("evaluate", len(rendered), len(test))
    rendered = torch.cat(rendered)
    quality = psnr(rendered, test.images)
    write_comparison(output / COMPARISON, rendered, test)
    _write_orbit(output / VIDEO, fitter.scene, scene.train, progress)
    return SceneReport(
        output=str(output),
        psnr={name: round(float(value), 3) for name, value in zip(test.names, quality, strict=True)},
        mean_psnr=round(float(quality.mean()), 3),
        num_train=len(scene.train),
        num_steps=fitter.step_index,
        resumed_at=resumed_at,
        wall_seconds=round(record.wall_seconds, 1),
        cpu_seconds=round(record.cpu_seconds, 1),
        scene=asdict(fitter.scene.config),
        fitter=asdict(fitter.config),
        format=scene.format,
        notes=scene.notes,
        history=record.history,
    )


def _write_orbit(path: Path, scene: FittedScene, views: PosedViews, progress: Progress) -> None:
    cameras = orbit_cameras(views.camera, scene.config.box, num_frames=_VIDEO_FRAMES)
    with VideoWriter(path, height=views.side, width=views.side, frame_rate=_VIDEO_RATE) as writer:
        for index, image in enumerate(render_views(scene, cameras, side=views.side), start=1):
            writer.write(to_uint8(image)[0])
            progress("render", index, _VIDEO_FRAMES)


def _describe_job(scene: Scene, fitter: SceneFitter) -> dict[str, Any]:
    """What two runs must share for one to resume where the other stopped, as JSON values."""
    digest = hashlib.sha256()
    for tensor in (scene.train.images, scene.train.camera.cam2world, scene.train.camera.intrinsics):
        digest.update(tensor.contiguous().numpy().tobytes())
    job = {**asdict(fitter.scene.config), **asdict(fitter.config), "pictures": digest.hexdigest()[:16]}
    return json.loads(json.dumps(job))
