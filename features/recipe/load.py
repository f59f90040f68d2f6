"""The whole recipe: one TOML file an experiment, checked before any work is done.

Conventions
-----------
- `load_recipe` reports every fault of a recipe at once: file, key, what came, what is allowed.
- `corpora` and `models` are lists of keys, or tables of tables where one needs settings of its own:
  `[models.mine] path = "..."`. In a list a member may be an inline table with a `name`.
- Paths in a recipe are relative to the working directory, as those on the command line are.
- Defaults stand here and nowhere else. Tables of papers (`[[published]]`) are in
  `features.recipe.published`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from features.common.errors import RecipeError, nearest
from features.common.files import TOML_BYTES, read_text
from features.common.sections import Section, check_section, names_folder
from features.common.text import clean, clean_all, nfc
from features.common.walk import existing
from features.common.words import counted
from features.recipe.extract import (
    CorpusSpec,
    ExtractSpec,
    ModelSpec,
    concatenation_faults,
)
from features.recipe.fusion import (
    SUBSETS,
    FusionSpec,
    SubsetsSpec,
    _default_members,
    _fusion_faults,
    fusions_of,
    member_faults,
    subset_faults,
    subsets_of,
)
from features.recipe.head import (
    HeadSpec,
    head_choices,
    layers_of,
    side_by_side,
)
from features.recipe.known.heads import HEADS
from features.recipe.known.metrics import selections, shown
from features.recipe.known.records import of_task
from features.recipe.labels import LabelsSpec, corpus_faults, label_maps
from features.recipe.model import (
    EvaluateSpec,
    Recipe,
    Top,
    members_of,
)
from features.recipe.published import Known, read_published
from features.recipe.split import (
    SplitSpec,
    _also,
    _same_folds,
    seed_faults,
    split_faults,
)

"""Of a part of `a+b`. Beyond them one part counts alone, and sums lose the digits of the others."""
"""Four fifths train, in five parts of which each validates once; speakers are on both sides."""
"""What stands in `runs/<recipe>/` beside the models' runs."""
"""Of `[head] layer`: the last one, the plain mean of 1..L, a convex weighting of all stored ones,
learned by every fold on its training rows, and the one that every fold chooses on them."""


