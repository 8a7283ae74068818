"""The 52 expressions with ARKit names: what each does, groups of them under short names, and the turn of the eyes.

The order is that of the open head. All are actions from 0 (none) to 1 (full); left and right are the subject's. Loads
no torch: the command line reads the names.
"""

import difflib
import re

from flame.errors import InputError, printable

ARKIT_ACTIONS = {
    "browDownLeft": "left eyebrow down",
    "browDownRight": "right eyebrow down",
    "browInnerUp": "inner ends of both eyebrows up",
    "browOuterUpLeft": "outer end of the left eyebrow up",
    "browOuterUpRight": "outer end of the right eyebrow up",
    "cheekPuff": "both cheeks blown out",
    "cheekSquintLeft": "left cheek up",
    "cheekSquintRight": "right cheek up",
    "eyeBlinkLeft": "left lids shut",
    "eyeBlinkRight": "right lids shut",
    "eyeLookDownLeft": "left eye looks down, lids with it",
    "eyeLookDownRight": "right eye looks down, lids with it",
    "eyeLookInLeft": "left eye looks to the nose",
    "eyeLookInRight": "right eye looks to the nose",
    "eyeLookOutLeft": "left eye looks away from the nose",
    "eyeLookOutRight": "right eye looks away from the nose",
    "eyeLookUpLeft": "left eye looks up, lids with it",
    "eyeLookUpRight": "right eye looks up, lids with it",
    "eyeSquintLeft": "left lids narrowed",
    "eyeSquintRight": "right lids narrowed",
    "eyeWideLeft": "left lids wide open",
    "eyeWideRight": "right lids wide open",
    "jawForward": "jaw forward",
    "jawLeft": "jaw to the left",
    "jawOpen": "jaw open",
    "jawRight": "jaw to the right",
    "mouthClose": "lips shut while the jaw is open: on top of jawOpen, of at most its value",
    "mouthDimpleLeft": "left corner of the mouth back",
    "mouthDimpleRight": "right corner of the mouth back",
    "mouthFrownLeft": "left corner of the mouth down",
    "mouthFrownRight": "right corner of the mouth down",
    "mouthFunnel": "lips rounded and open",
    "mouthLeft": "mouth to the left",
    "mouthLowerDownLeft": "left half of the lower lip down",
    "mouthLowerDownRight": "right half of the lower lip down",
    "mouthPressLeft": "left half of the lips pressed together",
    "mouthPressRight": "right half of the lips pressed together",
    "mouthPucker": "lips drawn together as for a kiss",
    "mouthRight": "mouth to the right",
    "mouthRollLower": "lower lip rolled in",
    "mouthRollUpper": "upper lip rolled in",
    "mouthShrugLower": "lower lip pushed up and out",
    "mouthShrugUpper": "upper lip pushed up and out",
    "mouthSmileLeft": "left corner of the mouth up",
    "mouthSmileRight": "right corner of the mouth up",
    "mouthStretchLeft": "left corner of the mouth to the side",
    "mouthStretchRight": "right corner of the mouth to the side",
    "mouthUpperUpLeft": "left half of the upper lip up",
    "mouthUpperUpRight": "right half of the upper lip up",
    "noseSneerLeft": "left wing of the nose up",
    "noseSneerRight": "right wing of the nose up",
    "tongueOut": "tongue out",
}
"""What each action does, in the order of the open head's expressions."""

ARKIT_NAMES = tuple(ARKIT_ACTIONS)

_PAIRS = {
    "blink": "eyeBlink",
    "squint": "eyeSquint",
    "eyes_wide": "eyeWide",
    "smile": "mouthSmile",
    "frown": "mouthFrown",
    "dimple": "mouthDimple",
    "stretch": "mouthStretch",
    "press": "mouthPress",
    "upper_lip_up": "mouthUpperUp",
    "lower_lip_down": "mouthLowerDown",
    "brows_down": "browDown",
    "cheek_squint": "cheekSquint",
    "sneer": "noseSneer",
}
"""Short names of actions that both sides have: `smile` means both, `smile_left` and `smile_right` one."""

GROUPS: dict[str, tuple[str, ...]] = {
    **{name: (f"{action}Left", f"{action}Right") for name, action in _PAIRS.items()},
    **{f"{name}_{side.lower()}": (f"{action}{side}",) for name, action in _PAIRS.items() for side in ("Left", "Right")},
    "brows_up": ("browInnerUp", "browOuterUpLeft", "browOuterUpRight"),
    "pucker": ("mouthPucker",),
    "funnel": ("mouthFunnel",),
}
"""The actions that a short name stands for."""

LOOKS = (
    ("eyeLookDownLeft", "eyeLookUpLeft", "eye_left", 0), ("eyeLookDownRight", "eyeLookUpRight", "eye_right", 0),
    ("eyeLookOutLeft", "eyeLookInLeft", "eye_left", 1), ("eyeLookInRight", "eyeLookOutRight", "eye_right", 1),
)  # fmt: skip
"""Actions of the lids that follow an eyeball's turn: the one that grows, the one that falls, the joint, its axis."""

LOOK_RADIANS = 0.55
"""Turn of the eyeball that belongs to a full eyeLook action."""


ANGLES = ("yaw_degrees", "pitch_degrees", "roll_degrees")
GAZE = "gaze"
"""What is set by name besides expressions: the head's turn, and both eyes'."""


def actions_of(name: str) -> tuple[str, ...]:
    """Returns the ARKit names that a name stands for: `smile` -> `mouthSmileLeft`, `mouthSmileRight`.

    A name is a short name of `GROUPS` or an ARKit name; capitals, underscores and hyphens do not matter.

    Raises:
        InputError: there is no such name; the message has the nearest one, which may be an angle or the gaze.
    """
    found = _BY_PLAIN_NAME.get(_plain(name))
    if found is None:
        known = [*GROUPS, *ARKIT_NAMES, *ANGLES, GAZE]
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise InputError(
            f"expected the name of an expression, such as smile or jawOpen, got {printable(name)!r}: did you mean "
            f"{nearest!r}?"
        )
    return found


def _plain(name: str) -> str:
    return re.sub(r"[_\-\s]", "", name).lower()


_BY_PLAIN_NAME = {
    **{_plain(name): actions for name, actions in GROUPS.items()},
    **{_plain(name): (name,) for name in ARKIT_NAMES},
}
