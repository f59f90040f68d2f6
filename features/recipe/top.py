"""The keys above the first table: what is predicted."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from features.common.sections import Section


class Top(Section):
    """The keys above the first table."""

    target: str | None = None
    targets: list[str] | None = None
    labels: Annotated[list[str], Field(min_length=2)] | None = None

    @property
    def task(self) -> str:
        """`"classification"` with a `target`, else `"regression"`."""
        return "regression" if self.target is None else "classification"


def top_faults(top: Top) -> list[str]:
    """Faults of keys that do not go together.

    Parameters
    ----------
    top : Top
        Keys at the top of the recipe.

    Returns
    -------
    list of str
        Faults for people, a line each; empty where there are none.
    """
    faults: list[str] = []
    if (top.target is None) == (not top.targets):
        faults.append(
            'target, targets: give one of the two: target = "a label column" (classification) '
            'or targets = ["..."] (regression)'
        )
    for key, names in (("labels", top.labels), ("targets", top.targets)):
        again = sorted({name for name in names or () if (names or []).count(name) > 1})
        faults += [f"{key}: '{name}' is named twice" for name in again]
    if top.labels and top.target is None:
        faults.append("labels: goes with target (classification), not with targets")
    return faults
