"""The compiled samples by weight against torch's."""

import pytest
import torch

from portrait4d.render.sampling import weighted_depths


@pytest.mark.parametrize(("num_samples", "num_fine"), [(10, 10), (4, 3), (48, 1)])
def test_numba_places_samples_where_torch_does(num_samples: int, num_fine: int) -> None:
    torch.manual_seed(0)
    depths = torch.rand(2, 50, num_samples).sort(-1).values
    weights = torch.rand(2, 50, num_samples - 1).pow(8)
    weights[0, :10] = 0
    noise = torch.rand(2, 50, num_fine)
    noise[0, 0, 0] = 0
    found, expected = (weighted_depths(depths, weights, noise, backend=name) for name in ("numba", "torch"))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_numba_is_refused_where_it_does_not_fit() -> None:
    with pytest.raises(ValueError, match="four samples"):
        weighted_depths(torch.rand(1, 2, 3), torch.rand(1, 2, 2), torch.rand(1, 2, 4), backend="numba")
    with pytest.raises(ValueError, match="float32"):
        weighted_depths(*(torch.rand(1, 2, n).double() for n in (6, 5, 4)), backend="numba")
