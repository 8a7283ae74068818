"""Scale, noise, bias, leaky ReLU, gain and clamp of a picture in one pass, and its gradients, compiled by numba.

Pictures have their channels last, as rows `[B * H * W, C]`. Products and sums are rounded one by one, as torch does.
"""

import numpy as np

from flame.compiled import compiled

ZERO = np.float32(0)


@compiled(error_model="numpy")
def activate(x, scale, noise, bias, slope, gain, clamp, found, begin, stop):
    """Writes `clamp(gain * leaky(x * scale + noise + bias))` of the rows `begin` to `stop`.

    Args:
        x: `[B * P, C]`, P pixels a sample.
        scale: `[B, C]`, or `[0, C]` for none.
        noise: `[B * P]`, or `[0]` for none.
        bias: `[C]`.
        slope: below zero.
        gain: after it.
        clamp: of the result's absolute value; infinity for none.
        found: written, `[B * P, C]`.
        begin: first row.
        stop: one after the last row.
    """
    pixels = len(x) // max(len(scale), 1)
    for row in range(begin, stop):
        source, result = x[row], found[row]
        extra = noise[row] if len(noise) else ZERO
        factors = scale[row // pixels] if len(scale) else bias
        for channel in range(len(bias)):
            value = source[channel]
            if len(scale):
                value *= factors[channel]
            value = (value + extra) + bias[channel]
            value = (value if value > ZERO else value * slope) * gain
            value = clamp if value > clamp else value  # not a number stays what it is
            result[channel] = -clamp if value < -clamp else value


@compiled(error_model="numpy", fastmath={"contract"})
def activate_backward(x, scale, found, given, slope, gain, clamp, of_x, of_scale, of_noise, of_bias, begin, stop):
    """Writes the gradients of `activate` for the samples `begin` to `stop`.

    Args:
        x: `[B * P, C]` as in `activate`.
        scale: as there.
        found: what `activate` wrote.
        given: `[B * P, C]` the loss's gradient there.
        slope: as there.
        gain: as there.
        clamp: as there.
        of_x: written, `[B * P, C]`.
        of_scale: added to, `[B, C]`, or `[0, C]`.
        of_noise: written, `[B * P]`, or `[0]`.
        of_bias: added to, `[B, C]`, to be summed over the samples.
        begin: first sample.
        stop: one after the last sample.
    """
    pixels = len(x) // len(of_bias)
    for sample in range(begin, stop):
        sums = of_bias[sample]
        for row in range(sample * pixels, (sample + 1) * pixels):
            total = ZERO
            for channel in range(len(sums)):
                value = given[row, channel] * (gain if found[row, channel] > ZERO else gain * slope)
                value = value if abs(found[row, channel]) < clamp else ZERO
                of_x[row, channel] = value
                sums[channel] += value
            if len(of_noise):
                for channel in range(len(sums)):
                    total += of_x[row, channel]
                of_noise[row] = total
            if len(scale):
                factors, products = scale[sample], of_scale[sample]
                for channel in range(len(sums)):
                    value = of_x[row, channel]
                    products[channel] += value * x[row, channel]
                    of_x[row, channel] = value * factors[channel]
