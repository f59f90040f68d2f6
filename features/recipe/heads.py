"""`[head]`, or several heads side by side: `[heads.NAME]`.

Conventions
-----------
- A `[heads.NAME]` has the keys of `[head]`; what it leaves out is as in `[head]`, where there is
  one. One that names a `kind` takes `grid`, `fixed` and `training` from itself alone: they are of
  a kind.
- Heads are kept by their names. That of a recipe with `[head]` alone has none, `ONE`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from features.common.sections import check_section
from features.recipe.head import HeadSpec, head_choices
from features.recipe.known.heads import HEADS
from features.recipe.member import why_no_head

ONE = ""
_OF_A_KIND = ("grid", "fixed", "training")


def table_of(name: str) -> str:
    """What the table of a head is called in a recipe.

    Examples
    --------
    >>> table_of(ONE), table_of("svm")
    ('head', 'heads.svm')
    """
    return f"heads.{name}" if name else "head"


def heads_of(raw: Mapping[str, Any], faults: list[str]) -> dict[str, HeadSpec]:
    """Read `[head]` and the `[heads.NAME]` tables.

    Parameters
    ----------
    raw : mapping
        The recipe as TOML gives it.
    faults : list of str
        Is added to.

    Returns
    -------
    dict
        Name -> its head, in the order of the recipe; empty where a table has faults.

    Examples
    --------
    >>> raw = {"target": "emotion", "head": {"select": "uar"}, "heads": {"near": {"kind": "knn"}}}
    >>> {name: (head.kind, head.select) for name, head in heads_of(raw, []).items()}
    {'near': ('knn', 'uar')}
    """
    choices = head_choices(raw)
    if "heads" not in raw:
        alone = check_section(HeadSpec, raw.get("head", {}), "[head] ", faults, choices)
        return {} if alone is None else {ONE: alone}
    n_faults, tables, common = len(faults), raw["heads"], raw.get("head", {})
    if not isinstance(tables, dict) or not tables:
        faults.append(f"heads: got {tables!r}, allowed: [heads.NAME] tables")
        return {}
    check_section(HeadSpec, _filled(common, choices), "[head] ", faults, choices)
    of_kind = isinstance(common, dict) and "kind" in common
    idle = [key for key in _OF_A_KIND if isinstance(common, dict) and key in common]
    if idle and not of_kind:
        faults.append(
            f"[head] {', '.join(idle)}: of a kind, which [head] has not; give it to the "
            "[heads.NAME] that it is of"
        )
    if len(faults) > n_faults:
        common = _filled({}, choices)  # what is wrong there is no fault of each head
    found = {}
    for name, values in tables.items():
        why = why_no_head(name) or ("is a model" if name in _names(raw.get("models")) else "")
        if why:
            faults.append(f"[heads.{name}]: the name {why}; choose another")
        whole = _merged(common, values) if isinstance(values, dict) else values
        head = check_section(HeadSpec, whole, f"[heads.{name}] ", faults, choices)
        if head is not None:
            found[name] = head
    return found if len(faults) == n_faults else {}


def _filled(common: Any, choices: Mapping[str, Sequence[str]]) -> Any:
    """`[head]` with some kind and score where it leaves them to the heads."""
    if not isinstance(common, dict):
        return common
    some = {"kind": next(iter(HEADS)), "select": "uar"}
    return {**some, **{key: found[0] for key, found in choices.items()}, **common}


def _merged(common: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    """A head's table with what it takes from `[head]`."""
    if not isinstance(common, dict):
        return dict(own)
    shared = common.items()
    return {**{k: v for k, v in shared if "kind" not in own or k not in _OF_A_KIND}, **own}


def _names(given: Any) -> Collection[str]:
    """The models of a recipe, faulty or not."""
    if isinstance(given, dict):
        return list(given)
    listed = given if isinstance(given, list) else []
    return [str(one.get("name", "") if isinstance(one, dict) else one) for one in listed]
