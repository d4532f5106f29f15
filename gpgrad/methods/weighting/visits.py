"""How often each code was visited since a run began, N(phi(s)) of GPVD's bonus (Eq. 9).

Short codes are counted in a table of all of them, longer ones in a hash table with open addressing whose size follows
the length of the run. Both are exact. The hash table keeps the whole code beside its count, so two codes never share a
count; what it can do is run out of probes. With 1.5 slots per step of the run and 8 probes, a run in which every step
visits another code leaves 0.4 percent of them without a slot (measured at 100,000, 2M and 10M steps); these read as not
counted, which the bonus takes for one visit, and one visit is what they have. A count-min sketch with conservative
update is not exact: it needs 24 bytes per step where the table has 12 (codes up to 32 bits) or 18, and then still reads
one new code in twenty as visited before at the end of such a run.

Axes in comments: N codes, W words of a code, M slots, P probes.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from gpgrad.methods.weighting.simhash import scramble

EXACT_BITS = 20  # codes up to this length always have a table of all of them, 4 MiB at most
PROBES = 8
_LEAST, _MOST = 2**10, 2**30  # slots
_WORD = 32


class Counts(NamedTuple):
    """table: int32 [M], visits of the code in each slot. keys: uint32 [M, W], that code, anything where the table has
    0; None where the slot is the code itself.
    """

    table: jax.Array
    keys: jax.Array | None


def make_counts(k: int, steps: int) -> Counts:
    """No visits of codes of k bits yet, with room for `steps` different codes."""
    width = -(-k // _WORD)
    slots = min(max(_LEAST, 3 * steps // 2), _MOST)
    if k <= EXACT_BITS or 2**k <= slots * (1 + width):  # a slot of the hash table has 1 + W words
        return Counts(jnp.zeros(2**k, jnp.int32), None)
    return Counts(jnp.zeros(slots, jnp.int32), jnp.zeros((slots, width), jnp.uint32))


def count_visits(counts: Counts, words: jax.Array, valid: jax.Array, times: jax.Array | int = 1) -> Counts:
    """Add visits of the valid codes: words uint32 [..., W], valid bool [...], times int32 [...] or one number.

    Each repeat of a code within the batch counts. Rows look for their slots at the same time: a row that meets a free
    slot claims it by writing row - N, the lowest row wins, and rows of the same code share its claim.

    Source: GPVD (AAAI 2026), N(phi(s)) of Eq. 9; counts by hash codes (Tang et al., NeurIPS 2017).
    """
    words, valid = words.reshape(-1, words.shape[-1]), valid.reshape(-1)  # [N, W], [N]
    times = jnp.broadcast_to(jnp.asarray(times, jnp.int32).reshape(-1), valid.shape)
    if counts.keys is None:
        place = jnp.where(valid, words[:, 0].astype(jnp.int32), len(counts.table))
        return Counts(counts.table.at[place].add(times, mode="drop"), None)
    probes, keys = _probes(words, len(counts.table)), counts.keys
    slots, rows = len(counts.table), jnp.arange(len(words), dtype=jnp.int32)

    def probe(i: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        table, place = carry
        at = probes[i]
        searching = valid & (place == slots)
        free = searching & (table[at] == 0)
        table = table.at[jnp.where(free, at, slots)].min(rows - len(rows), mode="drop")
        found = table[at]
        key = jnp.where((found < 0)[:, None], words[found + len(rows)], keys[at])
        return table, jnp.where(searching & (key == words).all(-1), at, place)

    table, place = jax.lax.fori_loop(0, PROBES, probe, (counts.table, jnp.full(len(words), slots, jnp.int32)))
    table = table.at[place].max(0, mode="drop").at[place].add(times, mode="drop")  # claims become 0, then visits
    return Counts(table, keys.at[place].set(words, mode="drop"))


def visits(counts: Counts, words: jax.Array) -> jax.Array:
    """Visits of codes uint32 [..., W]: int32 [...], 0 for those that were never counted or found no slot.

    Source: GPVD (AAAI 2026), N(phi(s)) of Eq. 9.
    """
    if counts.keys is None:
        return counts.table[words[..., 0].astype(jnp.int32)]
    slots = len(counts.table)
    place = jnp.full(words.shape[:-1], slots, jnp.int32)
    for at in _probes(words, slots):
        place = jnp.where((place == slots) & (counts.keys[at] == words).all(-1), at, place)
    return counts.table.at[place].get(mode="fill", fill_value=0)


def resize(counts: Counts, empty: Counts) -> Counts:
    """The same visits in `empty`, which was made for as many steps or more."""
    if counts.table.shape == empty.table.shape:
        return counts
    assert counts.keys is not None, "a table of all codes has one size"
    return count_visits(empty, counts.keys, counts.table > 0, counts.table)


def _probes(words: jax.Array, slots: int) -> jax.Array:
    """Where codes [..., W] look for their slot, one after another: int32 [P, ...] (double hashing)."""
    mixed = jnp.zeros(words.shape[:-1], jnp.uint32)
    for column in range(words.shape[-1]):
        mixed = scramble(mixed ^ words[..., column])
    first, stride = mixed % slots, 1 + scramble(mixed ^ jnp.uint32(0x9E3779B9)) % (slots - 1)
    steps = [first]
    for _ in range(PROBES - 1):
        steps.append((steps[-1] + stride) % slots)
    return jnp.stack(steps).astype(jnp.int32)
