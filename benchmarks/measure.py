"""Runs in the measuring Python: identity, expression, motion and jitter of rendered frames, by foreign networks.

    python measure.py JOB.json ANSWER.json

A job is `{"clips": {name: {"source": png, "frame_rate": fps, "truth": [png], "variants": {variant: [png]},
"truth_run": [png], "runs": {variant: [png]}}}}`: `truth` and each variant hold the same moments, spread over the clip;
the runs hold successive frames, for jitter. `truth` is the driver's crop. Needs numpy and `metrics.py` of the reference
material; the landmark network is of the same family as our tracker's, the other networks are not.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

CORRELATIONS = ("mouth", "blink", "smile", "yaw", "pitch", "roll")
NUM_IDENTITY_FRAMES = 6


def main(question: Path, answer: Path) -> None:
    """Reads the job, writes the answer."""
    sys.path.insert(0, str(Path(os.environ["PORTRAIT4D_SHARED"]) / "tools"))
    from metrics import Metrics  # pyright: ignore[reportMissingImports]

    metrics = Metrics()
    job = json.loads(question.read_text())
    answer.write_text(json.dumps({name: measure_clip(metrics, clip) for name, clip in job["clips"].items()}, indent=1))


def measure_clip(metrics: Any, clip: dict[str, Any]) -> dict[str, dict[str, float]]:
    """All measures of every variant of one clip; `driver` holds those of the driver itself."""
    truth = metrics.track(clip["truth"])
    source = metrics.embed(clip["source"])
    result = {"driver": _steadiness(metrics, clip["truth_run"], clip["frame_rate"])}
    for name, frames in clip["variants"].items():
        tracks = metrics.track(frames)
        result[name] = {
            **_landmark_errors(metrics, truth, tracks),
            **_identity(metrics, source, frames, tracks),
            **_agreement(metrics, truth, tracks),
            **_steadiness(metrics, clip["runs"].get(name, []), clip["frame_rate"]),
        }
    return result


def _landmark_errors(metrics: Any, truth: list, tracks: list) -> dict[str, float]:
    """Landmark distance over the outer-eye distance, and distance of the expressions, mean over frames."""
    landmark, expression = [], []
    for wanted, got in zip(truth, tracks, strict=True):
        if wanted is None or got is None:
            continue
        unit = np.linalg.norm(wanted["lm"][33, :2] - wanted["lm"][263, :2])
        landmark.append(np.linalg.norm(wanted["lm"][:468, :2] - got["lm"][:468, :2], axis=1).mean() / unit)
        expression.append(metrics.expression_distance(None, None, wanted, got)["blend"])
    lost = sum(got is None for got in tracks) / len(tracks)
    return {"landmark_mediapipe": _mean(landmark), "expression_distance": _mean(expression), "lost": lost}


def _identity(metrics: Any, source: Any, frames: list[str], tracks: list) -> dict[str, float]:
    """Probability that results show the person of the source, mean and least of a few frames."""
    chosen = np.unique(np.linspace(0, len(frames) - 1, NUM_IDENTITY_FRAMES).round().astype(int))
    scores = [
        metrics.compare(source, metrics.embed(frames[index], tracks[index]))
        for index in chosen
        if tracks[index] is not None
    ]
    return {
        "identity": _mean([score["score"] for score in scores]),
        "identity_least": min((score["score"] for score in scores), default=float("nan")),
        "identity_logit": _mean([score["logit"] for score in scores]),
    }


def _agreement(metrics: Any, truth: list, tracks: list) -> dict[str, float]:
    """Correlation of the driver's and the result's signals over time, and offset-free distances."""
    if sum(a is not None and b is not None for a, b in zip(truth, tracks, strict=True)) < 10:
        return {}
    values = metrics.motion_agreement(truth, tracks, max_lag=0)
    chosen = {f"corr_{name}": values[f"corr_{name}"] for name in CORRELATIONS}
    return chosen | {"aed_c": values["aed_c"], "apd_c": values["apd_c"], "apd": values["apd"]}


def _steadiness(metrics: Any, frames: list[str], frame_rate: float) -> dict[str, float]:
    if len(frames) < 7:
        return {}
    try:
        values = metrics.jitter(frames, frame_rate, metrics.track(frames))
    except ValueError:  # no face in enough successive frames
        return {}
    return {"jitter_hf": values["hf"], "jitter_acc": values["acc"], "flicker": values["flicker"]}


def _mean(values: list) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
