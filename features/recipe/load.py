"""The whole recipe: one TOML file an experiment, checked before any work is done.

Conventions
-----------
- `load_recipe` reports every fault of a recipe at once: file, key, what came, what is allowed. Each
  section's module has its faults; here they are collected.
- `corpora` and `models` are lists of keys, or tables of tables where one needs settings of its own:
  `[models.mine] path = "..."`. In a list a member may be an inline table with a `name`.
- Paths in a recipe are relative to the working directory, as those on the command line are.
- Defaults stand in the sections' modules and nowhere else. Tables of papers (`[[published]]`) are
  in `features.recipe.published`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.common.errors import RecipeError, nearest
from features.common.sections import Section, check_section
from features.common.text import clean, nfc
from features.common.walk import existing
from features.common.words import counted
from features.recipe.evaluate import EvaluateSpec, evaluate_faults, gains_faults, show_choices
from features.recipe.extract import (
    CorpusSpec,
    ExtractSpec,
    ModelSpec,
    concatenation_faults,
    stored_frames,
    stored_segments,
)
from features.recipe.fusion import (
    SUBSETS,
    FusionSpec,
    SubsetsSpec,
    default_members,
    fusion_faults,
    fusions_of,
    member_faults,
    subset_faults,
    subsets_of,
)
from features.recipe.head import HeadSpec, head_faults, model_faults
from features.recipe.heads import ONE, heads_of, table_of
from features.recipe.known.metrics import showable
from features.recipe.labels import LabelsSpec, corpus_faults, read_labels
from features.recipe.lists import members_of
from features.recipe.member import LAST, Member
from features.recipe.model import Recipe
from features.recipe.overrides import apply
from features.recipe.published import Known, PublishedTable, read_published, tables_of
from features.recipe.reading import read_recipe
from features.recipe.split import SplitSpec, all_split_faults, protocols_of
from features.recipe.top import Top, top_faults

_SECTIONS: dict[str, type[Section]] = {
    "extract": ExtractSpec,
    "split": SplitSpec,
    "evaluate": EvaluateSpec,
}
_KEYS = (
    *("corpora", "models", "head", "heads", "fusion", "published"),
    *(*Top.model_fields, *_SECTIONS),
)


@dataclass(frozen=True)
class RecipeParts:
    """The tables of a recipe, read; what is faulty is None or left out.

    Attributes
    ----------
    flat : dict
        The keys above the first table as they came.
    top : Top or None
        The same, with the common list of `[labels]`.
    maps : dict
        Corpus -> own label -> label of the common list.
    sections : dict
        `extract`, `split`, `evaluate`.
    heads : dict
        As `heads_of` gives them.
    also : dict
        Protocols beside the main one.
    corpora, models, fusions : dict
    subsets : SubsetsSpec or None
    """

    flat: dict[str, Any]
    top: Top | None
    maps: dict[str, dict[str, str]]
    sections: dict[str, Section | None]
    heads: dict[str, HeadSpec]
    also: dict[str, SplitSpec]
    corpora: dict[str, CorpusSpec]
    models: dict[str, ModelSpec]
    fusions: dict[str, FusionSpec]
    subsets: SubsetsSpec | None

    @property
    def task(self) -> str:
        """By the key that the recipe has, faulty or not."""
        return "classification" if "target" in self.flat else "regression"


def load_recipe(
    path: str | Path,
    *,
    models: Sequence[str] | None = None,
    heads: Sequence[str] | None = None,
    corpora: Sequence[str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    settings: Sequence[str] | None = None,
) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    path : path
        TOML file.
    models, heads, corpora : sequence of str, optional
        Restriction to members of the recipe's own lists (`MODEL=`, `HEAD=`, `CORPUS=`).
    overrides : mapping of mapping, optional
        Values that win over the file's: `{"extract": {"precision": "bfloat16"}}`.
    settings : sequence of str, optional
        The same as text (`SET=`): `["head.layer=best models.x.path=/weights/x"]`.

    Returns
    -------
    Recipe
        Frozen, defaults filled in.

    Raises
    ------
    RecipeError
        Naming every fault of the file.
    """
    path = existing(path)
    twice: list[str] = []
    raw = read_recipe(path, twice)
    faults = [
        f"'{key}' stands twice, in spellings that differ in accents, blanks or what is invisible"
        for key in twice
    ]
    notes: list[str] = []
    faults += apply(raw, settings or (), _KEYS, notes)
    for section, values in (overrides or {}).items():
        if isinstance(raw.setdefault(section, {}), dict):
            raw[section].update(values)
    parts = _read(raw, faults, notes)
    if parts.top is not None:
        faults += _combinations(parts, parts.top)
    tables = tables_of(raw.get("published", []), path, faults)
    published = read_published(tables, _known_to_tables(parts), faults)
    models, heads, corpora = (
        [clean(name) for name in names or ()] for names in (models, heads, corpora)
    )
    faults += _restrictions("MODEL", models, parts.models)
    faults += _restrictions("CORPUS", corpora, parts.corpora)
    if "heads" in raw:
        faults += _restrictions("HEAD", heads, parts.heads) if parts.heads else []
    elif heads:
        faults.append(f"HEAD={','.join(heads)}: the recipe has one head, [head]")
    if faults or parts.top is None:
        raise RecipeError("\n  ".join([f"{path}: {counted(len(faults), 'fault')}", *faults]))
    recipe = _recipe(path, parts, parts.top, published, models, heads, corpora)
    return recipe.model_copy(update={"notes": notes})


