"""Features of Inception-v3 through the package clean-fid: what FID and KID are measured in.

The weights are NVIDIA's TorchScript file of the network of 2015-12-05, which StyleGAN2-ADA and EG3D measure with. It is
a program, not only numbers: it comes from NVIDIA's own address, and its digest stands in every result.
"""

import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from portrait4d.metrics.resize import CLEAN_FILTER, resize_clean
from portrait4d.weights.folder import weights_folder
from preprocess.faces.backends.extras import explained_weights, import_extra
from preprocess.files.digest import file_digest

FILE_NAME = "inception-2015-12-05.pt"
SIDE = 299
NUM_FEATURES = 2048


class InceptionFeatures:
    """The pooled features `[N, 2048]`; see `FeatureExtractor`."""

    def __init__(self, *, resize: Literal["clean", "legacy"] = "clean", device: str = "cpu") -> None:
        """Loads the network, and fetches it the first time.

        Args:
            resize: `clean` is anti-aliased; `legacy` is the network's own filter, which is not, for comparison with
                the numbers of StyleGAN2, EG3D and Portrait4D.
            device: where it runs.

        Raises:
            InputError: the package is missing, or the file is not here and cannot be fetched.
        """
        if resize not in ("clean", "legacy"):
            raise ValueError(f"expected resize 'clean' or 'legacy', got {resize!r}")
        self._is_clean, self._device = resize == "clean", device
        self.name = "inception" if self._is_clean else "inception-legacy"
        legacy = f"bilinear of TensorFlow 1 inside the network, not anti-aliased, {SIDE} px"
        self.resize_filter = f"{CLEAN_FILTER}, {SIDE} px" if self._is_clean else legacy
        self._network, path = _load(is_clean=self._is_clean)
        self._network.to(device)
        self.digest = file_digest(path)

    @torch.no_grad()
    def features(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Features `[N, 2048]` of pictures `[N, H, W, 3]`."""
        levels = resize_clean(images, SIDE) if self._is_clean else images
        batch = torch.from_numpy(np.ascontiguousarray(levels)).to(self._device).permute(0, 3, 1, 2).contiguous()
        return self._network(batch).float().cpu().numpy()


def inception_file() -> Path:
    """Where the weights lie once they are here: with all others."""
    return weights_folder() / "features" / FILE_NAME


def _load(*, is_clean: bool) -> tuple[Any, Path]:
    path, otherwise = inception_file(), "use --features efficientnet-lite0"
    library = import_extra("cleanfid.inception_torchscript", "fid", otherwise=otherwise)
    with explained_weights(f"{FILE_NAME}, the network of FID,", _advice, are_here=path.is_file):
        if not path.is_file():
            _fetch(library, path)
        network = library.InceptionV3W(str(path.parent), download=False, resize_inside=not is_clean)
    return network.eval().requires_grad_(False), path


def _fetch(library: Any, path: Path) -> None:
    """Lets the library download the file, which it writes in place, and moves it where it belongs once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".fetch-") as folder:
        Path(library.check_download_inception(folder)).replace(path)


def _advice() -> str:
    return (
        f"put {FILE_NAME} (nvlabs-fi-cdn.nvidia.com, stylegan2-ada-pytorch/pretrained/metrics) into "
        f"{inception_file().parent}, or use --features efficientnet-lite0"
    )
