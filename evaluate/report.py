"""Finished runs of a recipe -> one HTML page that opens from disk.

It reads `run.json`, `scores.json` and the tables beside the stores, rounds, and computes no score.
Whatever comes from data is escaped; nothing is loaded from outside the page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluate import runs
from evaluate.groups import read_tables
from evaluate.score import (
    FEW_SPEAKERS,
    GRID,
    NAMES,
    PARTITIONS,
    SHOWN,
    Protocols,
    Scored,
    caption,
    gap_size,
    gap_text,
    number,
    read_all,
    read_protocols,
    size_text,
)
from features.command import duration
from features.errors import RunError
from features.files import write_text
from features.recipe import OVERLAP_KINDS
from features.utterances import Table

if TYPE_CHECKING:
    from features.recipe import Recipe

# Atmaja and Sasou (2023), Tables IV (devel) and V (test): mean of Spearman's rho over nine targets,
# by the score that chose the head.
PUBLISHED: dict[str, dict[str, dict[str, float]]] = {
    "nmse": {
        "wav2vec": {"devel": 0.5022},
        "xlsr-53": {"devel": 0.4328},
        "xlsr-53-en": {"devel": 0.4732},
        "xlsr-53-sp": {"devel": 0.4687},
        "xlsr-300m": {"devel": 0.4555},
        "xlsr-1b": {"devel": 0.4694},
        "xlsr-1b-en": {"devel": 0.4559},
        "xlsr-1b-sp": {"devel": 0.4451},
        "xlsr-2b": {"devel": 0.4813},
        "fusion": {"devel": 0.5236, "test": 0.537},
    },
    "nmae": {
        "wav2vec": {"devel": 0.5001},
        "xlsr-53": {"devel": 0.4341},
        "xlsr-53-en": {"devel": 0.4739},
        "xlsr-53-sp": {"devel": 0.4691},
        "xlsr-300m": {"devel": 0.4561},
        "xlsr-1b": {"devel": 0.4679},
        "xlsr-1b-en": {"devel": 0.4533},
        "xlsr-1b-sp": {"devel": 0.4440},
        "xlsr-2b": {"devel": 0.4835},
        "fusion": {"devel": 0.5266},
    },
}


def make_report(recipe: Recipe, runs_folder: Path, stores: Path) -> Path:
    """Write `runs/<recipe>/report/index.html` from the finished runs of a recipe.

    Runs that are not finished are named on the page.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    RunError
        Where no run is finished, or a run's scores are missing or outdated.
    """
    scored, protocols = read_all(recipe, runs_folder), read_protocols(recipe, runs_folder)
    page = runs_folder / recipe.name / "report" / "index.html"
    write_text(page, render(recipe, scored, read_tables(recipe, stores), protocols), RunError)
    return page


def render(
    recipe: Recipe,
    scored: Sequence[Scored],
    tables: Mapping[str, Table],
    protocols: Protocols | None = None,
) -> str:
    """The page as text."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    others = protocols or Protocols({}, {})
    environment.filters |= {"number": number, "pretty": _pretty, "duration": duration}
    done = {(one.kind, one.member) for one in scored}
    partitions = [p for p in PARTITIONS if any(p in one.scores["partitions"] for one in scored)]
    known = {one.member: published(recipe, one, tables) for one in scored}
    return environment.get_template("index.html").render(
        recipe=recipe,
        scored=scored,
        partitions=partitions,
        caption=caption(recipe, scored),
        shown=SHOWN[recipe.task],
        names=NAMES,
        few=FEW_SPEAKERS,
        size_text=size_text,
        published={p: any(p in one for one in known.values()) for p in partitions},
        published_of=known,
        unfinished=[
            f"{member} (fusion)" if kind == "fusion" else member
            for kind, member, _ in runs.run_folders(recipe, Path())
            if (kind, member) not in done
        ],
        overview_plot=_overview_plot(recipe, scored, partitions),
        confusion_plot=_confusion_plot,
        targets_of=_targets_of(scored, partitions),
        notes=[(one.title, notes) for one in scored if (notes := _notes(one))],
        splits=_splits([*scored, *(one for more in others.scored.values() for one in more)]),
        others={name: {one.member: one for one in more} for name, more in others.scored.items()},
        gaps=others.gaps,
        kinds=OVERLAP_KINDS,
        grid=GRID,
        gap_text=gap_text,
        gap_size=gap_size,
        tables=tables,
        corpora={
            name: {"counts": _counts(table), "about": table.corpus, "findings": table.findings}
            for name, table in tables.items()
        },
    )


