"""Attention whose projections are moved to the keys and values is the same attention."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from portrait4d.reconstructor.attention import Attention


def _plain(attention: Attention, x: Tensor, others: Tensor) -> Tensor:
    """Queries, keys and values in full, as Vaswani et al. 2017, section 3.2 has them."""
    keys, values = attention.kv(others).chunk(2, -1)
    parts = (part.unflatten(2, (attention.num_heads, -1)).transpose(1, 2) for part in (attention.q(x), keys, values))
    return attention.proj(F.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2))


@pytest.mark.parametrize("num_others", [3, 40])  # few are folded, many are not
def test_cross_attention_and_its_gradients(num_others: int) -> None:
    torch.manual_seed(0)
    attention = Attention(64, num_heads=4).double()
    x = torch.randn(2, 12, 64, dtype=torch.float64, requires_grad=True)
    others = torch.randn(2, num_others, 64, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 12, 64, dtype=torch.float64)
    wanted = (x, others, *attention.parameters())
    found, expected = attention(x, others, height=3, width=4), _plain(attention, x, others)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    assert expected.std() > 0.1
    for one, other in zip(
        *(torch.autograd.grad((value * weight).sum(), wanted) for value in (found, expected)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_few_others_take_less_work(monkeypatch: pytest.MonkeyPatch) -> None:
    attention, counted = Attention(64, num_heads=4), []
    plain = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *parts: counted.append(0) or plain(*parts))
    x = torch.randn(1, 12, 64)
    for others, calls in ((torch.randn(1, 3, 64), 0), (torch.randn(1, 40, 64), 1), (None, 2)):
        attention(x, others, height=3, width=4)
        assert len(counted) == calls
