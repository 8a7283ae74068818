"""How good results are: zero motion, what `portrait4d evaluate` says, self-reenactment beside two baselines, identity.

python benchmarks/quality.py [--quick] [--clips d01 d02] [--mode absolute] [--publish]
"""

import argparse
from typing import Any, Literal

import numpy as np
import torch

from material import conclude, find, measure, output_folder, table
from portrait4d.evaluation.pictures import psnr
from portrait4d.jobs.evaluation.items import EvaluationItem
from portrait4d.jobs.evaluation.options import EvaluateOptions
from portrait4d.jobs.evaluation.report import Report
from portrait4d.jobs.evaluation.run import evaluate
from portrait4d.jobs.evaluation.tables import definitions_text, results_table
from portrait4d.options import ReenactOptions
from portrait4d.pipeline import Models, build_source, load_models
from preprocess.faces.landmarker import FaceLandmarker
from preprocess.media.contact_sheet import contact_sheet
from preprocess.media.image import write_png
from self_reenactment import (
    Clip,
    drive_of,
    face_mask,
    face_psnr,
    landmark_errors,
    load_clip,
    measure_landmarks,
    render,
    render_plain_mesh,
)

SOURCES = [  # photos, paintings, a statue
    "s01", "s02", "s03", "s05", "s06", "s07", "s09", "s10", "s12", "s13", "s16", "s17", "s18", "s19", "s21", "s22",
]  # fmt: skip
CLIPS = ["d01", "d02", "d03", "d04", "d05", "d06", "d08", "d10"]
CROSS = (("s02", "d01"), ("s01", "d02"), ("p4d_open_03", "d10"), ("s16", "d06"), ("s09", "d03"), ("s21", "d08"))
VARIANTS = ("photo", "mesh", "lift")

GOALS = """Goals: zero motion at least 45 dB; landmark error at most 0.02. Prototype, absolute mode: landmark .011-.034,
eye .016-.051, mouth .004-.042, gaze .008-.063, face 19.8-30.5 dB, frame 17.4-27.8 dB."""


def zero_motion(models: Models, sources: list[str]) -> list[dict[str, Any]]:
    """PSNR of each source driven by itself against its own crop, per mode."""
    rows = []
    for name in sources:
        ready = build_source(find(name), models=models)
        assert ready.picture is not None
        wanted = ready.avatar.crop.apply(ready.picture)
        row: dict[str, Any] = {"source": name}
        for mode in ("relative", "absolute"):
            drive = drive_of(ready.avatar.motion, ready.avatar, models, options=ReenactOptions(mode=mode))
            got = next(render(ready.avatar, drive, [0], models))
            row[mode] = psnr(got, wanted)
            row[f"{mode}_largest"] = int(np.abs(got.astype(int) - wanted.astype(int)).max())
            if mode == "relative":
                write_png(output_folder("quality") / f"zero_{name}.png", np.concatenate([wanted, got], axis=1))
        print(f"zero motion {name}: {row['relative']:.1f} dB, {row['absolute']:.1f} dB")
        rows.append(row)
    return rows


def reenact_clip(clip: Clip, models: Models, landmarker: FaceLandmarker, options: ReenactOptions) -> dict[str, Any]:
    """Renders the clip in every variant, keeps the frames as PNG, and measures what needs no foreign network."""
    name = clip.path.stem
    avatar = models.engine.build([clip.source])
    drive = drive_of(clip.motion, avatar, models, options=options)
    truth = [clip.truth[index] for index in clip.spread]
    images = {
        "photo": [clip.truth[0]] * len(truth),
        "mesh": list(render_plain_mesh(avatar, clip.source, drive, clip.spread)),
        "lift": list(render(avatar, drive, clip.spread, models)),
    }
    run = list(render(avatar, drive, clip.run, models))
    regions = clip.motion.landmarks[clip.spread]
    wanted = measure_landmarks(landmarker, truth, regions)
    rows: dict[str, Any] = {}
    for variant, frames in images.items():
        rows[variant] = landmark_errors(wanted, measure_landmarks(landmarker, frames, regions))
        masks = [face_mask(points, clip.crop.size) for points in wanted]
        rows[variant]["face_psnr"] = float(
            np.mean([face_psnr(*item) for item in zip(frames, truth, masks, strict=True)])
        )
        rows[variant]["frame_psnr"] = float(np.mean([psnr(*item) for item in zip(frames, truth, strict=True)]))
    job = keep_frames(name, clip, truth, images, run)
    sheet = np.unique(np.linspace(0, len(truth) - 1, 6).round().astype(int))
    contact_sheet(
        [[clip.truth[0], *(part[index] for index in sheet)] for part in (truth, images["lift"], images["mesh"])],
        output_folder("quality") / f"self_{name}.png",
        [f"{name}: truth (first: the source)", "result", "plain mesh over the photo"],
        cell_height=256,
    )
    return {"clip": name, "rows": rows, "job": job}