def _read(raw: Mapping[str, Any], faults: list[str], notes: list[str]) -> RecipeParts:
    """Read every table by itself; a line is added for each fault, and what is to be said."""
    faults += [f"{key}: no such key{nearest(key, _KEYS)}" for key in raw if key not in _KEYS]
    flat = {key: raw[key] for key in Top.model_fields if key in raw}
    mapped = None
    if isinstance(raw.get("labels"), dict):
        mapped = check_section(LabelsSpec, flat.pop("labels"), "[labels] ", faults)
    top = check_section(Top, flat, "", faults)
    sections = {
        name: check_section(
            kind,
            raw.get(name, {}),
            f"[{name}] ",
            faults,
            show_choices(flat) if name == "evaluate" else {},
        )
        for name, kind in _SECTIONS.items()
    }
    heads = heads_of(raw, faults)
    also = protocols_of(sections["split"], faults)
    corpora = members_of(CorpusSpec, raw, "corpora", faults)
    models = members_of(ModelSpec, raw, "models", faults)
    tables = raw.get("fusion", {})
    members = default_members(list(models), heads)
    fusions = fusions_of(tables, members, faults, notes)
    subsets = subsets_of(tables, members, flat, faults, notes)
    maps: dict[str, dict[str, str]] = {}
    if top is not None and mapped is not None:
        top, maps = read_labels(mapped, top, corpora, faults)
    return RecipeParts(flat, top, maps, sections, heads, also, corpora, models, fusions, subsets)


