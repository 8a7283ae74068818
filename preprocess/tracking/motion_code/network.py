"""The motion encoder of PD-FGC (Wang et al. 2023): codes of gaze, emotion and mouth that do not depend on identity.

A face alignment network (Bulat and Tzimiropoulos 2017: one hourglass, blocks of three convolutions), whose heatmaps are
reduced to one feature vector, then four small heads. Names of modules are those of the released file.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

INPUT_SIZE = 224
FEATURE_SIZE = 512
EYE_SIZE, EMOTION_SIZE, MOUTH_SIZE = 6, 30, 512
CODE_SIZE = EYE_SIZE + EMOTION_SIZE + MOUTH_SIZE

TRAINING_NAME_PARTS = ("mouth_fc", "headpose_fc", "classifier", "to_feature", "to_embed")
"""Parts of names of tensors that only training used; the authors' code skips them, too."""

_HEAD_POSE_SIZE = 6
_MOUTH_EMBEDDING_SIZE = 500
_DEPTH = 4
_WIDTH, _NUM_MAPS = 256, 68
_MAP_PIXELS = (INPUT_SIZE // 8) ** 2


@dataclass(frozen=True)
class FaceCodes:
    """The encoder's codes of B faces; they have no physical unit.

    Attributes:
        head_pose: `[B, 6]`.
        eye: `[B, 6]`.
        emotion: `[B, 30]`.
        mouth: `[B, 512]`.
    """

    head_pose: Tensor
    eye: Tensor
    emotion: Tensor
    mouth: Tensor

    @property
    def motion(self) -> Tensor:
        """The codes of eye, emotion and mouth, `[B, 548]`, which drive Portrait4D."""
        return torch.cat([self.eye, self.emotion, self.mouth], 1)


class MotionEncoderNetwork(nn.Module):
    """Computes the codes of cropped faces; for evaluation mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.model = _AlignmentFeatures()
        self.to_mouth, self.to_headpose, self.to_eye, self.to_emo = (_head() for _ in range(4))
        # part of the released file, but the code of the mouth is taken before it
        self.mouth_embed = _embedding(_MOUTH_EMBEDDING_SIZE)
        self.headpose_embed = _embedding(_HEAD_POSE_SIZE)
        self.eye_embed = _embedding(EYE_SIZE)
        self.emo_embed = _embedding(EMOTION_SIZE)

    def forward(self, faces: Tensor) -> FaceCodes:
        """Returns the codes of faces `[B, 3, 224, 224]` RGB in [-1, 1], as `motion_code.crop` makes them."""
        features = self.model(faces)
        return FaceCodes(
            head_pose=self.headpose_embed(self.to_headpose(features)),
            eye=self.eye_embed(self.to_eye(features)),
            emotion=self.emo_embed(self.to_emo(features)),
            mouth=self.to_mouth(features),
        )


class _AlignmentFeatures(nn.Module):
    """Computes features `[B, 512]` of faces `[B, 3, 224, 224]`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = _Block(64, 128)
        self.conv3 = _Block(128, 128)
        self.conv4 = _Block(128, _WIDTH)
        self.m0 = _Hourglass()
        self.top_m_0 = _Block(_WIDTH, _WIDTH)
        self.conv_last0 = nn.Conv2d(_WIDTH, _WIDTH, 1)
        self.bn_end0 = nn.BatchNorm2d(_WIDTH)
        self.l0 = nn.Conv2d(_WIDTH, _NUM_MAPS, 1)
        self.bn5 = nn.BatchNorm2d(_NUM_MAPS)
        self.conv6 = nn.Conv2d(_NUM_MAPS, 1, 3, stride=2, padding=1)
        self.fc = nn.Linear(_MAP_PIXELS, FEATURE_SIZE)

    def forward(self, faces: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(faces)))
        x = functional.max_pool2d(self.conv2(x), 2)
        x = self.top_m_0(self.m0(self.conv4(self.conv3(x))))
        x = functional.relu(self.bn_end0(self.conv_last0(x)))
        maps = functional.relu(self.bn5(self.l0(x)))
        return self.fc(functional.relu(self.conv6(maps).flatten(1)))


class _Block(nn.Module):
    """Three 3 x 3 convolutions of decreasing width, their outputs concatenated, plus the input."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half, quarter = out_channels // 2, out_channels // 4
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = _conv3(in_channels, half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv2 = _conv3(half, quarter)
        self.bn3 = nn.BatchNorm2d(quarter)
        self.conv3 = _conv3(quarter, quarter)
        self.downsample: nn.Module | None = None
        if in_channels != out_channels:
            widen = nn.Conv2d(in_channels, out_channels, 1, bias=False)
            self.downsample = nn.Sequential(nn.BatchNorm2d(in_channels), nn.ReLU(), widen)

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(functional.relu(self.bn1(x)))
        second = self.conv2(functional.relu(self.bn2(first)))
        third = self.conv3(functional.relu(self.bn3(second)))
        skip = x if self.downsample is None else self.downsample(x)
        return torch.cat([first, second, third], 1) + skip


class _Hourglass(nn.Module):
    """Halves the resolution four times and restores it, adding a skip branch at each level."""

    def __init__(self) -> None:
        super().__init__()
        for level in range(_DEPTH, 0, -1):
            for branch in ("b1", "b2", "b3"):
                self.add_module(f"{branch}_{level}", _Block(_WIDTH, _WIDTH))
        self.b2_plus_1 = _Block(_WIDTH, _WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self._level(_DEPTH, x)

    def _level(self, level: int, x: Tensor) -> Tensor:
        beside = self.get_submodule(f"b1_{level}")(x)  # in training dropout follows here, with a rate of 0.5
        low = self.get_submodule(f"b2_{level}")(functional.max_pool2d(x, 2))
        low = self._level(level - 1, low) if level > 1 else self.b2_plus_1(low)
        low = self.get_submodule(f"b3_{level}")(low)
        up = functional.interpolate(low, size=beside.shape[2:], mode="bilinear", align_corners=False)
        return beside + up


def _conv3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)


def _head() -> nn.Sequential:
    wide = nn.Linear(FEATURE_SIZE, FEATURE_SIZE)
    return nn.Sequential(wide, nn.ReLU(), nn.BatchNorm1d(FEATURE_SIZE), nn.Linear(FEATURE_SIZE, MOUTH_SIZE))


def _embedding(size: int) -> nn.Sequential:
    return nn.Sequential(nn.ReLU(), nn.Linear(MOUTH_SIZE, size))