_SECTIONS: dict[str, type[Section]] = {
    "extract": ExtractSpec,
    "split": SplitSpec,
    "head": HeadSpec,
    "evaluate": EvaluateSpec,
}
# A dotted key of so many parts: tomllib takes the square of their number in time and memory.
_DEEP_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]+[ \t]*\.[ \t]*){100}""")
_KEYS = ("corpora", "models", "fusion", "published", *Top.model_fields, *_SECTIONS)


def load_recipe(
    path: str | Path,
    *,
    models: Sequence[str] | None = None,
    corpora: Sequence[str] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> Recipe:
    """Read and check a recipe.

    Parameters
    ----------
    path : path
        TOML file.
    models, corpora : sequence of str, optional
        Restriction to members of the recipe's own lists (`MODEL=`, `CORPUS=`).
    overrides : mapping of mapping, optional
        Values that win over the file's: `{"extract": {"precision": "bfloat16"}}`.

    Raises
    ------
    RecipeError
        Naming every fault of the file.
    """
    path = existing(path)
    twice: list[str] = []
    raw = _clean(_read_toml(path), twice)
    models, corpora = ([clean(one) for one in names or ()] for names in (models, corpora))
    for section, values in (overrides or {}).items():
        if isinstance(raw.setdefault(section, {}), dict):
            raw[section].update(values)

    faults: list[str] = [
        f"'{key}' stands twice, in spellings that differ in accents, blanks or what is invisible"
        for key in twice
    ]
    faults += [f"{key}: no such key{nearest(key, _KEYS)}" for key in raw if key not in _KEYS]
    flat = {k: raw[k] for k in Top.model_fields if k in raw}
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
            head_choices(flat) if name == "head" else {},
        )
        for name, kind in _SECTIONS.items()
    }
    also = _also(sections["split"], faults)
    corpus_specs = members_of(CorpusSpec, raw, "corpora", faults)
    model_specs = members_of(ModelSpec, raw, "models", faults)
    tables = raw.get("fusion", {})
    members = _default_members(list(model_specs), sections["head"])
    fusions = fusions_of(tables, members, faults)
    subsets = subsets_of(tables, members, flat, faults)
    maps: dict[str, dict[str, str]] = {}
    if top is not None and mapped is not None:
        maps = label_maps(mapped, top, corpus_specs, faults)
        common = tuple(dict.fromkeys(one for table in maps.values() for one in table.values()))
        if len(common) > 1 or not maps:
            faults += [
                f"[labels] order: '{one}' is no label of the map ({', '.join(common)})"
                f"{nearest(one, common)}"
                for one in mapped.order or ()
                if maps and one not in common
            ]
        else:
            faults.append(f"[labels] map: its list has one label, {', '.join(common)}; two or more")
        top = top.model_copy(update={"labels": mapped.order or list(common)})
    if top is not None:
        faults += _combinations(
            top, sections, corpus_specs, model_specs, fusions, subsets, maps, also
        )
    settings = {
        "corpora": corpus_specs,
        "models": model_specs,
        **flat,
        "labels": top.labels if top else None,
        "label_maps": maps,
        "fusion": fusions,
        "subsets": subsets,
        **sections,
    }
    known_to_tables = Known(
        _run_names(model_specs, sections["head"], fusions),
        (top.targets if top else None) or (),
        corpus_specs,
        shown("classification" if "target" in flat else "regression"),
        subsets.sizes if subsets else None,
        len(corpus_specs) == 1 or bool(subsets and subsets.alone),
        None if top is None or None in sections.values() else settings,
    )
    published = read_published(_published(raw, path, faults), known_to_tables, faults)
    for option, given, known in (("MODEL", models, model_specs), ("CORPUS", corpora, corpus_specs)):
        faults += [
            f"{option}={one}: not in the recipe's list ({', '.join(known)}){nearest(one, known)}"
            for one in given or ()
            if one not in known
        ]
    if faults or top is None:
        count = counted(len(faults), "fault")
        raise RecipeError("\n  ".join([f"{path}: {count}", *faults]))
    return Recipe.model_validate(
        {
            "name": nfc(path.stem),
            "path": str(path),
            "corpora": {k: v for k, v in corpus_specs.items() if not corpora or k in corpora},
            "models": {k: v for k, v in model_specs.items() if not models or k in models},
            "target": top.target,
            "targets": tuple(top.targets or ()),
            "labels": tuple(top.labels) if top.labels else None,
            "label_maps": {k: v for k, v in maps.items() if not corpora or k in corpora},
            "fusion": fusions,
            "subsets": subsets,
            "also": also,
            "published": published,
            **sections,
        }
    )


_PATHS = {"corpora": ("root", "file"), "models": ("path",), "split": ("emobox",)}
"""What names files in each section."""


def _clean(raw: Mapping[str, Any], twice: list[str]) -> dict[str, Any]:
    """All texts in the one form but paths, which are looked up in either."""
    found: dict[str, Any] = {}
    for key, one in raw.items():
        name = clean(key)
        twice += [name] if name in found else []
        found[name] = clean_all(one, twice, _PATHS.get(name, ()))
    return found


def _lists_and_tables(text: str) -> list[str]:
    """What TOML refuses where `corpora` or `models` is a list and has tables, too."""
    faults = []
    for key in ("corpora", "models"):
        is_list = re.search(rf"^[ \t]*{key}[ \t]*=[ \t]*\[", text, re.MULTILINE)
        table = re.search(rf"^[ \t]*\[[ \t]*{key}[ \t]*\.[ \t]*([^\]\n.]+)", text, re.MULTILINE)
        if is_list and table:
            name = table[1].strip(" \t\"'")
            faults.append(
                f"{key} is a list and has [{key}.{name}] beside it; it is one or the other: leave "
                f"the list out and give every member a table of its own (empty where it needs no "
                f"settings), or write {{name = '{name}', ...}} into the list"
            )
    return faults


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        text = read_text(path, "utf-8-sig", TOML_BYTES)
        if _DEEP_KEY.search(text):
            raise RecursionError
        return tomllib.loads(text)
    except FileNotFoundError:
        near = nearest(path.name, [one.name for one in path.parent.glob("*.toml")])
        raise RecipeError(
            f"{path}: no such recipe{near}; shipped ones are in recipes/, and "
            f"RECIPE=path names another"
        ) from None
    except IsADirectoryError:
        raise RecipeError(f"{path}: is a folder; RECIPE names a TOML file") from None
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise RecipeError(f"{path}: not valid TOML: nested too deeply") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from None
    except ValueError as error:  # no TOML, a number beyond all measure
        refused = _lists_and_tables(text) or [f"not valid TOML: {error}"]
        raise RecipeError("\n  ".join(f"{path}: {one}" for one in refused)) from None


"""The one table of [fusion] that is no combination."""
"""By which subsets are chosen, and the default: all of them."""


def _run_names(
    models: Collection[str], head: Section | None, fusions: Collection[str]
) -> list[str]:
    """The folders that runs can have below `runs/<recipe>`."""
    layers = layers_of(head) or ["last"]
    tagged = [m if layer == "last" else f"{m}@{layer}" for m in models for layer in layers]
    return [*tagged, *(f"fusion/{name}" for name in fusions)]


def _published(raw: Mapping[str, Any], path: Path, faults: list[str]) -> Any:
    """The tables of the paper: the recipe's own, or those of the recipe beside it that it names."""
    given = raw.get("published", [])
    if not isinstance(given, str):
        return given
    if not names_folder(given):
        faults.append(f"published: {given!r} cannot name a recipe")
        return []
    try:
        theirs = _clean(_read_toml(existing(path.with_name(f"{given}.toml"))), []).get(
            "published", []
        )
    except RecipeError as error:
        faults.append(f"published: {error}")
        return []
    if not isinstance(theirs, list):
        faults.append(f"published: {given}.toml has none of its own; name the recipe that has them")
        return []
    return theirs