def _combinations(parts: RecipeParts, top: Top) -> list[str]:
    """Faults that no table shows alone. Tables that are themselves faulty are passed over."""
    faults = top_faults(top)
    split, extract = (parts.sections[name] for name in ("split", "extract"))
    layers = extract.layers if isinstance(extract, ExtractSpec) else "all"
    stored = None if isinstance(layers, str) else layers
    for name, head in parts.heads.items():
        faults += head_faults(head, top.task, stored, table_of(name))
    if isinstance(extract, ExtractSpec):
        frames = {name: stored_frames(name, spec, extract) for name, spec in parts.models.items()}
        named = {table_of(name): head for name, head in parts.heads.items()}
        parts_of = {
            name: stored_segments(name, spec, extract) for name, spec in parts.models.items()
        }
        faults += model_faults(named, frames, parts_of)
    classification = top.target is not None
    if isinstance(split, SplitSpec):
        faults += all_split_faults(
            split, parts.also, parts.heads, classification, list(parts.corpora)
        )
    faults += concatenation_faults(parts.models, parts.heads)
    known = set(_run_names(parts.models, parts.heads))
    for name, spec in parts.fusions.items():
        faults += member_faults(name, spec.members, known)
        faults += fusion_faults(name, spec, classification)
    if parts.subsets is not None:
        faults += member_faults(SUBSETS, parts.subsets.members, known)
        faults += subset_faults(parts.subsets, classification)
    evaluate = parts.sections["evaluate"]
    if isinstance(evaluate, EvaluateSpec):
        faults += evaluate_faults(evaluate, top.task)
        if parts.heads:
            faults += gains_faults(evaluate, [name for name in parts.heads if name])
    return [*faults, *corpus_faults(top, parts.corpora, parts.maps)]


def _known_to_tables(parts: RecipeParts) -> Known:
    """What the tables of a paper may name."""
    faulty = parts.top is None or None in parts.sections.values() or not parts.heads
    settings = {
        "corpora": parts.corpora,
        "models": parts.models,
        "head": parts.heads.get(ONE),
        "heads": {name: head for name, head in parts.heads.items() if name},
        **parts.flat,
        "labels": parts.top.labels if parts.top else None,
        "label_maps": parts.maps,
        "fusion": parts.fusions,
        "subsets": parts.subsets,
        **parts.sections,
    }
    return Known(
        [*_run_names(parts.models, parts.heads), *(f"fusion/{name}" for name in parts.fusions)],
        (parts.top.targets if parts.top else None) or (),
        parts.corpora,
        showable(parts.task),
        parts.subsets.sizes if parts.subsets else None,
        len(parts.corpora) == 1 or bool(parts.subsets and parts.subsets.alone),
        None if faulty else settings,
    )


def _run_names(
    models: Collection[str], heads: Mapping[str, HeadSpec], *more: int | str
) -> list[str]:
    """The folders that runs of heads can have below `runs/<recipe>`, at more layers, too."""
    of_heads = {name: head.layers for name, head in heads.items()} or {ONE: [LAST]}
    return [
        str(Member(model, layer, name))
        for model in models
        for name, layers in of_heads.items()
        if name not in heads or heads[name].takes(model)
        for layer in dict.fromkeys([*layers, *more])
    ]


def _restrictions(option: str, given: Collection[str], known: Collection[str]) -> list[str]:
    """Names of the command line that the recipe lacks."""
    return [
        f"{option}={name}: not in the recipe's list ({', '.join(known)}){nearest(name, known)}"
        for name in given
        if name not in known
    ]


def _recipe(
    path: Path,
    parts: RecipeParts,
    top: Top,
    published: list[PublishedTable],
    models: Collection[str],
    heads: Collection[str],
    corpora: Collection[str],
) -> Recipe:
    """The recipe of parts without a fault, restricted to what is named."""
    return Recipe.model_validate(
        {
            "name": nfc(path.stem),
            "path": str(path),
            "corpora": {k: v for k, v in parts.corpora.items() if not corpora or k in corpora},
            "models": {k: v for k, v in parts.models.items() if not models or k in models},
            "target": top.target,
            "targets": tuple(top.targets or ()),
            "labels": tuple(top.labels) if top.labels else None,
            "label_maps": {k: v for k, v in parts.maps.items() if not corpora or k in corpora},
            "head": parts.heads.get(ONE),
            "heads": {k: v for k, v in parts.heads.items() if k and (not heads or k in heads)},
            "fusion": parts.fusions,
            "subsets": parts.subsets,
            "also": parts.also,
            "published": published,
            **parts.sections,
        }
    )
