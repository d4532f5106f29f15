"""SimHash codes of states (Charikar, STOC 2002) and buckets of equal codes (GPVD, Eq. 5 and 6).

A code is k bits in W = ceil(k / 32) uint32 words: bit i is in word i // 32 at position i % 32.
Axes in comments: N transitions, D state size, W words.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.envs.api import OneHot
from gpgrad.methods.nets.layers import pick_rows

Preprocessing = Literal["identity", "zscore", "center"]

_GRID = 2.0**12
_WORD = 32


class Hash(NamedTuple):
    """What turns a state into a code: bit i is 1 where projection[i] . state >= threshold[i].

    projection: float32 [k, D]. threshold: float32 [k].
    """

    projection: jax.Array
    threshold: jax.Array


def make_hash(key: jax.Array, k: int, size: int) -> Hash:
    """A Gaussian projection, never trained.

    Entries are rounded to a grid of 2^-12, so that sums of a few dozen of them are exact: a one-hot state has the same
    code whatever the order of its positions, the shape of the batch and the device.

    Source: GPVD (AAAI 2026), Eq. 5, the matrix A.
    """
    gaussian = jax.random.normal(key, (k, size))
    return Hash(jnp.round(gaussian * _GRID) / _GRID, jnp.zeros(k))


def codes(projection: jax.Array, states: jax.Array | OneHot, threshold: jax.Array | float = 0.0) -> jax.Array:
    """Codes of states [..., D] or a OneHot [..., M]: uint32 [..., W]; a projection of exactly 0 gives the bit 1.

    The state of all zeros has all bits set, and so has padding: mask it.

    Source: GPVD (AAAI 2026), Eq. 5; SimHash (Charikar, STOC 2002).
    """
    k = projection.shape[0]
    spare = (0, -k % _WORD)  # bits that never reach their threshold fill the last word: whole words gather faster
    kernel = jnp.pad(projection, (spare, (0, 0))).T
    if isinstance(states, OneHot):
        scores = pick_rows(kernel, states.index)
    else:
        scores = jnp.matmul(states, kernel, precision="highest")
    return _pack(scores >= jnp.pad(jnp.broadcast_to(threshold, k), spare, constant_values=jnp.inf))


def _pack(bits: jax.Array) -> jax.Array:
    """Bits, bool [..., 32 W], as words: uint32 [..., W]."""
    bits = bits.reshape(*bits.shape[:-1], -1, _WORD).astype(jnp.uint32)
    return jnp.sum(bits << jnp.arange(_WORD, dtype=jnp.uint32), axis=-1, dtype=jnp.uint32)


def standardise(hashing: Hash, g: Preprocessing, states: jax.Array | OneHot, valid: jax.Array) -> Hash:
    """The hash of g(state), with g's statistics from these states [..., D] where `valid` [...].

    center: g(s) = s - mean. zscore: g(s) = (s - mean) / std; an entry that never varies here is only centred, since
    its first change later would outweigh everything else. Both are linear, so they go into projection and threshold:
    a . (s - mean) * scale >= 0 is (a scale) . s >= (a scale) . mean.

    Source: GPVD (AAAI 2026), Eq. 5, the preprocessing g.
    """
    if g == "identity":
        return hashing
    mean, variance = moments(states, valid)
    scale = jnp.where(variance > 1e-12, jax.lax.rsqrt(jnp.maximum(variance, 1e-12)), 1.0) if g == "zscore" else 1.0
    projection = hashing.projection * scale
    return Hash(projection, jnp.einsum("kd,d->k", projection, mean, precision="highest"))


def moments(states: jax.Array | OneHot, valid: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and variance [D] of each entry over valid states; zeros if there is none."""
    count = jnp.maximum(valid.sum(), 1)
    if isinstance(states, OneHot):
        index = jnp.where(valid[..., None], states.index, states.size).astype(jnp.int32)
        index = jnp.where(index < 0, states.size, index)
        mean = jnp.zeros(states.size).at[index.reshape(-1)].add(1.0, mode="drop") / count
        return mean, mean * (1.0 - mean)
    axes = tuple(range(valid.ndim))
    keep = valid[..., None]
    mean = jnp.sum(jnp.where(keep, states, 0.0), axes) / count
    return mean, jnp.sum(jnp.where(keep, jnp.square(states - mean), 0.0), axes) / count


def make_salts(key: jax.Array, size: int) -> jax.Array:
    """Random words for `fingerprints`, uint32 [D, 2]."""
    return jax.random.bits(key, (size, 2))


def fingerprints(salts: jax.Array, states: jax.Array | OneHot) -> jax.Array:
    """64 bits that tell states apart exactly but for a chance of 2^-64 a pair: uint32 [..., 2].

    Sums of one random word per entry, a function of the entry's bits; a one-hot entry is its position alone.
    """
    if isinstance(states, OneHot):
        return pick_rows(salts, states.index)
    bits = jax.lax.bitcast_convert_type(states + 0.0, jnp.uint32)  # makes -0 the same as 0
    return jnp.stack([jnp.sum(scramble(bits + salts[:, w]), -1, dtype=jnp.uint32) for w in range(2)], -1)


def scramble(x: jax.Array) -> jax.Array:
    """MurmurHash3's finaliser: a permutation of the 32-bit words in which every bit matters to every other."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def bucket_ids(words: jax.Array, valid: jax.Array) -> jax.Array:
    """Dense ids of equal codes: words uint32 [N, W], valid bool [N] to int32 [N].

    0, 1, ... among valid rows, ascending with the code whose last word counts most; -1 where a row is not valid.
    Words are taken into the rank piece by piece, because sorting one integer array and searching in it is an order
    of magnitude faster on the CPU than sorting rows of several keys.

    Source: GPVD (AAAI 2026), Eq. 6, the groups D_phi(s) within a batch.
    """
    n, width = words.shape
    last = jnp.uint32(2**_WORD - 1)
    ids = ranks(jnp.where(valid, words[:, -1], last))
    room = _WORD - n.bit_length()  # bits beside a rank in one word
    for column in reversed(range(width - 1)):
        for low in reversed(range(0, _WORD, room)):
            high = min(low + room, _WORD)
            piece = (words[:, column] >> low) & jnp.uint32(2 ** (high - low) - 1)
            ids = ranks(jnp.where(valid, (ids << (high - low)) | piece, last))
    return jnp.where(valid, ids.astype(jnp.int32), -1)


def ranks(keys: jax.Array) -> jax.Array:
    """How many different keys are smaller than each, uint32 [N] to uint32 [N]."""
    ordered = jnp.sort(keys)
    new = jnp.concatenate([jnp.zeros(1, bool), ordered[1:] != ordered[:-1]])
    return jnp.cumsum(new, dtype=jnp.uint32)[jnp.searchsorted(ordered, keys)]