def keep_frames(name: str, clip: Clip, truth: list, images: dict[str, list], run: list) -> dict[str, Any]:
    """Writes the frames to a folder of that name and returns this clip's part of the measuring job."""
    folder = output_folder("quality") / "frames" / name
    folder.mkdir(parents=True, exist_ok=True)

    def keep(part: str, frames: list) -> list[str]:
        paths = [folder / f"{part}_{index:03d}.png" for index in range(len(frames))]
        for path, frame in zip(paths, frames, strict=True):
            write_png(path, frame)
        return [str(path) for path in paths]

    return {
        "source": keep("source", [clip.truth[0]])[0],
        "frame_rate": float(clip.motion.frame_rate),
        "truth": keep("truth", truth),
        "variants": {variant: keep(variant, frames) for variant, frames in images.items()},
        "truth_run": keep("truth_run", [clip.truth[index] for index in clip.run]),
        "runs": {"lift": keep("lift_run", run)},
    }


def cross_reenact(models: Models, pairs: list[tuple[str, str]], num_frames: int) -> dict[str, Any]:
    """Results of other people's motion, as a measuring job."""
    jobs = {}
    for source_name, driver_name in pairs:
        path = find(driver_name)
        clip = load_clip(path, models, max_seconds=4.0, num_spread=num_frames, num_run=0)
        ready = build_source(find(source_name), models=models)
        assert ready.picture is not None
        drive = drive_of(clip.motion, ready.avatar, models, options=ReenactOptions())
        results = list(render(ready.avatar, drive, clip.spread, models))
        name = f"{source_name}-{driver_name}"
        shown = ready.avatar.crop.apply(ready.picture)
        jobs[name] = keep_frames(name, clip, [clip.truth[index] for index in clip.spread], {"lift": results}, [])
        source = output_folder("quality") / "frames" / f"{name}.png"
        write_png(source, shown)
        jobs[name]["source"] = str(source)
    return jobs


def zero_table(rows: list[dict[str, Any]]) -> str:
    """The zero-motion table with its worst case first."""
    worst = {mode: min(row[mode] for row in rows) for mode in ("relative", "absolute")}
    return table(
        ["source", "relative, dB", "largest error", "absolute, dB", "largest error"],
        [["worst", worst["relative"], None, worst["absolute"], None]]
        + [[row["source"], row["relative"], row["relative_largest"], row["absolute"], row["absolute_largest"]]
           for row in rows],
        digits=1,
    )  # fmt: skip


COLUMNS = {
    "landmark": "landmark",
    "landmark_mediapipe": "landmark (MediaPipe)",
    "eye": "eye",
    "mouth": "mouth",
    "gaze": "gaze",
    "face_psnr": "face dB",
    "frame_psnr": "frame dB",
    "identity": "identity",
    "expression_distance": "expression",
    "corr_mouth": "mouth r",
    "corr_blink": "blink r",
    "corr_yaw": "yaw r",
    "jitter_hf": "jitter",
    "driver_hf": "driver's",
}


def self_table(results: list[dict[str, Any]]) -> str:
    """One row per clip and variant, and the means over clips."""
    rows = [
        [result["clip"][:3], variant, *(result["rows"][variant].get(key) for key in COLUMNS)]
        for result in results
        for variant in VARIANTS
    ]
    for variant in VARIANTS:
        parts = [result["rows"][variant] for result in results]
        means = [_mean([part.get(key) for part in parts]) for key in COLUMNS]
        rows.append(["mean", variant, *means])
    return table(["clip", "variant", *COLUMNS.values()], rows)


def _mean(values: list) -> float | None:
    present = [value for value in values if value is not None and value == value]
    return float(np.mean(present)) if present else None


