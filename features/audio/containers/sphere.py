"""NIST SPHERE files: a header of text that counts the samples, which libsndfile does not read."""

from __future__ import annotations

import re

from features.audio.containers.parts import WHOLE, Bytes, Part
from features.common.errors import AudioError

# Libsndfile writes one of them as text (-s1).
_FIELD = re.compile(
    rb"^(sample_count|sample_n_bytes|channel_count) -(?:i|s\d+) (\d{1,18})\s*$", re.MULTILINE
)


def parts(file: Bytes, start: int, stop: int) -> list[Part]:
    """The file, or its samples alone where something lies behind them.

    Parameters
    ----------
    file : Bytes
    start, stop : int
        First byte, and the one behind the last.

    Returns
    -------
    list of Part
        In the order of the file; `[WHOLE]` where it is to be decoded as it is.

    Raises
    ------
    AudioError
        Samples are missing, or behind them is something that may be samples.
    """
    size = file.at(start + 8, 8).strip()
    header = int(size) if size.isdigit() else 1024
    text = file.at(start, min(header, 1 << 16))
    fields = {name: int(n) for name, n in _FIELD.findall(text)}
    if len(fields) < 3 or b"shorten" in text:
        return [WHOLE]
    n_bytes = fields[b"sample_count"] * fields[b"sample_n_bytes"] * fields[b"channel_count"]
    there = stop - start - header
    if n_bytes > there:
        raise AudioError(
            f"cut short: its header promises {n_bytes} bytes of samples, {max(there, 0)} are there"
        )
    if n_bytes == there or n_bytes == 0:
        return [WHOLE]
    if there - n_bytes >= 8 and file.at(start + header + n_bytes, 1 << 16).strip(b"\0"):
        raise AudioError(
            f"its header promises {n_bytes} bytes of samples, and behind them are "
            f"{there - n_bytes} that may be samples, too: correct its sample_count, or cut them off"
        )
    return [Part(start, start + header + n_bytes)]
