"""Loops of a training step on the CPU, each one pass over memory where PyTorch takes ten.

``exp`` and ``log1p`` are written out as series in single precision (relative error below 3e-7),
so that the compiler runs them over all vector lanes; sums of many terms are kept in double
precision. Values and gradients are formed in the same pass. The plain forms they are tested
against stand in ``likelihoods.py`` and in the tests.
"""

# Numba compiles a kernel for the arrays it is given: annotations would not be read.
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["edge_sweep", "nb_sweep", "posterior_backward", "posterior_forward", "rmsprop_sweep"]

_F = np.float32
_ONE, _TWO, _HALF, _ZERO = _F(1), _F(2), _F(0.5), _F(0)
_LOG2E, _LN2_HIGH, _LN2_LOW = _F(1.4426950408889634), _F(0.693145751953125), _F(1.4286068e-6)
_LN2 = _F(0.6931471805599453)
_LEAST, _LOWEST = _F(-87), _F(-3e38)
_C3, _C4, _C5, _C6, _C7 = _F(1 / 6), _F(1 / 24), _F(1 / 120), _F(1 / 720), _F(1 / 5040)
_A3, _A5, _A7, _A9 = _F(1 / 3), _F(1 / 5), _F(1 / 7), _F(1 / 9)
_STD_FLOOR = _F(1e-7)
_MOST_FACTORS = 32.0
_BLOCK = 4096

# Sums may use all vector lanes; the order is fixed by the machine, so bytes repeat.
_LANES = {"reassoc", "nsz", "nnan", "contract"}


@intrinsic
def _power_of_two(typing, n):  # type: ignore[no-untyped-def]
    """Return 2^n by writing the exponent of a float; whole numbers keep to 32 bits."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        whole = context.get_value_type(types.int32)
        bits = builder.shl(builder.add(arguments[0], whole(127)), whole(23))
        return builder.bitcast(bits, context.get_value_type(types.float32))

    return types.float32(types.int32), code


@intrinsic
def _exponent(typing, x):  # type: ignore[no-untyped-def]
    """Return n of x = 2^n m with m between the root of a half and the root of two."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        whole = context.get_value_type(types.int32)
        bits = builder.bitcast(arguments[0], whole)
        return builder.ashr(builder.sub(bits, whole(0x3F3504F3)), whole(23))

    return types.int32(types.float32), code


