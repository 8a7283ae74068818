"""Draws the embedded landmarks over renders of the head, to check the embedding by eye."""

from pathlib import Path

import cv2
import numpy as np
import torch

from flame.heads.head_model import HeadParams
from flame.heads.open_head import OpenHead
from open_head.portrait import SIZE, render_portrait

_EXPRESSIONS = ({}, {"eyeBlinkLeft": 1.0, "jawOpen": 0.5}, {"mouthSmileLeft": 1.0, "mouthSmileRight": 1.0})


@torch.no_grad()
def write_overlays(model: OpenHead, faces: np.ndarray, weights: np.ndarray, folder: Path) -> None:
    """Writes one row per expression, with three views each."""
    rows = []
    for values in _EXPRESSIONS:
        params = HeadParams.zeros(model)
        for name, value in values.items():
            params.expression[0, model.expression_names.index(name)] = value
        row = []
        for yaw in (0.0, 25.0, -40.0):
            portrait = render_portrait(model, params, yaw_degrees=yaw, pitch_degrees=0.0)
            corners = portrait.vertices[model.faces[torch.from_numpy(faces)]]
            points = (corners * torch.from_numpy(weights).float()[..., None]).sum(1)
            zoom = 2
            pixels, _ = portrait.camera.project(points[None], height=SIZE * zoom, width=SIZE * zoom)
            picture = cv2.resize(portrait.image, None, fx=zoom, fy=zoom)
            for x, y in pixels[0].tolist():
                cv2.circle(picture, (round(x), round(y)), 2, (0, 255, 0), -1)
            row.append(picture[100:824, 180:844])
        rows.append(np.concatenate(row, 1))
    folder.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(folder / "open_head_landmarks.png"), np.concatenate(rows)[..., ::-1])
