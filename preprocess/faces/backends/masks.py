"""Finds the pixels of the person by the embedded matte, or by SegFormer's parsing of the head into 19 classes."""

from collections.abc import Callable
from typing import get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flame.errors import InputError
from preprocess.faces.backend_names import MaskName
from preprocess.faces.backends.extras import explained_weights, import_extra
from preprocess.faces.matte import PortraitMatte
from preprocess.files.offline import offline_variable

SEGFORMER_MODEL = "jonathandinu/face-parsing"
"""Name on huggingface.co of a SegFormer B5 (Xie et al. 2021, NVIDIA's non-commercial licence).

It was trained on CelebAMask-HQ (Lee et al. 2020: non-commercial research and education).
"""

PARSING_LABELS = (
    ("background", "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear")
    + ("mouth", "u_lip", "l_lip", "hair", "hat", "ear_r", "neck_l", "neck", "cloth")
)  # fmt: skip
"""CelebAMask-HQ's classes in this model's order: `eye_g` glasses, `ear_r` earrings, `neck_l` necklace."""

PERSON_LABELS = tuple(range(1, len(PARSING_LABELS)))
"""All labels but the background: what people wear moves with them, and mattes include it too."""

_INPUT_SIZE = 512
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet's pictures, by which the network's input is normalised."""

Mask = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Returns float32 `[H, W]` in [0, 1], 1 on the person, of a picture uint8 `[H, W, 3]` RGB."""


def load_mask(name: MaskName = "matte", device: torch.device | str = "cpu") -> Mask:
    """Returns a mask ready to use; that of "segformer" is a `FaceParser`, which has labels too.

    Raises:
        InputError: the name is unknown, its package is not installed, or its weights are neither here nor can be
            fetched.
    """
    match name:
        case "matte":
            return PortraitMatte(device)
        case "segformer":
            return FaceParser(device)
        case _:
            raise InputError(f"expected mask to be one of {', '.join(get_args(MaskName))}, got {name!r}")


class FaceParser:
    """Parses faces with SegFormer of the package transformers; the face should fill a good part of the picture."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        library = import_extra("transformers", "segformer")
        with explained_weights(f"the weights {SEGFORMER_MODEL} of SegFormer", _advice):
            offline = {"local_files_only": True} if offline_variable() else {}
            network = library.SegformerForSemanticSegmentation.from_pretrained(SEGFORMER_MODEL, **offline)
        if network.config.num_labels != len(PARSING_LABELS):
            raise InputError(
                f"expected {len(PARSING_LABELS)} classes of {SEGFORMER_MODEL}, got {network.config.num_labels}: fetch "
                f"it again with `hf download {SEGFORMER_MODEL}`"
            )
        self._network = network.to(self.device).eval()

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Returns the probability float32 `[H, W]` of all `PERSON_LABELS` together."""
        probabilities = self._scores(image).softmax(0)
        return probabilities[list(PERSON_LABELS)].sum(0).clamp(0, 1).cpu().numpy()

    def parse(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns the index of the likeliest of `PARSING_LABELS`, uint8 `[H, W]`."""
        return self._scores(image).argmax(0).byte().cpu().numpy()

    def _scores(self, image: NDArray[np.uint8]) -> Tensor:
        """Returns logits `[19, H, W]`."""
        height, width = image.shape[:2]
        # the aspect is not kept, as in training
        small = cv2.resize(image, (_INPUT_SIZE, _INPUT_SIZE), interpolation=cv2.INTER_LINEAR)
        pixels = (small.astype(np.float32) / 255 - np.array(_MEAN, np.float32)) / np.array(_DEVIATION, np.float32)
        batch = torch.from_numpy(pixels).permute(2, 0, 1)[None].to(self.device)
        with torch.inference_mode():
            scores = self._network(pixel_values=batch).logits
            return torch.nn.functional.interpolate(scores, (height, width), mode="bilinear", align_corners=False)[0]


def _advice() -> str:
    folder = import_extra("huggingface_hub.constants", "segformer").HF_HUB_CACHE
    return (
        f"they are looked for in {folder} and on huggingface.co: run `hf download {SEGFORMER_MODEL}` with a network, "
        "or copy that folder from a machine that has them"
    )
