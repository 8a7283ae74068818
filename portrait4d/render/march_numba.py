"""The weighted sum along rays of `march.py` and its gradients, compiled by numba at first use."""

from flame.compiled import compiled


@compiled(error_model="numpy", fastmath={"contract"})
def add_along_rays(shares, features, found, begin, stop):
    """Writes `sum_k shares[k] features[k]` of the rays `begin` to `stop`.

    Args:
        shares: `[N, K]`.
        features: `[N, K, C]`.
        found: written, `[N, C]`.
        begin: first ray.
        stop: one after the last ray.
    """
    for ray in range(begin, stop):
        total = found[ray]
        total[:] = 0
        for k in range(shares.shape[1]):
            share, row = shares[ray, k], features[ray, k]
            for channel in range(len(total)):
                total[channel] += share * row[channel]


@compiled(error_model="numpy", fastmath={"contract", "reassoc"})
def add_along_rays_backward(shares, features, given, of_shares, of_features, begin, stop):
    """Writes the gradients of both for the loss's gradient `given`, `[N, C]`."""
    for ray in range(begin, stop):
        line = given[ray]
        for k in range(shares.shape[1]):
            share, row, target = shares[ray, k], features[ray, k], of_features[ray, k]
            total = line[0] * row[0]
            target[0] = share * line[0]
            for channel in range(1, len(line)):
                total += line[channel] * row[channel]
                target[channel] = share * line[channel]
            of_shares[ray, k] = total
