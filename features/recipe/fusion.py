"""`[fusion.NAME]` and `[fusion.subsets]`: which runs are combined, how, and their faults."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from features.common.errors import nearest
from features.common.sections import Among, S, Section, check_section, names_folder
from features.recipe.head import HeadSpec
from features.recipe.heads import ONE, table_of
from features.recipe.known.fusion_methods import FUSION_METHODS, SUBSET_METHODS
from features.recipe.known.metrics import of_subsets, shown
from features.recipe.known.records import TASKS, of_task
from features.recipe.member import LAST, Member

SUBSETS = "subsets"
"""The one table of [fusion] that is no combination."""
SUBSET_METRICS = tuple(metric for task in TASKS for metric in of_subsets(task))


class FusionSpec(Section):
    """`[fusion.NAME]`: how the predictions of several models become one.

    `weights` are those of "weighted", one a member; without them it takes the members' scores on
    the rows that a fusion may learn from. `trim` is how many members "trimmed" leaves out at each
    end. `calibrate` divides each member's class scores by a temperature first.
    """

    method: Annotated[str, Among(tuple(FUSION_METHODS))]
    members: Annotated[list[str], Field(min_length=2)] = Field(default_factory=list)
    missing: Literal["error", "drop"] = "error"
    weights: list[Annotated[float, Field(ge=0, strict=False)]] | None = None
    trim: Annotated[int, Field(ge=1)] | None = None
    calibrate: bool = False


def fusion_faults(name: str, spec: FusionSpec, classification: bool) -> list[str]:
    """Settings of a fusion that do not go with its method or the task.

    Parameters
    ----------
    name : str
        Of the table `[fusion.NAME]`.
    spec : FusionSpec
    classification : bool
        Whether the recipe has classes, or else targets.

    Returns
    -------
    list of str
        Faults for people, a line each; empty where there are none.
    """
    faults = []
    task = "classification" if classification else "regression"
    n_members, trim = len(spec.members), spec.trim or 1
    method = FUSION_METHODS[spec.method]
    if task not in method.tasks:
        faults.append(
            f"method: '{spec.method}' needs classes; of a regression: "
            f"{', '.join(of_task(FUSION_METHODS, task))}"
        )
    if spec.weights is not None and spec.method != "weighted":
        faults.append(f"weights: go with method = 'weighted', not '{spec.method}'")
    elif spec.weights is not None and len(spec.weights) != n_members:
        faults.append(f"weights: got {len(spec.weights)}, one for each of {n_members} members")
    elif spec.weights is not None and not any(spec.weights):
        faults.append("weights: all are 0")
    if spec.trim is not None and spec.method != "trimmed":
        faults.append(f"trim: goes with method = 'trimmed', not '{spec.method}'")
    elif spec.method == "trimmed" and n_members <= 2 * trim:
        faults.append(
            f"method: 'trimmed' leaves out {trim} of {n_members} members at each end: none is left"
        )
    if spec.calibrate and (not classification or not method.calibrates):
        what = f"'{spec.method}'" if classification else "a regression"
        faults.append(f"calibrate: changes nothing of {what}; leave it out")
    return [f"[fusion.{name}] {fault}" for fault in faults]


class SubsetsSpec(Section):
    """`[fusion.subsets]`: the best k of n members, and what choosing them is worth.

    `k` holds sizes, or is `"all"` of them. Sizes with more than `limit` subsets are not searched
    through; a greedy path stands for them (with `greedy = true` beside the search, too). `random`
    subsets of each size give the quantiles. `alone` repeats all of it on the rows of each corpus.
    """

    k: Literal["all"] | Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] = "all"
    methods: Annotated[list[Annotated[str, Among(SUBSET_METHODS)]], Field(min_length=1)] = ["mean"]
    metrics: list[Annotated[str, Among(SUBSET_METRICS)]] = []
    members: Annotated[list[str], Field(min_length=2, max_length=62)] = []
    missing: Literal["error", "drop"] = "error"
    random: Annotated[int, Field(ge=1)] = 1000
    seed: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1)] = 40_000_000
    greedy: bool = False
    alone: bool = False

    @property
    def sizes(self) -> list[int]:
        """The sizes to look at, rising."""
        return list(range(1, len(self.members) + 1)) if self.k == "all" else sorted(set(self.k))

    def settings(self) -> dict[str, Any]:
        """What the choices depend on, JSON-able."""
        found = self.model_dump(mode="json", exclude={"alone"})
        return {**found, "alone": True} if self.alone else found


def default_members(models: list[str], heads: Mapping[str, HeadSpec]) -> list[str] | str:
    """Every model with every head that takes it, each at its one layer; or why there are none.

    Parameters
    ----------
    models : list of str
        Of the recipe.
    heads : mapping
        As `features.recipe.heads.heads_of` gives them.

    Returns
    -------
    list of str or str
        The members; a str says why there are none.

    Examples
    --------
    >>> default_members(["a", "b"], {})
    ['a', 'b']
    >>> default_members(["a"], {})
    ['a']
    """
    if not models:
        return []
    layers: dict[str, int | str] = {} if heads else {ONE: LAST}
    for name, head in heads.items():
        layer = head.default_layer
        if layer is None:
            first = Member(models[0], head.layers[0], name)
            return (
                f"missing; [{table_of(name)}] layer is {head.layers} without 'last': "
                f'name them, as in ["{first}", ...]'
            )
        layers[name] = layer
    return [
        str(Member(model, layer, name))
        for model in models
        for name, layer in layers.items()
        if name not in heads or heads[name].takes(model)
    ]


def fusions_of(
    raw: Any, members: list[str] | str, faults: list[str], notes: list[str]
) -> dict[str, FusionSpec]:
    """Read the `[fusion.NAME]` tables that are combinations.

    Parameters
    ----------
    raw : any
        The table `fusion` as TOML gives it.
    members : list of str or str
        Those of a table that names none, or why there are none.
    faults, notes : list of str
        Are added to.

    Returns
    -------
    dict
        Name -> FusionSpec; a table with faults is left out, and so is one without members in a
        recipe of one model, which is noted.
    """
    if not isinstance(raw, dict):
        faults.append(f"fusion: got {raw!r}, allowed: [fusion.NAME] tables")
        return {}
    faults += [
        f"fusion: {name!r} cannot name a folder; no / \\ @ in a name"
        for name in raw
        if not names_folder(name)
    ]
    found = {
        name: _fusion(FusionSpec, name, values, members, faults, notes)
        for name, values in raw.items()
        if name != SUBSETS
    }
    return {name: spec for name, spec in found.items() if spec is not None}


def subsets_of(
    raw: Any,
    members: list[str] | str,
    flat: Mapping[str, Any],
    faults: list[str],
    notes: list[str],
) -> SubsetsSpec | None:
    """Read `[fusion.subsets]`.

    Parameters
    ----------
    raw : any
        The table `fusion` as TOML gives it.
    members : list of str or str
        Those of a table that names none, or why there are none.
    flat : mapping
        Keys at the top of the recipe: with `target` it has classes.
    faults, notes : list of str
        Are added to.

    Returns
    -------
    SubsetsSpec or None
        Metrics that it does not name are those that are shown. None where there is no such table,
        it has faults, or the recipe has one model, which is noted.
    """
    if not isinstance(raw, dict) or SUBSETS not in raw:
        return None
    spec = _fusion(SubsetsSpec, SUBSETS, raw[SUBSETS], members, faults, notes)
    if spec is None or spec.metrics:
        return spec
    task = "classification" if "target" in flat else "regression"
    return spec.model_copy(
        update={"metrics": [metric for metric in of_subsets(task) if metric in shown(task)]}
    )


def _fusion(
    kind: type[S],
    name: str,
    values: Any,
    members: list[str] | str,
    faults: list[str],
    notes: list[str],
) -> S | None:
    """Read one table of [fusion], with the default members where it has none."""
    if not isinstance(values, dict):
        faults.append(f"[fusion] {name}: got {values!r}, allowed: a table [fusion.{name}]")
        return None
    if "members" not in values and isinstance(members, str):
        faults.append(f"[fusion.{name}] members: {members}")
        return None
    if "members" not in values and len(members) < 2:
        # Left out; its other keys are looked at all the same.
        check_section(kind, {"members": ["a", "b"], **values}, f"[fusion.{name}] ", faults)
        if members:
            notes.append(
                f"[fusion.{name}] is left out: the recipe has one model, {members[0]}, and a "
                "fusion takes two or more"
            )
        return None
    return check_section(kind, {"members": members, **values}, f"[fusion.{name}] ", faults)


def member_faults(name: str, members: Sequence[str], known: Collection[str]) -> list[str]:
    """Members that are no run of the recipe, or are named twice.

    Parameters
    ----------
    name : str
        Of the table `[fusion.NAME]`.
    members : sequence of str
    known : collection of str
        All runs that the recipe makes.

    Returns
    -------
    list of str
        Faults for people, a line each; empty where there are none.

    Examples
    --------
    >>> member_faults("mean", ["wavlm", "wavlm@last"], ["wavlm"])
    ['[fusion.mean] members: a run is named twice']
    """
    runs = {member: _canonical(member) for member in members}
    faults = [
        f"[fusion.{name}] members: '{member}' is no run of the recipe{nearest(member, known)}"
        for member, run in runs.items()
        if run not in known
    ]
    if len(set(runs.values())) != len(members):
        faults.append(f"[fusion.{name}] members: a run is named twice")
    return faults


def _canonical(member: str) -> str:
    """The name that a member's folder has: `mfcc` of `mfcc@last`."""
    try:
        return str(Member.parse(member))
    except ValueError:
        return member


def subset_faults(spec: SubsetsSpec, classification: bool) -> list[str]:
    """Sizes, methods and metrics that do not go with the members or the task.

    Parameters
    ----------
    spec : SubsetsSpec
    classification : bool

    Returns
    -------
    list of str
        Faults for people, a line each; empty where there are none.
    """
    where, n = f"[fusion.{SUBSETS}]", len(spec.members)
    task = "classification" if classification else "regression"
    faults = [f"{where} k: got {size}, there are {n} members" for size in spec.sizes if size > n]
    faults += [
        f"{where} metrics: got '{metric}', for {task}: {', '.join(of_subsets(task))}"
        for metric in spec.metrics
        if metric not in of_subsets(task)
    ]
    if not classification:
        faults += [
            f"{where} methods: '{method}' needs classes; use 'mean'"
            for method in spec.methods
            if task not in FUSION_METHODS[method].tasks
        ]
    for key, given in (("methods", spec.methods), ("metrics", spec.metrics)):
        if len(set(given)) != len(given):
            faults.append(f"{where} {key}: got {given}, one is named twice")
    return faults
