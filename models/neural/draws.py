"""Random numbers that are a function of what they are for: no generator has a state.

Conventions
-----------
- A key is what a draw is for: seed, fold, purpose, and the step or epoch. The same key gives the
  same numbers on every machine and in every order; no two purposes share one.
- Streams are SplitMix64 (Steele, Lea and Flood 2014), started from a hash of the key.
- numpy only. Masks of dropout are made on the device of the network, of the same integers there
  (`models.neural.stacks.kept`).
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

GOLDEN = 0x9E3779B97F4A7C15
MIXES = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
LAST_SHIFT = 31

Part = str | int


def hashed(key: tuple[Part, ...], n_bytes: int = 8) -> int:
    """A whole number from 0 to 256**n_bytes - 1 for a key.

    Examples
    --------
    >>> hashed((1, "23")) == hashed((12, "3"))
    False
    """
    text = json.dumps(key).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=n_bytes).digest(), "little")


def stream(start: int, n: int) -> NDArray[np.uint64]:
    """The first n numbers of SplitMix64.

    Parameters
    ----------
    start : int
        From 0 to 2**64 - 1.
    n : int

    Returns
    -------
    uint64, shape (n,)

    Examples
    --------
    >>> stream(1234567, 2).tolist()
    [6457827717110365317, 3203168211198807973]
    """
    z = np.arange(1, n + 1, dtype=np.uint64)
    z *= np.uint64(GOLDEN)
    z += np.uint64(start)
    for shift, factor in MIXES:
        z ^= z >> np.uint64(shift)
        z *= np.uint64(factor)
    z ^= z >> np.uint64(LAST_SHIFT)
    return z


def uniform(n: int, *key: Part) -> NDArray[np.float64]:
    """Numbers in [0, 1), equally likely; shape (n,)."""
    return (stream(hashed(key), n) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def order(n: int, *key: Part) -> NDArray[np.int64]:
    """An order of 0 to n - 1, each equally likely; shape (n,)."""
    return np.argsort(stream(hashed(key), n), kind="stable")


def beta(alpha: float, *key: Part) -> float:
    """A draw of the symmetric beta distribution, by its quantile function."""
    return float(betaincinv(alpha, alpha, uniform(1, *key)[0]))
