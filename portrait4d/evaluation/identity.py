"""Vectors that tell people apart, by a network that the user names; none comes with the project.

Faces are aligned as ArcFace was trained (Deng et al. 2019): both eyes, nose tip and mouth corners are carried to five
places of a picture of 112 x 112 px by a similarity transform.
"""

from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from flame.errors import InputError
from preprocess.faces.aligned_crop import five_points
from preprocess.faces.alignment import ARCFACE_PLACES, ARCFACE_SIDE, fit_similarity
from preprocess.files.digest import file_digest

INSIGHTFACE = "insightface"

WIDTHS = (ARCFACE_SIDE, 96)
"""Of the network's picture; the narrow one, of SphereFace, lacks 8 px on each side."""


class FaceVectors(Protocol):
    """A network of identity.

    Attributes:
        name: with the numbers.
        digest: SHA-256 of its file, or what else tells its weights.
    """

    name: str
    digest: str

    def __call__(self, image: NDArray[np.uint8], landmarks: NDArray) -> NDArray[np.float64] | None:
        """The unit vector `[D]` of the face at landmarks `[478, 2 or 3]` of a picture `[H, W, 3]`; None without one."""
        ...


class ArcFaceFile:
    """A network of an ONNX file: RGB `[1, 3, 112, 112 or 96]`, levels minus 127.5 over 127.5, to a vector."""

    def __init__(self, path: Path) -> None:
        """Reads the network.

        Raises:
            InputError: the file is missing, cannot be read, or takes other pictures.
        """
        if not path.is_file():
            raise InputError(f"expected an ONNX file of a face network at {path}, there is none: check the path")
        try:
            self._network = cv2.dnn.readNetFromONNX(str(path))
        except cv2.error as error:
            raise InputError(f"expected an ONNX file of a face network, {path} cannot be read: give another") from error
        self.name, self.digest = path.name, file_digest(path)
        self._width = self._find_width(path)

    def __call__(self, image: NDArray[np.uint8], landmarks: NDArray) -> NDArray[np.float64] | None:
        """See `FaceVectors`."""
        return self._vector(align_face(image, landmarks, width=self._width))

    def _vector(self, face: NDArray[np.uint8]) -> NDArray[np.float64]:
        self._network.setInput(((face.astype(np.float32) - 127.5) / 127.5).transpose(2, 0, 1)[None])
        vector = np.asarray(self._network.forward(), np.float64).reshape(-1)
        return vector / max(float(np.linalg.norm(vector)), 1e-12)

    def _find_width(self, path: Path) -> int:
        """The width of the pictures that it takes: OpenCV does not tell, so it is tried."""
        for width in WIDTHS:
            self._width = width
            try:
                self._vector(np.zeros((ARCFACE_SIDE, width, 3), np.uint8))
            except cv2.error:
                continue
            return width
        raise InputError(
            f"expected a face network for pictures of 112 x 112 or 96 x 112 px, {path.name} takes others: give another"
        )


class InsightFaceVectors:
    """ArcFace of insightface's pack buffalo_l, which finds and aligns the largest face by its own detector."""

    name = "insightface buffalo_l (w600k_r50)"
    digest = "insightface buffalo_l"

    def __init__(self, device: str) -> None:
        """Loads the pack.

        Raises:
            InputError: the package is not installed, or the pack is neither here nor can be fetched.
        """
        from preprocess.faces.backends.insightface_pack import IdentityEncoder

        self._encoder = IdentityEncoder(device)

    def __call__(self, image: NDArray[np.uint8], landmarks: NDArray) -> NDArray[np.float64] | None:
        """See `FaceVectors`; the landmarks are not used."""
        vector = self._encoder(image)
        return None if vector is None else vector.astype(np.float64)


def load_face_vectors(named: str, *, device: str = "cpu") -> FaceVectors:
    """Loads `insightface`, or the ONNX file at a path.

    Raises:
        InputError: it is not here; the message says what to do.
    """
    return InsightFaceVectors(device) if named == INSIGHTFACE else ArcFaceFile(Path(named))


def align_face(image: NDArray[np.uint8], landmarks: NDArray, *, width: int = ARCFACE_SIDE) -> NDArray[np.uint8]:
    """The face `[112, width, 3]` of a picture `[H, W, 3]` with landmarks `[478, 2 or 3]` in px; black outside."""
    places = ARCFACE_PLACES - [(WIDTHS[0] - width) / 2, 0]
    matrix = fit_similarity(five_points(landmarks) - 0.5, places)  # both counted from pixel centres
    return cv2.warpAffine(np.ascontiguousarray(image), matrix, (width, ARCFACE_SIDE)).astype(np.uint8)
