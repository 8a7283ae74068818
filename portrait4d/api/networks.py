"""The Portrait4D networks in Python: weights by name or path, heads of photos, and cameras and codes of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.errors import InputError
from flame.geometry.camera import Camera
from portrait4d.api.head import Head, options_for
from portrait4d.engines.base import Mesh, check_avatar, own_avatar
from portrait4d.engines.choose import load_engine
from portrait4d.engines.identity import TOY, TRAINED_NAMES
from portrait4d.engines.jitter import frame_generator, frame_seeds
from portrait4d.engines.portrait4d.avatar import Portrait4DAvatar
from portrait4d.engines.portrait4d.network_engine import NetworkEngine
from portrait4d.options import ReenactOptions
from portrait4d.reenactment.models import Models
from portrait4d.runtime.device import check_device
from preprocess.media.given_picture import Picture
from preprocess.media.image import to_uint8
from preprocess.tracking.motion import Motion
from preprocess.tracking.tracker import Tracker

NAMES = (*TRAINED_NAMES, TOY)


class Portrait4D:
    """One of the Portrait4D networks with the tracker that prepares its inputs.

    Example:
        model = Portrait4D.from_pretrained("portrait4d-v2")
        avatar = model.avatar("photo.jpg")
        for frame in model.animate(avatar, "video.mp4"):
            ...
    """

    def __init__(self, engine: NetworkEngine, *, options: ReenactOptions | None = None) -> None:
        """Wraps a loaded engine.

        Args:
            engine: a loaded engine; `from_pretrained` loads one by name.
            options: how drivers are tracked and retargeted, by default those of `ReenactOptions`; their engine and
                device are ignored.

        Raises:
            InputError: the engine is not one of the Portrait4D networks, or its placement or FLAME is not that of the
                options.
        """
        if not isinstance(engine, NetworkEngine):
            raise InputError(f"expected engine {', '.join(NAMES)}, got {getattr(engine, 'name', engine)!r}")
        tracker = Tracker(device=engine.device, head_model=engine.head_model, motion_encoder=engine.motion_encoder)
        self.engine = engine
        self.models = Models(engine, tracker, str(engine.device))
        self.options = options_for(self.models, options)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        flame: str | Path | None = None,
    ) -> Portrait4D:
        """Loads an engine and wraps it.

        Args:
            name_or_path: portrait4d, portrait4d-static or portrait4d-v2, fetched if they are not on this machine; or a
                checkpoint folder or an official file, as `engines.identity.trained_engine_at` reads it; or toy. The
                motion encoder is always the released one.
            device: device that the networks run on.
            dtype: only float32 so far.
            flame: file of a FLAME model, in place of the FLAME that the weights hold, or for weights that hold none.

        Raises:
            InputError: there are no such weights, they are of another network, the FLAME file cannot be read, or
                another dtype was given.
        """
        if dtype != torch.float32:
            raise InputError(f"expected dtype float32, the only one supported so far, got {dtype}: drop dtype")
        device, flame = check_device(str(device)), None if flame is None else str(flame)
        if name_or_path in ("auto", "lift"):
            raise InputError(f"expected {', '.join(NAMES)}, or a folder or file of weights, got {name_or_path!r}")
        engine = load_engine(name_or_path, device=device, flame=flame)
        assert isinstance(engine, NetworkEngine)
        return cls(engine)

    def head(self, images: Picture | Portrait4DAvatar | Sequence[Picture]) -> Head:
        """Makes a head of a photo, several photos, or an avatar; see `Head.from_image`.

        Raises:
            InputError: a picture cannot be read, no face is found in it, or the avatar is of another engine.
        """
        return Head.from_image(images, models=self.models, options=self.options)

    def avatar(self, images: Picture | Sequence[Picture]) -> Portrait4DAvatar:
        """Builds the avatar of a photo; of several photos of one person, the most frontal is shown.

        Args:
            images: one picture or several, as `Head.from_image` takes them.

        Raises:
            InputError: a picture cannot be read, or no face is found in it.
        """
        return own_avatar(self.head(images).avatar, Portrait4DAvatar, engine=self.engine)

    def animate(
        self, avatar: Portrait4DAvatar, motion: Motion | str | Path | NDArray | Tensor, cameras: Camera | None = None
    ) -> Iterator[NDArray[np.uint8]]:
        """Yields frames uint8 `[512, 512, 3]` RGB of the avatar.

        Args:
            avatar: an avatar of this network.
            motion: a motion, or the path of a video, a motion file or a driver folder, retargeted as `options` say;
                or motion codes `[T, M]` as `engine.codes_of` gives them (548 of the released networks), which need
                cameras.
            cameras: T cameras (or one for all) around a head at rest, in Portrait4D's unit (metres x 3). With them,
                only the codes of a motion are used.

        Raises:
            InputError: at once: the avatar is of another engine, the driver cannot be used, or motion codes come
                without cameras or with another number of them.
        """
        head = self.head(avatar)
        if isinstance(motion, str | Path):
            motion = head.track(motion)
        if isinstance(motion, Motion) and cameras is None:
            return head.animate(motion)
        codes = self.engine.codes_of(motion) if isinstance(motion, Motion) else motion
        codes = torch.as_tensor(codes, dtype=torch.float32)
        if cameras is None:
            raise InputError(
                "expected cameras for motion codes, which hold no head pose, got none: give cameras, one for each frame"
            )
        if codes.ndim != 2 or len(cameras) not in (1, len(codes)):
            raise InputError(
                f"expected motion codes [T, M] with T cameras or one, got {list(codes.shape)} and "
                f"{len(cameras)} cameras: give as many cameras as codes"
            )
        return self._views(avatar, codes, cameras)

    def _views(self, avatar: Portrait4DAvatar, codes: Tensor, cameras: Camera) -> Iterator[NDArray[np.uint8]]:
        for index in range(len(codes)):
            camera = cameras[index : index + 1] if len(cameras) > 1 else cameras
            seeds = frame_seeds(self.options.jitter, range(index, index + 1))
            generator = frame_generator(seeds, self.engine.device)
            yield to_uint8(self.engine.view(avatar, codes[index : index + 1], camera, generator=generator).image)[0]

    def render(
        self, avatar: Portrait4DAvatar, camera: Camera, *, generator: torch.Generator | None = None
    ) -> NDArray[np.uint8]:
        """Renders pictures uint8 `[B, 512, 512, 3]` RGB in the source's expression, head at rest.

        `engine.view` gives the tensors, with opacity.

        Args:
            avatar: an avatar of this network.
            camera: B cameras in Portrait4D's unit (metres x 3).
            generator: source of the noise by which the released code jitters the samples along the rays, on the
                engine's device; None for fixed samples.

        Raises:
            InputError: the avatar is of another engine or other weights.
        """
        check_avatar(avatar, engine=self.engine)
        codes = self.engine.codes_of(avatar.motion)
        return to_uint8(self.engine.view(avatar, codes, camera, generator=generator).image)

    def mesh(self, avatar: Portrait4DAvatar, *, resolution: int | None = None) -> Mesh:
        """The avatar's surface in the source's expression, with vertex colours, metres, head at rest.

        Args:
            avatar: an avatar of this network.
            resolution: samples along a side of the cube that the surface is taken from, by default 256; time, memory
                and the number of triangles grow with it.

        Raises:
            InputError: the avatar is of another engine or other weights, or the resolution is out of range.
        """
        return self.head(avatar).mesh(resolution=resolution)
