"""`[labels]`: one label list for corpora that name theirs differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from features.common.errors import nearest
from features.common.sections import Section
from features.corpora import CORPORA
from features.recipe.extract import (
    CorpusSpec,
)
from features.recipe.top import Top


class LabelsSpec(Section):
    """`[labels]`: one class list for corpora that name their classes differently.

    `map` is the name of a map that every corpus's record has, or a table a corpus: the name of a
    map of its record, or its own labels with those of the common list. Labels that a map lacks are
    dropped and counted. `order` is the common list, or what is kept of it.
    """

    map: str | dict[str, str | Annotated[dict[str, str], Field(min_length=1)]]
    order: Annotated[list[str], Field(min_length=2)] | None = None


def read_labels(
    spec: LabelsSpec, top: Top, corpora: Mapping[str, CorpusSpec], faults: list[str]
) -> tuple[Top, dict[str, dict[str, str]]]:
    """Map the labels of each corpus to one list; faults are added.

    Parameters
    ----------
    spec : LabelsSpec
    top : Top
        Keys at the top of the recipe.
    corpora : mapping
        Name -> its table.
    faults : list of str
        Is added to.

    Returns
    -------
    Top
        With the common list.
    dict
        Corpus -> own label -> label of the list.
    """
    maps = label_maps(spec, top, corpora, faults)
    common = tuple(dict.fromkeys(label for table in maps.values() for label in table.values()))
    if maps and len(common) < 2:
        faults.append(f"[labels] map: its list has one label, {', '.join(common)}; two or more")
    elif maps:
        faults += [
            f"[labels] order: '{label}' is no label of the map ({', '.join(common)})"
            f"{nearest(label, common)}"
            for label in spec.order or ()
            if label not in common
        ]
    return top.model_copy(update={"labels": spec.order or list(common)}), maps


def label_maps(
    spec: LabelsSpec, top: Top, corpora: Mapping[str, CorpusSpec], faults: list[str]
) -> dict[str, dict[str, str]]:
    """The map of each corpus, by name or as it is given; faults are added.

    Parameters
    ----------
    spec : LabelsSpec
    top : Top
        Keys at the top of the recipe.
    corpora : mapping
        Name -> its table.
    faults : list of str
        Is added to.

    Returns
    -------
    dict
        Corpus -> own label -> label of the common list; labels that it leaves out are not used.
    """
    maps: dict[str, dict[str, str]] = {}
    given = spec.map if isinstance(spec.map, dict) else dict.fromkeys(corpora, spec.map)
    faults += [
        f"[labels.map] {name}: no corpus of the recipe{nearest(name, corpora)}"
        for name in given
        if name not in corpora
    ]
    for name, corpus in corpora.items():
        record = CORPORA.get(corpus.reader or name)
        if record is None:
            continue  # reported with the corpora
        chosen = given.get(name)
        if chosen is None:
            faults.append(f"[labels.map] {name}: missing; every corpus of the recipe needs a map")
        elif isinstance(chosen, str):
            if chosen not in record.label_maps:
                faults.append(
                    f"[labels] map: {name} has no map '{chosen}'; it has: "
                    f"{', '.join(record.label_maps) or 'none'}"
                    f"{nearest(chosen, record.label_maps)}; "
                    f"[labels.map.{name}] gives one of your own"
                )
            else:
                maps[name] = dict(record.label_maps[chosen])
        else:
            maps[name] = dict(chosen)
        classes = record.labels.get(top.target or "", ())
        faults += [
            f"[labels.map.{name}] '{label}' is no {top.target} of {name} ({', '.join(classes)})"
            f"{nearest(label, classes)}"
            for label in maps.get(name, ())
            if classes and label not in classes
        ]
    return maps


def corpus_faults(
    top: Top, corpora: Mapping[str, CorpusSpec], maps: Mapping[str, Mapping[str, str]]
) -> list[str]:
    """Unknown corpora, and targets or labels that a corpus does not have.

    Parameters
    ----------
    top : Top
        Keys at the top of the recipe.
    corpora : mapping
        Name -> its table.
    maps : mapping
        As `label_maps` gives them; where there are some, `labels` is the common list.

    Returns
    -------
    list of str
        Faults for people, a line each; empty where there are none.
    """
    faults = []
    for name, spec in corpora.items():
        key = spec.reader or name
        if key not in CORPORA:
            what = "reader" if spec.reader else "corpora"
            faults.append(
                f"{what}: '{key}' is no known corpus ({', '.join(CORPORA)}){nearest(key, CORPORA)}"
                + ("" if spec.reader else f"; [corpora.{name}] reader = 'manifest' names your own")
            )
            continue
        record = CORPORA[key]
        if not record.labels and not record.targets:
            continue  # a manifest brings its own
        if top.target is not None and top.target not in record.labels:
            faults.append(
                f"target: {name} has no label set '{top.target}'; it has: "
                f"{', '.join(record.labels) or 'none'}{nearest(top.target, record.labels)}"
            )
        elif top.target is not None and top.labels and not maps:
            classes = record.labels[top.target]
            faults += [
                f"labels: '{label}' is no {top.target} of {name} ({', '.join(classes)})"
                f"{nearest(label, classes)}"
                for label in top.labels
                if label not in classes
            ]
        faults += [
            f"targets: {name} has no '{target}'; it has: "
            f"{', '.join(record.targets) or 'none'}{nearest(target, record.targets)}"
            for target in top.targets or ()
            if target not in record.targets
        ]
    return faults