@intrinsic
def _negated(typing, n):  # type: ignore[no-untyped-def]
    """Return -n in 32 bits."""

    def code(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.neg(arguments[0])

    return types.int32(types.int32), code


@njit(cache=True, nogil=True, inline="always", error_model="numpy", fastmath={"contract"})
def _exp(x):  # type: ignore[no-untyped-def]
    """Return e^x for x of at most 0: two to a whole power times a short series."""
    x = max(x, _LEAST)
    n = np.int32(x * _LOG2E - _HALF)
    f = (x - _F(n) * _LN2_HIGH) - _F(n) * _LN2_LOW
    series = _C4 + f * (_C5 + f * (_C6 + f * _C7))
    series = _ONE + f * (_ONE + f * (_HALF + f * (_C3 + f * series)))
    return series * _power_of_two(n)  # type: ignore[call-arg]


@njit(cache=True, nogil=True, inline="always", error_model="numpy", fastmath={"contract"})
def _log1p(x):  # type: ignore[no-untyped-def]
    """Return log(1 + x) for x of at least 0: 1 + x = 2^n m, and log m by its atanh series."""
    n: int = _exponent(_ONE + x)  # type: ignore[call-arg]
    down = _power_of_two(_negated(n))
    m = x * down + (down - _ONE)
    t = m / (_TWO + m)
    q = t * t
    series = _ONE + q * (_A3 + q * (_A5 + q * (_A7 + q * _A9)))
    return _F(n) * _LN2 + _TWO * t * series


@njit(cache=True, nogil=True, error_model="numpy")
def _digamma(x):  # type: ignore[no-untyped-def]
    """Return the derivative of lgamma: stepped up to 6, then its asymptotic series."""
    total = 0.0
    while x < 6.0:
        total -= 1.0 / x
        x += 1.0
    q = 1.0 / (x * x)
    tail = q * (1 / 12 - q * (1 / 120 - q * (1 / 252 - q * (1 / 240 - q / 132))))
    return total + math.log(x) - 0.5 / x - tail


@njit(cache=True, nogil=True, error_model="numpy")
def _gammas(theta, x):  # type: ignore[no-untyped-def]
    """Return ``lgamma(theta + x) - lgamma(theta)`` and its derivative by theta."""
    if x <= _MOST_FACTORS and x == math.floor(x):
        product, slope = 1.0, 0.0
        value = 0.0
        for k in range(int(x)):
            product *= theta + k
            slope += 1.0 / (theta + k)
            if k & 7 == 7:
                value += math.log(product)
                product = 1.0
        return value + math.log(product), slope
    return math.lgamma(theta + x) - math.lgamma(theta), _digamma(theta + x) - _digamma(theta)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def _scaled_block(raw, scale, bias, logits, tops):  # type: ignore[no-untyped-def]
    for j in range(len(raw)):
        value = scale[j] * raw[j] + bias[j]
        logits[j] = value
        tops[j] = value if value > tops[j] else tops[j]


@njit(cache=True, nogil=True, error_model="numpy")
def _scaled_row(raw, scale, bias, logits, tops):  # type: ignore[no-untyped-def]
    """Write ``scale * raw + bias`` and return its largest; ``tops`` is room for a block."""
    tops[:] = _LOWEST
    for start in range(0, len(raw), len(tops)):
        part = slice(start, start + len(tops))
        _scaled_block(raw[part], scale[part], bias[part], logits[part], tops)
    return tops.max()


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def _weigh_block(logits, top):  # type: ignore[no-untyped-def]
    total = _ZERO
    for j in range(len(logits)):
        value = _exp(logits[j] - top)
        logits[j] = value
        total += value
    return total


@njit(cache=True, nogil=True, error_model="numpy")
def _weigh_row(logits, top):  # type: ignore[no-untyped-def]
    """Turn logits into ``exp(logit - top)`` and return their sum."""
    total = 0.0
    for start in range(0, len(logits), _BLOCK):
        total += _weigh_block(logits[start : start + _BLOCK], top)
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def _zero_block(weights, factor, theta, slopes, by_theta):  # type: ignore[no-untyped-def]
    total, total_slope = _ZERO, _ZERO
    for j in range(len(weights)):
        ratio = weights[j] * factor / theta[j]
        value = theta[j] * _log1p(ratio)
        slope = theta[j] * (ratio / (_ONE + ratio))
        total += value
        total_slope += slope
        slopes[j] = slope
        by_theta[j] += value - slope
    return total, total_slope


@njit(cache=True, nogil=True, error_model="numpy")
def _zero_terms(weights, factor, theta, slopes, by_theta):  # type: ignore[no-untyped-def]
    """Add up ``theta log(1 + mu / theta)`` over a row and write its slope by log mu."""
    total, total_slope = 0.0, 0.0
    for start in range(0, len(weights), _BLOCK):
        part = slice(start, start + _BLOCK)
        value, slope = _zero_block(weights[part], factor, theta[part], slopes[part], by_theta[part])
        total += value
        total_slope += slope
    return total, total_slope


@njit(cache=True, nogil=True, error_model="numpy")
def _count_terms(columns, values, weights, factor, theta, slopes, by_theta):  # type: ignore[no-untyped-def]
    """Correct the row at its counts: what they add to the loss and to the sum of slopes."""
    total, total_slope = 0.0, 0.0
    for k in range(len(columns)):
        j, x = columns[k], float(values[k])
        own = float(theta[j])
        mean = max(float(weights[j]) * factor, 1e-37)
        kept = x * own / (own + mean)
        if x == 1.0:  # most counts of peaks
            slope_gammas = 1.0 / own
            total += math.log((own + mean) / (own * mean))
        else:
            log_gammas, slope_gammas = _gammas(own, x)
            total += x * math.log((own + mean) / mean) + math.lgamma(x + 1.0) - log_gammas
        slopes[j] -= _F(kept)
        total_slope -= kept
        by_theta[j] += _F(kept - own * slope_gammas)
    return total, total_slope


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def _finish_row(raw, scale, weights, slopes, share, by_scale, by_bias):  # type: ignore[no-untyped-def]
    """Carry the slopes through the softmax, and write them over ``raw``."""
    for j in range(len(raw)):
        slope = slopes[j] - weights[j] * share
        by_bias[j] += slope
        by_scale[j] += slope * raw[j]
        raw[j] = slope * scale[j]


@njit(cache=True, nogil=True, error_model="numpy")
def nb_sweep(  # type: ignore[no-untyped-def]
    raw,
    scale,
    bias,
    theta,
    batch,
    library,
    rows,
    indptr,
    indices,
    counts,
    by_scale,
    by_bias,
    by_theta,
):
    """Return the summed NB loss of cells with mean ``library * softmax(scale * raw + bias)``.

    ``raw`` (cells x features) becomes the gradient by itself; gradients by scale, bias and
    log theta are added to ``by_...``. Rows of ``scale``, ``bias`` and ``theta`` are batches;
    ``rows`` are the cells' rows in the counts.
    """
    n_features = raw.shape[1]
    weights = np.empty(n_features, dtype=np.float32)
    slopes = np.empty(n_features, dtype=np.float32)
    tops = np.empty(min(_BLOCK, n_features), dtype=np.float32)
    loss = 0.0
    for i in range(len(rows)):
        b, at = batch[i], slice(indptr[rows[i]], indptr[rows[i] + 1])
        top = _scaled_row(raw[i], scale[b], bias[b], weights, tops)
        norm = _weigh_row(weights, top)
        factor = library[i] / norm
        value, slope = _zero_terms(weights, _F(factor), theta[b], slopes, by_theta[b])
        more, more_slope = _count_terms(
            indices[at], counts[at], weights, factor, theta[b], slopes, by_theta[b]
        )
        loss += value + more
        share = _F((slope + more_slope) / norm)
        _finish_row(raw[i], scale[b], weights, slopes, share, by_scale[b], by_bias[b])
    return loss


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def posterior_forward(mean_and_raw, bias, noise, std_floor, sample):  # type: ignore[no-untyped-def]
    """Write ``mean + softplus(raw) * noise`` into ``sample`` and return the divergence.

    ``mean_and_raw`` holds both side by side, ``bias`` is added to it in place.
    """
    m = noise.shape[1]
    total = np.float64(0)
    for i in range(len(noise)):
        partial = _ZERO
        for j in range(m):
            mean = mean_and_raw[i, j] + bias[j]
            raw = mean_and_raw[i, m + j] + bias[m + j]
            mean_and_raw[i, j] = mean
            mean_and_raw[i, m + j] = raw
            std = max(raw, _ZERO) + _log1p(_exp(-abs(raw))) + std_floor
            sample[i, j] = mean + std * noise[i, j]
            # log std by log1p: of std - 1 above 1, of 1 / std - 1 below
            log_std = _log1p(max(std - _ONE, _ZERO)) - _log1p(max(_ONE / std - _ONE, _ZERO))
            partial += mean * mean + std * std - _TWO * log_std - _ONE
        total += partial
    return 0.5 * total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def posterior_backward(mean_and_raw, noise, std_floor, by_sample, by_divergence, out):  # type: ignore[no-untyped-def]
    """Write the gradient by mean and raw, given those by the sample and by the divergence."""
    m = noise.shape[1]
    for i in range(len(noise)):
        for j in range(m):
            raw = mean_and_raw[i, m + j]
            small = _exp(-abs(raw))
            std = max(raw, _ZERO) + _log1p(small) + std_floor
            slope = (_ONE if raw > 0 else small) / (_ONE + small)
            out[i, j] = by_sample[i, j] + by_divergence * mean_and_raw[i, j]
            by_std = by_sample[i, j] * noise[i, j] + by_divergence * (std - _ONE / std)
            out[i, m + j] = by_std * slope


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = _F(0)
    for j in range(len(a)):
        total += a[j] * b[j]
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def _add_scaled(out, factor, values):  # type: ignore[no-untyped-def]
    for j in range(len(out)):
        out[j] += factor * values[j]


@njit(cache=True, nogil=True, error_model="numpy")
def edge_sweep(vectors, sources, targets, signs, n_positive, out):  # type: ignore[no-untyped-def]
    """Return the mean loss of telling edges from others, positives and negatives weighing alike.

    Adds the gradient by ``vectors`` to ``out``.
    """
    n = len(sources)
    shares = (0.5 / n_positive, 0.5 / max(n - n_positive, 1))
    if n == n_positive:
        shares = (1.0 / n_positive, 0.0)
    total = 0.0
    for k in range(n):
        truth = signs[k] if k < n_positive else -signs[k]
        logit = truth * _dot(vectors[sources[k]], vectors[targets[k]])
        small = math.exp(-abs(logit))
        share = shares[0] if k < n_positive else shares[1]
        total += share * (max(-logit, 0.0) + math.log1p(small))
        wrong = (small if logit > 0 else 1.0) / (1.0 + small)
        factor = _F(-share * wrong * truth)
        _add_scaled(out[sources[k]], factor, vectors[targets[k]])
        _add_scaled(out[targets[k]], factor, vectors[sources[k]])
    return total


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_LANES)
def rmsprop_sweep(values, gradient, squares, rate, decay, floor, shrink):  # type: ignore[no-untyped-def]
    """Take one step of RMSprop, the gradient times ``shrink``, in place."""
    for i in range(len(values)):
        g = gradient[i] * shrink
        square = decay * squares[i] + (_ONE - decay) * g * g
        squares[i] = square
        values[i] -= rate * g / (np.sqrt(square) + floor)


@njit(cache=True, nogil=True)
def exp_of(values):  # type: ignore[no-untyped-def]
    """Return e^x of each value of at most 0, as the loops above form it."""
    out = np.empty_like(values)
    for i in range(len(values)):
        out[i] = _exp(values[i])
    return out


@njit(cache=True, nogil=True)
def log1p_of(values):  # type: ignore[no-untyped-def]
    """Return log(1 + x) of each value of at least 0, as the loops above form it."""
    out = np.empty_like(values)
    for i in range(len(values)):
        out[i] = _log1p(values[i])
    return out
