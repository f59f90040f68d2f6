"""The pages of a report and the files beside them, as text and bytes.

Conventions
-----------
- `render` gives what is to be written: name relative to the report's folder -> content.
- Whatever comes from data is escaped by the templates; names of files are made harmless by `slug`.
- Nothing is loaded from outside the folder but recordings, which are links to the user's own files.
- A page that has nothing to show is not made, and no page leads to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evaluate.report import gain_sheets, plots, sheets, tables
from evaluate.report import pair_sheets as contrasts
from evaluate.report.book import Book, Shown, slug
from evaluate.report.examples import Audio
from evaluate.report.paper import Paper
from evaluate.report.run_pages import RunPages, notes
from evaluate.report.tables import Sheet
from evaluate.report.words import caption, marked_partition
from evaluate.runs.files import fingerprint
from evaluate.runs.folders import run_folders
from evaluate.scores import side_by_side
from evaluate.scores.names import NAMES
from evaluate.scores.protocols import Protocols
from evaluate.scores.records import Estimate, Seeds, SpeakerGains, Statistics
from evaluate.scores.score import Scored, optimism
from evaluate.scores.subsets import FoundSubsets, by_corpus
from evaluate.scores.sweeps import Sweep
from features.common.kept import Kept
from features.common.progress import duration
from features.recipe.model import Recipe
from features.utterances import Table

UTTERANCES = "utterances.js"


@dataclass(frozen=True)
class Study:
    """All that a report shows.

    Attributes
    ----------
    scored : list of Scored
        Finished runs of the recipe.
    protocols : Protocols
        Those of the protocols beside it.
    sweeps : list of Sweep
        Models at several layers; their runs need not be among the recipe's.
    statistics : Statistics
    subsets : FoundSubsets or None
        Where the recipe asks for subsets and a search is finished.
    repeats : Seeds or None
        Where there are runs of other seeds.
    tables : dict
        Corpus -> its table, where there is one.
    paper : Paper
        Published figures beside ours.
    gains : SpeakerGains or None
        Heads against others, speaker by speaker, where the recipe asks for it.
    kept : Kept
        The files that it was read from: while it is held, none of them is opened again.
    """

    recipe: Recipe
    scored: Sequence[Scored]
    protocols: Protocols
    sweeps: Sequence[Sweep]
    statistics: Statistics
    subsets: FoundSubsets | None
    repeats: Seeds | None
    tables: Mapping[str, Table]
    audio: Audio
    paper: Paper
    gains: SpeakerGains | None = None
    kept: Kept = field(default_factory=Kept, repr=False, compare=False)

    def by_protocol(self) -> list[tuple[Recipe, str, Sequence[Scored]]]:
        """Recipe, name and all runs of every protocol that has any; the main one has no name.

        Returns
        -------
        list of (Recipe, str, sequence of Scored)
            The main protocol first.
        """
        also = self.recipe.beside()
        known = {run.folder for run in self.scored}
        swept = [run for sweep in self.sweeps for run in sweep.runs if run.folder not in known]
        return [
            (self.recipe, "", [*self.scored, *swept]),
            *((also[name], name, more) for name, more in self.protocols.scored.items()),
        ]


def render(study: Study) -> dict[str, str | bytes]:
    """All files of a report."""
    return _Book(study).files()


class _Book(Book):
    """The pages of a study and what they lead to, collected while they are made."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._runs = RunPages(self, study.by_protocol(), study.audio)
        self._pages = self._runs.files
        self._fused = [run for run in study.scored if run.kind == "fusion"]
        self._compared = study.statistics.partitions
        self._complementary = {
            partition: found.complementarity
            for partition, found in self._compared.items()
            if found.complementarity
        }
        self._has_fusion = bool(self._fused or self._complementary or study.subsets)
        self._titles = {run.name: run.title for run in study.scored}
        super().__init__(study.recipe.name, self._nav(), recipe=study.recipe)

    def files(self) -> dict[str, str | bytes]:
        """Make every page."""
        self._index()
        for recipe, protocol, scored in self.study.by_protocol():
            self._runs.make(recipe, protocol, scored)
        if self._has_fusion:
            self._fusion()
        if self._compared:
            self._comparisons()
        if self.study.paper.sheets:
            self._paper()
        if self.study.sweeps:
            self._layer_page()
        self._data()
        self._provenance()
        self._files[UTTERANCES] = self._runs.utterance_script()
        return self._files

    def _nav(self) -> list[tuple[str, str]]:
        return [
            ("index.html", "Scores"),
            *([("comparisons.html", "Comparisons")] if self._compared else []),
            *([("fusion.html", "Fusion")] if self._has_fusion else []),
            *([("layers.html", "Layers")] if self.study.sweeps else []),
            *([("paper.html", "Paper")] if self.study.paper.sheets else []),
            ("data.html", "Data"),
            ("provenance.html", "Provenance"),
        ]

    def _index(self) -> None:
        study = self.study
        recipe, scored = study.recipe, study.scored
        done = {(run.kind, run.member) for run in scored}
        others = study.by_protocol()[1:]
        main = self.keep(sheets.overview(recipe, scored, self._pages, study.statistics))
        said = {note for sheet in main for note in sheet.notes}
        self.page(
            "index.html",
            "index.html",
            "Scores",
            counts=caption(recipe, scored),
            unfinished=[
                f"{member} (fusion)" if kind == "fusion" else member
                for kind, member, _ in run_folders(recipe, Path())
                if (kind, member) not in done
            ],
            left_out=() if study.paper.sheets else study.paper.left_out,
            main=main,
            pictures=self._overview_pictures(),
            subsets=[
                contrasts.best_subsets(found.record, stale=found.stale)
                for found in (study.subsets,)
                if found
            ],
            others=self.keep(
                *(sheets.overview(other, more, self._pages) for other, _, more in others),
                sheets.gaps(recipe, scored, study.protocols, self._pages),
                *sheets.seeds(recipe, study.repeats, self._titles),
                *(
                    sheets.transfer(run, recipe.shown[0], f"pairs-{self._runs.stems[run.folder]}")
                    for run in scored
                ),
                *(
                    sheets.grid(run, recipe.shown[0], f"grid-{self._runs.stems[run.folder]}")
                    for run in scored
                ),
                sheets.targets(recipe, scored, self._pages),
            ),
            gains=self.keep(
                gain_sheets.gains(recipe, study.gains, self._titles),
                *gain_sheets.by_speaker(recipe, study.gains, self._titles),
            ),
            gain_pictures=[
                self.draw(stem, picture, gain_sheets.MEANING)
                for stem, picture in gain_sheets.pictures(recipe, study.gains, self._titles)
            ],
            notes=[(note, titles) for note, titles in _gathered(scored) if note not in said],
            n_runs=len(scored),
            by_speakers=any(run.scores.n_speakers for run in scored),
        )

    def _overview_pictures(self) -> list[Shown]:
        recipe, scored = self.study.recipe, self.study.scored
        metric = recipe.shown[0]
        names = {p: marked_partition(p, scored) for p in sheets.partitions_of(scored)}
        rows = [
            (
                run.marked_title,
                {names[p]: e for p, e in _by_partition(run, metric).items() if p in names},
            )
            for run in scored
        ]
        shown = [p for p in names.values() if any(p in found for _, found in rows)]
        if not shown:
            return []
        picture = plots.scores(
            rows,
            shown,
            f"{NAMES[metric]} with {recipe.evaluate.confidence:.0%} interval",
            f"{NAMES[metric]} of every run on {' and '.join(shown)}; the numbers are in the table",
            rule_after=sum(run.kind == "model" for run in scored) % len(scored),
            chance=self._chance(metric),
        )
        filled = "; the last partition is drawn filled" if len(shown) > 1 else ""
        return [self.draw("scores", picture, f"Scores with their intervals{filled}.")]

    def _comparisons(self) -> None:
        metrics = self.study.recipe.shown
        parts = [
            (
                marked_partition(partition, self.study.scored),
                optimism(partition, self.study.scored),
                self.keep(
                    *(contrasts.comparisons(found, partition, m, self._titles) for m in metrics),
                    contrasts.mcnemar(found, partition, self._titles),
                ),
                [f"{self._titles.get(name, name)}: {why}" for name, why in found.left_out.items()],
            )
            for partition, found in self._compared.items()
        ]
        self.page("comparisons.html", "comparisons.html", "Comparisons", parts=parts)

    def _fusion(self) -> None:
        study = self.study
        combined = {name for run in self._fused for name in run.record.get("members", ())}
        shown = [o for o in study.scored if o.kind == "fusion" or o.member in combined]
        scores = sheets.overview(study.recipe, shown, self._pages, study.statistics)
        metric = study.recipe.shown[0]
        parts = []
        for partition, found in self._complementary.items():
            wanted = (found, partition, metric, self._titles)
            picture = self.draw(
                f"gains-{partition}",
                contrasts.gains(*wanted),
                "A point is a pair of models; above the line their mean is better than either.",
            )
            whole = (self._compared[partition], partition)
            tables_of = self.keep(
                contrasts.contributions(*whole, metric, self._titles),
                contrasts.pair_gains(*whole, metric, self._titles),
                *contrasts.matrices(*whole, self._titles),
            )
            meanings = contrasts.meanings(found, study.recipe.task)
            marked = marked_partition(partition, study.scored)
            why = optimism(partition, study.scored)
            parts.append((marked, why, picture, tables_of, meanings))
        self.page(
            "fusion.html",
            "fusion.html",
            "Fusion",
            scores=[scores] if self._fused else [],
            fused=self._fused,
            parts=parts,
            subsets=study.subsets,
            own_choices=bool(study.subsets and contrasts.chosen_by_folds(study.subsets.record)),
            curves=[picture for m in study.recipe.shown for picture in self._subset_pictures(m)],
            choices=self.keep(*self._subset_tables()),
        )

    def _subset_tables(self) -> list[Sheet]:
        if not self.study.subsets:
            return []
        whole, *alone = by_corpus(self.study.subsets.record)
        corpora = self.study.subsets.record.alone
        tables_of = [
            contrasts.subsets(found, slug(f"subsets-{corpus}"))
            for corpus, found in zip(corpora, alone, strict=True)
        ]
        return [contrasts.subsets(whole), *tables_of]

    def _subset_pictures(self, metric: str) -> list[Shown]:
        if not self.study.subsets:
            return []
        chance = self._chance(metric)
        return [
            self.draw(
                slug(f"subsets-{metric}-{kind.replace(', ', '-').replace(' ', '-')}"),
                picture,
                f"{NAMES[metric]}, {kind}.",
            )
            for kind, picture in contrasts.subset_curves(self.study.subsets.record, metric, chance)
        ]

    def _chance(self, metric: str) -> float | None:
        """The UAR of guessing; other metrics have none that holds for all data."""
        labels = self.study.scored[0].scores.labels if self.study.scored else ()
        return 1 / len(labels) if metric == "uar" and labels else None

    def _layer_page(self) -> None:
        models = []
        for sweep in self.study.sweeps:
            stem = slug(f"layers-{sweep.name}")
            sheet = sheets.layers(self.study.recipe, sweep, stem, self._pages)
            models.append((sweep, self._layer_pictures(sweep, stem), self.keep(sheet)))
        self.page("layers.html", "layers.html", "Layers", models=models)

    def _layer_pictures(self, sweep: Sweep, stem: str) -> list[Shown]:
        recipe, pictures = self.study.recipe, []
        metric = recipe.shown[0]
        for partition in sheets.partitions_of(sweep.runs):
            points, lines = (
                [
                    (str(layer), found[partition])
                    for layer, run in part.items()
                    if partition in (found := _by_partition(run, metric))
                ]
                for part in (sweep.layers, sweep.others)
            )
            if points:
                title = f"{NAMES[metric]} of {sweep.name} by layer, {partition}"
                chance = self._chance(metric)
                picture = plots.by_layer(points, lines, NAMES[metric], title, chance=chance)
                text = f"{partition}, with {recipe.evaluate.confidence:.0%} intervals."
                pictures.append(self.draw(f"{stem}-{partition}", picture, text))
        return pictures

    def _paper(self) -> None:
        paper = self.study.paper
        found = self.keep(*paper.sheets)
        self.page("paper.html", "paper.html", "Paper", sheets=found, left_out=paper.left_out)

    def _data(self) -> None:
        study = self.study
        corpora = [
            {
                "name": corpus,
                "about": table.corpus,
                "findings": table.findings,
                "sheets": self.keep(
                    sheets.counts(corpus, table), sheets.truths(study.recipe, corpus, table)
                ),
            }
            for corpus, table in study.tables.items()
        ]
        everyone = [run for _, _, scored in study.by_protocol() for run in scored]
        self.page(
            "data.html",
            "data.html",
            "Data",
            corpora=corpora,
            splits=sheets.splits(everyone),
            silent=study.audio.missing,
        )

    def _provenance(self) -> None:
        everyone = [run for _, _, scored in self.study.by_protocol() for run in scored]
        rows = [
            [
                sheets.title_cell(run, self._pages),
                tables.text(run.record["fingerprint"]),
                *(_seconds(run, what) for what in ("fits", "all")),
            ]
            for run in everyone
        ]
        header = ["run", "fingerprint", "fits", "whole"]
        sheet = Sheet("Runs and their time", "Runs and their time", header, [rows])
        versions = {
            fingerprint(found): sheets.pairs(found, "Versions", ["package", "version"])
            for run in everyone
            if (found := run.record.get("versions"))
        }
        self.page(
            "provenance.html",
            "provenance.html",
            "Provenance",
            times=[sheet],
            versions=list(versions.values()),
            scored=[(run, self._own_recipe(run)) for run in everyone],
            resolved=self.study.recipe.resolved(),
        )

    def _own_recipe(self, run: Scored) -> list[Sheet]:
        """What a run's recipe has other than the study's."""
        head = run.record.get("head")
        recipe = self.study.recipe.of_head(head) if head else self.study.recipe
        own, whole = run.record.get("recipe", {}), recipe.resolved()
        found = {
            key: value
            for key, value, _ in side_by_side.differences(own, whole)
            if key not in ("name", "path")
        }
        title = "Recipe as resolved, where it differs from the one above"
        return [sheets.pairs(found, title, ["setting", "value"])] if found else []


def _by_partition(run: Scored, metric: str) -> dict[str, Estimate]:
    """Score and bounds of every partition that has any."""
    return {
        name: found.metrics[metric]
        for name, found in run.scores.partitions.items()
        if found.metrics
    }


def _seconds(run: Scored, what: str) -> tables.Cell:
    value = run.record.get("seconds", {}).get(what)
    return tables.Cell(tables.NONE) if value is None else tables.Cell(duration(value), value)


def _gathered(scored: Sequence[Scored]) -> list[tuple[str, list[str]]]:
    """Every note once, with the runs that have it."""
    found: dict[str, list[str]] = {}
    for run in scored:
        for note in dict.fromkeys(notes(run)):
            found.setdefault(note, []).append(run.title)
    return list(found.items())
