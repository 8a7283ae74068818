"""Landmarks from kept tables are those of the head model's own vertices, whatever was asked for before."""

import torch

from flame.heads.head_model import HeadModel
from flame.heads.open_head import load_open_head
from preprocess.tracking.landmark_table import landmark_positions


def directly(model: HeadModel, shape: torch.Tensor, expression: torch.Tensor) -> torch.Tensor:
    embedding = model.landmark_embedding(478)
    vertices = model.shaped(shape.expand(len(expression), -1), expression)
    return (vertices[:, model.faces[embedding.faces]] * embedding.barycentric[..., None]).sum(2)


def test_many_shapes_and_expressions_in_any_order() -> None:
    model = load_open_head()
    generator = torch.Generator().manual_seed(0)
    shapes = torch.randn(12, model.num_shape, generator=generator)
    expression = torch.rand(3, model.num_expression, generator=generator)
    for index in (*range(12), 0, 5, 11, 0):
        found = landmark_positions(model, shapes[index], expression)
        assert (found - directly(model, shapes[index : index + 1], expression)).abs().max() < 1e-6


def test_what_is_returned_may_be_changed() -> None:
    model = load_open_head()
    shape, expression = torch.zeros(model.num_shape), torch.zeros(2, model.num_expression)
    with torch.inference_mode():
        landmark_positions(model, shape, expression).add_(1.0)
    again = landmark_positions(model, shape, expression)
    assert (again - directly(model, shape[None], expression)).abs().max() < 1e-6
    (again * torch.ones(1, requires_grad=True)).sum().backward()
