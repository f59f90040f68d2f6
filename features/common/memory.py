"""Memory that ran out, told in one line: what was asked for, what there is, what to do."""

from __future__ import annotations

import errno
import os
import traceback
from pathlib import Path

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

_KILLED = ("TerminatedWorkerError", "BrokenProcessPool")
"""What pools raise when a process of theirs is gone: most often the system took its memory back."""
_WORDS = ("can't start new thread", "cannot allocate memory", "failed to map segment",
          "can't allocate memory")  # fmt: skip
"""Of errors of other kinds that say the same, in lower case."""
_ROOMS = Path(__file__).parents[2]


def out_of_memory(error: BaseException) -> str | None:
    """One line on an error that memory is behind; None of any other.

    Parameters
    ----------
    error : BaseException
        Its causes and contexts are looked at, too.

    Returns
    -------
    str or None
        Where it happened, what was refused, what is left, and the ways out.

    Examples
    --------
    >>> out_of_memory(ValueError("other")) is None
    True
    >>> out_of_memory(MemoryError("no room"))[:21]
    'out of memory: no roo'
    """
    cause: BaseException | None = error
    while cause is not None:
        what = _what(cause)
        if what:
            return f"out of memory{_where(cause)}: {what}{_limits()}; {WAYS_OUT}"
        cause = cause.__cause__ or cause.__context__
    return None


WAYS_OUT = (
    "give it more (ulimit -v, the job's --mem), fewer processes (JOBS=1, each holds rows of its "
    "own), or ask for less at once: fewer layers, a split of fewer folds. What is finished is kept"
)


def _what(error: BaseException) -> str:
    text = str(error).splitlines()[0] if str(error) else ""
    if isinstance(error, MemoryError):
        return text or "an allocation was refused"
    if type(error).__name__ in _KILLED:
        return "a process of ours was killed, as systems do that run out of it"
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return error.strerror or text
    if isinstance(error, RuntimeError | ImportError) and any(w in text.lower() for w in _WORDS):
        return text
    return ""


def _where(error: BaseException) -> str:
    """The last of our own functions that the error came through."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_relative_to(_ROOMS) and ".venv" not in path.parts:
            return f" in {path.relative_to(_ROOMS)}, {frame.name}"
    return ""


def _gb(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.1f} GB"


def _limits() -> str:
    """What the process may take, and what the machine has left."""
    found = []
    if resource is not None:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        if limit != resource.RLIM_INFINITY:
            found.append(f"the process may take {_gb(limit)}")
    names = {"SC_AVPHYS_PAGES", "SC_PAGE_SIZE"}
    if names <= set(os.sysconf_names):
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        found.append(f"{_gb(free)} of the machine are free")
    return f" ({', '.join(found)})" if found else ""
