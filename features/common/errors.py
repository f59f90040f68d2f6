"""Errors that are the user's to mend: one line that says what, where and what to do next.

Every command prints them without a traceback and exits with 1. Anything else that is raised is a
fault of the program and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Base of everything that a command reports in one line."""


class RecipeError(UserError):
    """A recipe has faults; the message lists all of them."""


class CorpusError(UserError):
    """A corpus is missing, or its files contradict each other."""


class ModelError(UserError):
    """A speech model is unknown, cannot be loaded, or is not what the registry says."""


class AudioError(UserError):
    """One utterance's audio cannot be used; it goes to the failures file."""


class StoreError(UserError):
    """A store is missing, damaged, unfinished or made with other settings."""


class RunError(UserError):
    """A run is missing, stale or contradicts another."""


class OutdatedError(RunError):
    """Scores are missing, or of other predictions; the text ends with the command that mends it."""


class ClusterError(UserError):
    """Workers cannot be had, or were lost; or what the user said about them has faults."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest known names for one that is misspelt, or is a part of theirs between hyphens.

    Returns
    -------
    str
        `"; did you mean 'x'?"`, or an empty string where nothing is near.

    Examples
    --------
    >>> nearest("xlsr-1B", ["xlsr-1b", "mfcc"])
    "; did you mean 'xlsr-1b'?"
    >>> nearest("f1", ["uar", "macro-f1"])
    "; did you mean 'macro-f1'?"
    >>> nearest("zzz", ["xlsr-1b", "mfcc"])
    ''
    """
    folded = {name.lower(): name for name in known}
    found = difflib.get_close_matches(name.lower(), folded, n=2, cutoff=0.6)
    if not found:
        found = [whole for whole in folded if name.lower() in whole.split("-")][:2]
    if not found:
        return ""
    return "; did you mean " + " or ".join(f"'{folded[match]}'" for match in found) + "?"


def first_line(error: BaseException) -> str:
    r"""The first line of an error's text, or the name of its type where it has none.

    Examples
    --------
    >>> first_line(OSError("gone\nsince when?")), first_line(KeyError())
    ('gone', 'KeyError')
    """
    return (str(error).splitlines() or [type(error).__name__])[0]
