"""Limits of the scores beyond which a picture is left out."""

from dataclasses import asdict, dataclass

from flame.errors import InputError


@dataclass(frozen=True)
class Limits:
    """What a picture must reach to be kept.

    Attributes:
        min_face_px: width of the face in the source.
        min_sharpness: see `preprocess.dataset.building.quality.measure`.
        max_yaw_degrees: to either side.
        max_pitch_degrees: up or down.
        max_occlusion: share of the face, 0 to 1.
        max_fit_error: as a fraction of the outer-eye distance.
        min_eye_open: opening of the wider open eye as a fraction of its width; 0 keeps closed eyes.
        max_outside: share of the picture beyond the source's border; 1 keeps all.
    """

    min_face_px: float = 80.0
    min_sharpness: float = 4.0
    max_yaw_degrees: float = 75.0
    max_pitch_degrees: float = 50.0
    max_occlusion: float = 0.15
    max_fit_error: float = 0.08
    min_eye_open: float = 0.0
    max_outside: float = 1.0

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