EXPLAINED = """`photo` is the unmoved source, `mesh` the head model's face textured with the photo and drawn over it,
`lift` the result. `landmark`: distance of 468 points by our tracker, and by MediaPipe itself, over the outer-eye
distance; `mouth` opening in the same unit; `eye` opening and `gaze` in eye widths; dB against the true frames, within
the face and over the whole crop; `identity`: probability of the same person; `expression`: distance of 52 coefficients;
r: correlation with the driver over time; `jitter`: high-frequency residue of the head's path in 1/1000 of the outer-eye
distance, beside the driver's own."""


def reenact_clips(names: list[str], models: Models, options: ReenactOptions) -> list[dict[str, Any]]:
    """Self-reenactment of every clip."""
    landmarker, results = FaceLandmarker(), []
    for name in names:
        clip = load_clip(find(name), models, max_seconds=6.0, num_spread=25, num_run=30)
        results.append(reenact_clip(clip, models, landmarker, options))
        print(name, {key: round(value, 4) for key, value in results[-1]["rows"]["lift"].items()})
    return results


def evaluate_clips(names: list[str], models: Models, mode: Literal["absolute", "relative"]) -> Report:
    """What `portrait4d evaluate` says of the first two seconds of every clip."""
    options = ReenactOptions(mode=mode, yaw_limit=None, duration=2.0, device=models.device)
    items = [EvaluationItem(name, find(name)) for name in names]
    folder = output_folder("quality") / "evaluate"
    return evaluate(items, folder, options=EvaluateOptions(reenact=options), models=models)


def add_measures(result: dict[str, Any], measured: dict[str, Any]) -> None:
    """Puts what the foreign networks say into a clip's rows, in place."""
    if result["clip"] not in measured:
        return
    answers = measured[result["clip"]]
    for variant in VARIANTS:
        result["rows"][variant] |= answers[variant]
        result["rows"][variant]["driver_hf"] = answers["driver"].get("jitter_hf")


def main() -> None:
    """Runs all parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two clips, four sources")
    parser.add_argument("--clips", nargs="+", default=None)
    parser.add_argument("--mode", choices=("absolute", "relative"), default="absolute")
    parser.add_argument("--skip", nargs="*", default=[], choices=("zero", "evaluate", "self", "cross"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--publish", action="store_true", help="rewrite its page in docs/results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    models = load_models(ReenactOptions(device=arguments.device))
    data: dict[str, Any] = {"mode": arguments.mode}
    text = ["## Quality", GOALS]
    if "zero" not in arguments.skip:
        data["zero"] = zero_motion(models, list(SOURCES[:4] if arguments.quick else SOURCES))
        text += ["### Zero motion: a source that drives itself, against its own crop", zero_table(data["zero"])]
    results = []
    clips = arguments.clips or (CLIPS[:2] if arguments.quick else CLIPS)
    if "evaluate" not in arguments.skip:
        report = evaluate_clips(list(clips), models, arguments.mode)
        data["evaluate"] = report.to_dict()
        text += [results_table(report.results, "self"), definitions_text(["self"])]
    if "self" not in arguments.skip:
        options = ReenactOptions(mode=arguments.mode, yaw_limit=None, device=arguments.device)
        results = reenact_clips(list(clips), models, options)
    pairs = list(CROSS[:1] if arguments.quick else CROSS)
    cross = {} if "cross" in arguments.skip else cross_reenact(models, pairs, 8)
    jobs = {**{result["clip"]: result.pop("job") for result in results}, **cross}
    measured = measure({"clips": jobs}, output_folder("quality")) or {}
    for result in results:
        add_measures(result, measured)
    if results:
        data["self"] = results
        text += [f"### Self-reenactment, {arguments.mode} mode: the first frame driven by its clip", EXPLAINED]
        text += [self_table(results)]
    if cross and measured:
        data["cross"] = {name: measured[name]["lift"] for name in cross}
        rows = [[n, v["identity"], v["identity_least"], v["identity_logit"]] for n, v in data["cross"].items()]
        text += ["### Another person's motion: is the result still the person of the photo?"]
        text += [table(["source-driver", "identity, mean", "least", "logit"], rows)]
    conclude("quality", "\n\n".join(text), data, is_published=arguments.publish)


if __name__ == "__main__":
    main()