def _combinations(
    top: Top,
    sections: Mapping[str, Section | None],
    corpora: Mapping[str, CorpusSpec],
    models: Mapping[str, ModelSpec],
    fusions: Mapping[str, FusionSpec],
    subsets: SubsetsSpec | None,
    maps: Mapping[str, Mapping[str, str]],
    also: Mapping[str, SplitSpec],
) -> list[str]:
    """Faults that no table shows alone. Tables that are themselves faulty are passed over."""
    faults: list[str] = []
    if (top.target is None) == (not top.targets):
        faults.append(
            'target, targets: give one of the two: target = "a label column" (classification) '
            'or targets = ["..."] (regression)'
        )
    classification = top.target is not None
    for key, names in (("labels", top.labels), ("targets", top.targets)):
        again = sorted({one for one in names or () if (names or []).count(one) > 1})
        faults += [f"{key}: '{one}' is named twice" for one in again]
    if top.labels and not classification:
        faults.append("labels: goes with target (classification), not with targets")
    head, split, extract = sections["head"], sections["split"], sections["extract"]
    if isinstance(head, HeadSpec):
        task = "classification" if classification else "regression"
        kinds, scores = of_task(HEADS, task), selections(task)
        if head.kind not in kinds:
            faults.append(f"[head] kind: got '{head.kind}', for {task}: {', '.join(kinds)}")
        if head.select not in scores:
            faults.append(f"[head] select: got '{head.select}', for {task}: {', '.join(scores)}")
        if head.per_target and classification:
            faults.append("[head] per_target: goes with targets (regression)")
        both = sorted(set(head.grid) & set(head.fixed))
        if both:
            faults.append(f"[head] {', '.join(both)}: in grid and in fixed; give it once")
        if len(set(map(str, head.layers))) != len(head.layers):
            faults.append(f"[head] layer: got {head.layers}, a layer is named twice")
        if isinstance(extract, ExtractSpec) and isinstance(extract.layers, list):
            named = [index for one in head.layers for index in side_by_side(one)]
            lacking = [index for index in named if index not in extract.layers]
            if lacking:
                faults.append(
                    f"[head] layer: {lacking} not among [extract] layers = {extract.layers}"
                )
    if isinstance(split, SplitSpec):
        faults += split_faults(split, classification, list(corpora))
        for name, one in also.items():
            found = split_faults(one, classification, list(corpora))
            faults += [fault.replace("[split]", f"[split] also, {name}:", 1) for fault in found]
        faults += seed_faults(split, head, also)
        faults += _same_folds(split, also)
    faults += concatenation_faults(models, head)
    known = set(models) | {f"{m}@{layer}" for m in models for layer in layers_of(head)}
    for name, spec in fusions.items():
        faults += member_faults(name, spec.members, known)
        faults += _fusion_faults(name, spec, classification)
    if subsets is not None:
        faults += member_faults(SUBSETS, subsets.members, known)
        faults += subset_faults(subsets, classification)
    faults += corpus_faults(top, corpora, maps)
    return faults
