"""`[split]`: who is held out, outer and inner, and its faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from features.common.errors import nearest
from features.common.sections import Among, Section, check_section, names_folder
from features.recipe.head import HeadSpec
from features.recipe.known.splits import INNER_SPLITS, OUTER_SPLITS

OverlapKind = Literal["speaker", "session", "sentence", "audio"]

OVERLAP_KINDS = ("speaker", "session", "sentence", "audio")

# What a protocol of `also` takes from [split] unless it says otherwise.
_INHERITED = ("inner", "inner_folds", "outer_folds", "test_size", "seed", "shuffle",
              "balance_gender", "expect_overlap")  # fmt: skip


class SplitSpec(Section):
    """`[split]`: how rows are divided; outer folds score, inner folds choose.

    `four-to-one-in-five` is a name for settings (`stratified-holdout` with `test_size = 0.2`,
    `inner = "stratified-k-fold"` of five) and fills them in. Folds of speakers (sessions,
    sentences) take those first that are hardest to balance, so that the seed decides between equals
    alone; with `shuffle` it draws the order. `seeds` repeats the whole with each of them, in place
    of `seed` and of the head's `random_state`, and shuffled.
    """

    outer: Annotated[str, Among(tuple(OUTER_SPLITS))] = "predefined"
    inner: Annotated[str, Among(tuple(INNER_SPLITS))] = "speaker-k-fold"
    outer_folds: Annotated[int, Field(ge=2)] = 5
    inner_folds: Annotated[int, Field(ge=2)] = 5
    test_size: Annotated[float, Field(gt=0, lt=1)] = 0.2
    devel_size: Annotated[float, Field(gt=0, lt=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    shuffle: bool = False
    balance_gender: bool = False
    expect_overlap: list[OverlapKind] = []
    emobox: str | None = None
    emobox_names: dict[str, str] = {}
    train: Annotated[list[str], Field(min_length=1)] | None = None
    test: Annotated[list[str], Field(min_length=1)] | None = None
    pool: bool = False
    within: Literal["speaker-k-fold", "leave-one-speaker-out"] | None = None
    also: list[str | dict[str, Any]] = []
    seeds: list[Annotated[int, Field(ge=0)]] = []

    @model_validator(mode="before")
    @classmethod
    def _four_to_one_in_five(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("outer") == "four-to-one-in-five":
            for key, value in FOUR_TO_ONE_IN_FIVE.items():
                if values.get(key, value) != value:
                    raise ValueError(
                        f"outer = 'four-to-one-in-five' has {key} = {value!r}, got {values[key]!r}"
                    )
            return {**values, **FOUR_TO_ONE_IN_FIVE}
        return values

    def settings(self) -> dict[str, Any]:
        """What the folds depend on, JSON-able: all but the protocols beside it."""
        found = self.model_dump(mode="json", exclude={"also", "seeds", "shuffle"})
        return {**found, "shuffle": True} if self.shuffle else found

    @property
    def uses_seed(self) -> bool:
        """Whether a fold depends on the seed: not with lists that are given and devel to choose."""
        return not OUTER_SPLITS[self.outer].given or self.inner != "devel"


FOUR_TO_ONE_IN_FIVE = {"inner": "stratified-k-fold", "inner_folds": 5, "test_size": 0.2}
"""Four fifths train, in five parts of which each validates once; speakers are on both sides."""


def seed_protocol(seed: int) -> str:
    """The name of a repeat.

    Examples
    --------
    >>> seed_protocol(3)
    'seed-3'
    """
    return f"seed-{seed}"


def split_faults(split: SplitSpec, classification: bool, corpora: Sequence[str]) -> list[str]:
    """Faults of settings that do not go together.

    Parameters
    ----------
    split : SplitSpec
    classification : bool
    corpora : sequence of str
        Of the recipe.

    Returns
    -------
    list of str
        Faults for people, a line each; empty where there are none.
    """
    faults = [
        f"[split] {key}: goes with outer = '{outer}', not '{split.outer}'"
        for outer, record in OUTER_SPLITS.items()
        for key in record.settings
        if split.outer != outer and getattr(split, key) not in (None, False, {})
    ]
    may_have_devel = OUTER_SPLITS[split.outer].given or split.devel_size is not None
    if split.inner == "devel" and not may_have_devel:
        given = ", ".join(repr(outer) for outer, record in OUTER_SPLITS.items() if record.given)
        faults.append(
            f"[split] inner: 'devel' goes with outer = {given} or "
            f"'stratified-holdout' with a devel_size, not '{split.outer}'"
        )
    if split.devel_size is not None and split.devel_size + split.test_size >= 1:
        faults.append("[split] devel_size, test_size: together 1 or more; nothing is left to train")
    task = "classification" if classification else "regression"
    faults += [
        f"[split] {side}: '{key}' needs classes (target); use 'speaker-k-fold'"
        for side, key, tasks in (
            ("outer", split.outer, OUTER_SPLITS[split.outer].tasks),
            ("inner", split.inner, INNER_SPLITS[split.inner].tasks),
        )
        if task not in tasks
    ]
    grouped = [outer for outer, record in OUTER_SPLITS.items() if record.of_groups]
    if split.shuffle and not {split.outer, split.inner, split.within} & set(grouped):
        faults.append(f"[split] shuffle: goes with folds of groups: {', '.join(grouped)}")
    if split.outer == "emobox" and split.emobox is None:
        faults.append('[split] emobox: missing; the folder of a copy of EmoBox: emobox = "..."')
    if split.pool and split.within:
        faults.append("[split] within: goes with single corpora that train, not with pool = true")
    named = (("train", split.train or ()), ("test", split.test or ()),
             ("emobox_names", split.emobox_names))  # fmt: skip
    faults += [
        f"[split] {key}: '{corpus}' is no corpus of the recipe{nearest(corpus, corpora)}"
        for key, names in named
        for corpus in names
        if corpus not in corpora
    ]
    if split.outer == "cross-corpus" and len(corpora) < 2:
        faults.append(f"corpora: outer = 'cross-corpus' needs two or more, got {list(corpora)}")
    return faults


def seed_faults(
    split: SplitSpec, heads: Mapping[str, HeadSpec], also: Mapping[str, SplitSpec]
) -> list[str]:
    """Seeds that repeat nothing, or whose runs would lie where others do.

    Parameters
    ----------
    split : SplitSpec
    heads : mapping
        As `features.recipe.heads.heads_of` gives them.
    also : mapping
        Name -> the split of a protocol beside it.

    Returns
    -------
    list of str
        Faults for people, a line each; empty where there are none.
    """
    faults = []
    if len(split.seeds) == 1 or len(set(split.seeds)) != len(split.seeds):
        faults.append(f"[split] seeds: got {split.seeds}, allowed: two or more, each once")
    drawn = split.uses_seed or any(head.uses_random_state for head in heads.values())
    idle = bool(heads) and not drawn
    if split.seeds and idle:
        faults.append(
            f"[split] seeds: they change nothing: outer = '{split.outer}' with inner = 'devel' has "
            f"the same folds with every seed, and the head one solution on them; choose "
            "inner = 'speaker-k-fold', or leave the seeds out"
        )
    faults += [
        f"[split] also: {seed_protocol(seed)} is the name of a repeat; give it another name"
        for seed in split.seeds
        if seed_protocol(seed) in also
    ]
    return faults


def same_folds(split: SplitSpec, also: Mapping[str, SplitSpec]) -> list[str]:
    """Protocols that are the main one, or another, by a second name.

    Parameters
    ----------
    split : SplitSpec
    also : mapping
        Name -> the split of a protocol beside it.

    Returns
    -------
    list of str
        Faults for people, a line each; empty where there are none.
    """
    faults = []
    seen = [("the main protocol", _folds_of(split))]
    for name, protocol in also.items():
        same = next((other for other, folds in seen if folds == _folds_of(protocol)), None)
        if same:
            faults.append(
                f"[split] also: {name} is {same} again; leave it out, or change its settings"
            )
        seen.append((name, _folds_of(protocol)))
    return faults


def _folds_of(split: SplitSpec) -> dict[str, Any]:
    """The settings, without what is only allowed."""
    return {key: setting for key, setting in split.settings().items() if key != "expect_overlap"}


def protocols_of(split: Section | None, faults: list[str]) -> dict[str, SplitSpec]:
    """Read `[split] also`: names of outer splits, or tables with settings and maybe a name.

    Parameters
    ----------
    split : SplitSpec or None
        None where its table has faults of its own.
    faults : list of str
        Is added to.

    Returns
    -------
    dict
        Name -> SplitSpec, in order; what a table leaves out is as in `[split]`.
    """
    protocols: dict[str, SplitSpec] = {}
    if not isinstance(split, SplitSpec):
        return protocols
    inherited = {key: getattr(split, key) for key in _INHERITED if key in split.model_fields_set}
    for given in split.also:
        values = {"outer": given} if isinstance(given, str) else dict(given)
        name = values.pop("name", values.get("outer"))
        if not isinstance(name, str) or not names_folder(name):
            faults.append(
                f"[split] also: {given!r}: a table needs an outer, and a name for a folder"
            )
            continue
        if name in protocols:
            faults.append(f'[split] also: {name} is named twice; give one of them a name = "..."')
        if "also" in values or "seeds" in values:
            what = "protocols beside it" if "also" in values else "seeds"
            faults.append(f"[split] also, {name}: has {what}; list them all in [split]")
            continue
        fixed = FOUR_TO_ONE_IN_FIVE if values.get("outer") == "four-to-one-in-five" else {}
        base = {key: value for key, value in inherited.items() if key not in fixed}
        spec = check_section(SplitSpec, {**base, **values}, f"[split] also, {name}: ", faults)
        if spec is not None:
            protocols[name] = spec
    return protocols


def all_split_faults(
    split: SplitSpec,
    also: Mapping[str, SplitSpec],
    heads: Mapping[str, HeadSpec],
    classification: bool,
    corpora: Sequence[str],
) -> list[str]:
    """Faults of the split, of the protocols beside it, and of its seeds.

    Parameters
    ----------
    split : SplitSpec
    also : mapping
        Name -> the split of a protocol beside it.
    heads : mapping
        As `features.recipe.heads.heads_of` gives them.
    classification : bool
    corpora : sequence of str
        Of the recipe.

    Returns
    -------
    list of str
        Faults for people, a line each; empty where there are none.
    """
    faults = split_faults(split, classification, corpora)
    for name, protocol in also.items():
        found = split_faults(protocol, classification, corpora)
        faults += [fault.replace("[split]", f"[split] also, {name}:", 1) for fault in found]
    return [*faults, *seed_faults(split, heads, also), *same_folds(split, also)]
