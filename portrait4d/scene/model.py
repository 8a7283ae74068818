"""A fitted scene: tri-planes, their decoder and the cube they fill; saved as `scene.safetensors` and `config.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from flame.errors import InputError
from flame.geometry.camera import Camera
from portrait4d.render.decoder import TriPlaneDecoder
from portrait4d.render.field import TriPlaneField
from portrait4d.render.planes import PlaneLayout, TriPlanes
from portrait4d.render.renderer import RenderConfig, Rendering, render
from portrait4d.scene.box import BOX_WARP, SceneBox
from portrait4d.scene.choices import PLANE_RESOLUTION
from preprocess.files.atomic import atomic_path

WEIGHTS, CONFIG = "scene.safetensors", "config.json"


@dataclass(frozen=True)
class FittedSceneConfig:
    """Architecture and place of a fitted scene.

    Attributes:
        centre: of the cube, in the scene's own unit and axes.
        side: of the cube.
        has_white_background: uncovered pixels are white, else black.
        plane_resolution: texels of a plane's side.
        plane_channels: channels of each plane.
        hidden_channels: width of the decoder's hidden layer.
        num_coarse: even samples per ray.
        num_fine: samples per ray drawn by weight.
        plane_layout: axes of the planes.
    """

    centre: tuple[float, float, float]
    side: float
    has_white_background: bool
    plane_resolution: int = PLANE_RESOLUTION
    plane_channels: int = 16
    hidden_channels: int = 32
    num_coarse: int = 24
    num_fine: int = 16
    plane_layout: PlaneLayout = "orthogonal"

    @property
    def box(self) -> SceneBox:
        """The cube that the planes fill."""
        return SceneBox(self.centre, self.side)

    @property
    def render(self) -> RenderConfig:
        """How rays are sampled, in fitted units."""
        return RenderConfig(
            range_mode="box",
            box_warp=BOX_WARP,
            num_coarse=self.num_coarse,
            num_fine=self.num_fine,
            has_white_background=self.has_white_background,
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "FittedSceneConfig":
        """The inverse of `asdict`, from JSON.

        Raises:
            InputError: a key is missing or unknown.
        """
        names = {entry.name for entry in fields(cls)}
        odd = sorted(names ^ set(values))
        if odd:
            raise InputError(
                f"expected the settings of a fitted scene, but these are missing or unknown: {', '.join(odd)}"
            )
        return cls(**{**values, "centre": tuple(values["centre"])})


class FittedScene(nn.Module):
    """Planes `[1, 3 * C, R, R]` and a decoder to RGB."""

    def __init__(self, config: FittedSceneConfig, *, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.config = config
        size, channels = config.plane_resolution, config.plane_channels
        self.planes = nn.Parameter(torch.empty(1, 3 * channels, size, size))
        self.decoder = TriPlaneDecoder(channels, 3, hidden_channels=config.hidden_channels)
        with torch.no_grad():
            nn.init.normal_(self.planes, std=0.1, generator=generator)
            for name, value in self.decoder.named_parameters():
                if name.endswith("weight"):
                    nn.init.normal_(value, generator=generator)

    def field(self) -> TriPlaneField:
        """The volume, in fitted units."""
        planes = TriPlanes.from_picture(self.planes, layout=self.config.plane_layout, box_warp=BOX_WARP)
        return TriPlaneField(planes, self.decoder)

    @torch.no_grad()
    def render(self, camera: Camera, *, height: int, width: int) -> Rendering:
        """A picture from a camera `[1]` in the scene's own unit and axes; depth is in that unit too. Deterministic."""
        box = self.config.box
        seen = render(self.field(), box.to_fitted(camera), self.config.render, height=height, width=width)
        return replace(seen, depth=seen.depth / box.scale)

    def save(self, folder: Path) -> None:
        """Writes `scene.safetensors` and `config.json` into a folder."""
        with atomic_path(folder / WEIGHTS) as temporary:
            save_file(_contiguous(self.state_dict()), temporary)
        with atomic_path(folder / CONFIG) as temporary:
            temporary.write_text(json.dumps(asdict(self.config), indent=1))


def load_scene(folder: str | Path) -> FittedScene:
    """The fitted scene that `fit-scene` left in a folder.

    Raises:
        InputError: a file is missing or does not fit the other.
    """
    folder = Path(folder)
    missing = [name for name in (WEIGHTS, CONFIG) if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder}: expected a fitted scene, but {', '.join(missing)} is missing: run portrait4d fit-scene"
        )
    scene = FittedScene(_read_config(folder / CONFIG))
    try:
        scene.load_state_dict(load_file(folder / WEIGHTS))
    except (RuntimeError, ValueError, SafetensorError) as error:
        raise InputError(
            f"{folder}: {WEIGHTS} is damaged or does not fit {CONFIG} ({' '.join(str(error).split())}): "
            "run portrait4d fit-scene again"
        ) from error
    return scene


def _read_config(path: Path) -> FittedSceneConfig:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: expected JSON, got {error}: run portrait4d fit-scene again") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: expected the settings of a fitted scene, got {type(values).__name__}")
    return FittedSceneConfig.from_dict(values)


def _contiguous(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().contiguous() for name, value in state.items()}