def published(recipe: Recipe, one: Scored, tables: Mapping[str, Table]) -> dict[str, float]:
    """Published figures to stand beside a run: `{partition: figure}`.

    Only for the published procedure on a corpus with the published counts.
    """
    if len(recipe.corpora) != 1 or one.stale or set(tables) != set(recipe.corpora):
        return {}
    (table,) = tables.values()
    counts_differ = any(finding.kind == "counts" for finding in table.findings)
    figures = PUBLISHED.get(recipe.head.select, {})
    models = set(figures) - {"fusion"}
    if (
        table.corpus.get("reader") != "hume-prosody"
        or not table.corpus.get("published")
        or counts_differ
        or recipe.head.kind != "linear-svr"
        or recipe.head.per_target
        or recipe.head.standardise
        or recipe.split.outer != "predefined"
        or set(recipe.targets) != set(table.targets)
    ):
        return {}
    if one.kind == "model":
        return figures.get(one.member, {})
    fusion = recipe.fusion[one.member]
    whole = fusion.method == "mean" and set(fusion.members) == models
    return figures.get("fusion", {}) if whole else {}


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _notes(one: Scored) -> list[str]:
    """What a run has to say beside its scores."""
    fits = one.record.get("fit_warnings", {})
    return [
        *(["made with another recipe than this one; run make train (or make fuse)"] * one.stale),
        *one.scores["warnings"],
        *one.record.get("notes", []),
        *(f"{count} of {one.record.get('fits', '?')} fits: {text}" for text, count in fits.items()),
    ]


def _splits(scored: Sequence[Scored]) -> list[tuple[str, dict[str, Any]]]:
    """The folds of the runs, each once, with the runs that have them."""
    found: dict[str, tuple[list[str], dict[str, Any]]] = {}
    for one in scored:
        if "split" in one.record:
            split = one.record["split"]
            found.setdefault(runs.fingerprint(split), ([], split))[0].append(one.title)
    return [(", ".join(titles), split) for titles, split in found.values()]


def _counts(table: Table) -> list[tuple[str, int]]:
    frame = table.frame
    speakers = frame.loc[frame["speaker"] != "", "speaker"].nunique()
    partitions = frame.loc[frame["partition"] != "", "partition"].value_counts(sort=False)
    return [
        ("utterances", len(frame)),
        *([("speakers", speakers)] if speakers else []),
        *((str(name), int(count)) for name, count in partitions.items()),
    ]


def _targets_of(scored: Sequence[Scored], partitions: Sequence[str]) -> str | None:
    """The partition whose scores a target are shown for all runs: the last that has any."""
    for partition in reversed(partitions):
        for one in scored:
            if one.scores["partitions"].get(partition, {}).get("per_target"):
                return partition
    return None


def _overview_plot(recipe: Recipe, scored: Sequence[Scored], partitions: Sequence[str]) -> Any:
    from markupsafe import Markup

    from evaluate import plots

    metric = SHOWN[recipe.task][0]
    rows = [
        (
            one.marked_title,
            {
                name: found["metrics"][metric]
                for name, found in one.scores["partitions"].items()
                if found["metrics"]
            },
        )
        for one in scored
    ]
    shown = [p for p in partitions if any(p in found for _, found in rows)]
    if not shown:
        return ""
    return Markup(
        plots.scores(
            rows,
            shown,
            f"{NAMES[metric]} with {recipe.evaluate.confidence:.0%} interval",
            f"{NAMES[metric]} of every run on {' and '.join(shown)}; the numbers are in the table",
            rule_after=sum(one.kind == "model" for one in scored) % len(scored),
        )
    )


def _confusion_plot(one: Scored, partition: str) -> Any:
    from markupsafe import Markup

    from evaluate import plots

    return Markup(
        plots.confusion(
            one.scores["partitions"][partition]["confusion"],
            one.scores["labels"],
            f"Confusion matrix of {one.marked_title} on {partition}; the numbers are in the table",
        )
    )
