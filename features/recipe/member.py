"""A member: the name of a head's run, which is its folder below `runs/<recipe>`.

Conventions
-----------
- `<model>[@<layer>][@<head>][@s<seed>]`: `mfcc`, `xlsr-1b@12`, `xlsr-1b@6+12@svm`. Fusion, subsets,
  statistics and reports name runs so.
- The default layer, `last`, goes unsaid, and so does the head of a recipe that has one, `[head]`.
- A head's name can be told from a layer and a seed, so that a part that is left out leaves no gap.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from features.common.sections import names_folder

LAST = "last"
"""The layer that a member has where it says none."""

BEST = "best"
"""The layer that is chosen in every fold, made of the runs of all stored ones."""

NAMED_LAYERS = (LAST, "mean", "weighted", BEST)
"""Of `[head] layer`: the last one, the plain mean of 1..L, a convex weighting of all stored ones,
learned by every fold on its training rows, and the one that every fold chooses on them."""

SIDE_BY_SIDE = re.compile(r"(0|[1-9]\d*)(\+(0|[1-9]\d*))+", re.ASCII)
"""`"6+12"`: the columns of several layers side by side."""

_INDEX, _SEED = (re.compile(form, re.ASCII) for form in (r"\d+", r"s(\d+)"))
_TEST = "test"
"""Will stand for runs whose step was chosen on the rows that they are scored on."""


@dataclass(frozen=True)
class Member:
    """Whose run it is.

    Attributes
    ----------
    model : str
        A speech model, or `a+b`.
    layer : int or str
        As `[head] layer` has it.
    head : str
        Of `[heads.NAME]`; empty for `[head]`.
    seed : int or None
        Of a head that is fitted with several.
    """

    model: str
    layer: int | str = LAST
    head: str = ""
    seed: int | None = None

    @classmethod
    def parse(cls, text: str) -> Member:
        """Read a member's name.

        Raises
        ------
        ValueError
            It is none.

        Examples
        --------
        >>> Member.parse("xlsr-1b@6+12@svm")
        Member(model='xlsr-1b', layer='6+12', head='svm', seed=None)
        >>> Member.parse("mfcc@svm@s3")
        Member(model='mfcc', layer='last', head='svm', seed=3)
        """
        model, *parts = text.split("@")
        layer, head, seed = read_layer(parts[0]) if parts else None, "", None
        rest = parts[1:] if layer is not None else parts
        if rest and not why_no_head(rest[0]):
            head, *rest = rest
        if rest and (drawn := _SEED.fullmatch(rest[0])):
            seed, rest = int(drawn[1]), rest[1:]
        if rest or not model:
            raise ValueError(f"'{text}' is no member; expected model[@layer][@head][@s<seed>]")
        return cls(model, LAST if layer is None else layer, head, seed)

    @property
    def tag(self) -> str:
        """What follows the model.

        Examples
        --------
        >>> Member("mfcc").tag, Member("xlsr-1b", 12).tag, Member("mfcc", head="svm", seed=3).tag
        ('', '@12', '@svm@s3')
        """
        parts = [
            *([] if self.layer == LAST else [self.layer]),
            *([self.head] if self.head else []),
            *([] if self.seed is None else [f"s{self.seed}"]),
        ]
        return "".join(f"@{part}" for part in parts)

    def __str__(self) -> str:
        """Its name.

        Examples
        --------
        >>> [str(Member.parse(name)) for name in ("mfcc@last", "xlsr-1b@12", "a+b@best@svm")]
        ['mfcc', 'xlsr-1b@12', 'a+b@best@svm']
        """
        return self.model + self.tag


def read_layer(text: str) -> int | str | None:
    """The layer that a text names; None where it names none.

    Examples
    --------
    >>> read_layer("12"), read_layer("6+12"), read_layer("best"), read_layer("svm")
    (12, '6+12', 'best', None)
    """
    if _INDEX.fullmatch(text):
        return int(text)
    return text if text in NAMED_LAYERS or SIDE_BY_SIDE.fullmatch(text) else None


def side_by_side(layer: int | str) -> list[int]:
    """The indices that a layer names: one, or those of `"6+12"`; none of a named layer.

    Examples
    --------
    >>> side_by_side("6+12"), side_by_side(3), side_by_side("mean")
    ([6, 12], [3], [])
    """
    return [] if layer in NAMED_LAYERS else [int(index) for index in str(layer).split("+")]


def why_no_head(name: str) -> str:
    """Why a text cannot name a head; empty where it can.

    Examples
    --------
    >>> why_no_head("svm"), why_no_head("best"), why_no_head("s3")
    ('', 'is a layer', 'is how seeds are named')
    """
    if read_layer(name) is not None:
        return "is a layer"
    if _SEED.fullmatch(name):
        return "is how seeds are named"
    if name == _TEST:
        return "is kept for runs that are chosen on the test rows"
    possible = names_folder(name) and "+" not in name
    return "" if possible else "cannot name a folder; no / \\ @ + in a name"
