"""Limits of the scores beyond which a picture is left out."""

from dataclasses import asdict, dataclass

from flame.errors import InputError


@dataclass(frozen=True)
class Limits:
    """What a picture must reach to be kept."""

    min_face_px: float = 80.0
    """Reject faces less wide in the source, px."""

    min_sharpness: float = 4.0
    """Reject blurred faces: variance of the Laplacian at 256 px.

    See `preprocess.dataset.building.quality.measure`.
    """

    max_yaw_degrees: float = 75.0
    """Reject heads turned further to a side, degrees."""

    max_pitch_degrees: float = 50.0
    """Reject heads turned further up or down, degrees."""

    max_occlusion: float = 0.15
    """Reject faces with a larger share hidden or cut off, 0 to 1."""

    max_fit_error: float = 0.08
    """Reject worse fits: part of the outer-eye distance."""

    min_eye_open: float = 0.0
    """Reject eyes less open, part of the eye's width; 0.1 is closed.

    Of the wider eye.
    """

    max_outside: float = 1.0
    """Reject pictures with a larger share beyond the source's border, 0 to 1."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value >= 0:  # refuses nan too, which no score exceeds
                raise InputError(f"expected {name.replace('_', ' ')} of 0 or more, got {value:g}")

    def fault(self, scores: dict[str, float]) -> str | None:
        """Says why scores do not pass, with the number and the limit; None if they pass."""
        yaw, pitch = abs(scores["yaw_degrees"]), abs(scores["pitch_degrees"])
        for is_fault, text in (
            (
                scores["face_px"] < self.min_face_px,
                f"the face is {scores['face_px']:.0f} px wide, at least {self.min_face_px:g} wanted",
            ),
            (
                scores["fit_error"] > self.max_fit_error,
                f"fit error {scores['fit_error']:.3f}, at most {self.max_fit_error:g} wanted",
            ),
            (
                scores["occlusion"] > self.max_occlusion,
                f"{scores['occlusion']:.2f} of the face is hidden or outside, at most {self.max_occlusion:g} wanted",
            ),
            (yaw > self.max_yaw_degrees, f"yaw {yaw:.0f} degrees, at most {self.max_yaw_degrees:g} wanted"),
            (pitch > self.max_pitch_degrees, f"pitch {pitch:.0f} degrees, at most {self.max_pitch_degrees:g} wanted"),
            (
                scores["sharpness"] < self.min_sharpness,
                f"sharpness {scores['sharpness']:.1f}, at least {self.min_sharpness:g} wanted",
            ),
            (
                scores["eye_open"] < self.min_eye_open,
                f"eyes {scores['eye_open']:.2f} open, at least {self.min_eye_open:g} wanted",
            ),
            (
                scores["outside"] > self.max_outside,
                f"{scores['outside']:.2f} of the picture is beyond the source, at most {self.max_outside:g} wanted",
            ),
        ):
            if is_fault:
                return text
        return None
