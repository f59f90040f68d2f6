"""The page of a run: its scores, confusion matrices, calibration, and its hardest utterances.

Conventions
-----------
- A recording that a page leads to stands in `utterances.js`, which pages of all runs share.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from evaluate.report import examples, plots, sheets
from evaluate.report import pair_sheets as contrasts
from evaluate.report.book import Book, Shown, slug
from evaluate.report.examples import Audio
from evaluate.report.tables import Sheet
from evaluate.report.words import curve_caption, curve_text, marked_partition
from evaluate.runs.curves import read_curve
from evaluate.runs.folders import CURVES, PREDICTIONS
from evaluate.runs.predictions import read_predictions
from evaluate.scores.names import select_name
from evaluate.scores.records import PartitionScores, RowScores
from evaluate.scores.score import Scored, optimism
from features.common.terminal import shown
from features.recipe.model import Recipe

HARDEST = 20
"""Utterances in a table of the hardest."""
NO_CURVE = (
    "No learning curve is shown: curves.csv of this run does not say which fits are of chosen "
    "cells; make train FORCE=1 writes it anew."
)
"""Of a run whose file is of an early version."""


class RunPages:
    """The pages of runs, a page a run.

    Parameters
    ----------
    book : Book
        Takes the pages, their tables and figures.
    protocols : sequence of (Recipe, str, sequence of Scored)
        Recipe, name and runs of each protocol; the main one has no name.
    audio : Audio

    Attributes
    ----------
    stems : dict
        Folder of a run -> what its files are called.
    files : dict
        Folder of a run -> the file of its page.
    """

    def __init__(
        self, book: Book, protocols: Sequence[tuple[Recipe, str, Sequence[Scored]]], audio: Audio
    ) -> None:
        self._book, self._audio = book, audio
        self._runs = [run for _, _, scored in protocols for run in scored]
        self.stems = {
            run.folder: slug("-".join([run.kind, run.member, *([name] if name else [])]))
            for _, name, scored in protocols
            for run in scored
        }
        self.files = {folder: f"{stem}.html" for folder, stem in self.stems.items()}
        self._utterances: dict[tuple[str, str], int] = {}

    def make(self, recipe: Recipe, protocol: str, scored: Sequence[Scored]) -> None:
        """Make the pages of all runs of a protocol."""
        predictions = _Predictions(scored)
        for run in scored:
            self._run(recipe, protocol, run, predictions)

    def utterance_script(self) -> str:
        """The content of `utterances.js`: names and addresses of what the pages made lead to."""
        several = len({corpus for corpus, _ in self._utterances}) > 1
        listed = [
            [
                shown(f"{corpus}/{name}" if several else name),
                self._audio.links.get((corpus, name)),
            ]
            for corpus, name in self._utterances
        ]
        return f"const utterances = {json.dumps(listed)};\n"

    def _run(self, recipe: Recipe, protocol: str, run: Scored, predictions: _Predictions) -> None:
        predicted = predictions.of(run)
        parts, cells = [], {}
        for partition, result in run.scores.partitions.items():
            rows = predicted[predicted.index.get_level_values("partition") == partition]
            part: dict[str, Any] = {
                "name": marked_partition(partition, [run]),
                "optimism": optimism(partition, [run]),
                "masked": not result.metrics,
            }
            parts.append(part)
            if part["masked"]:
                continue
            part["scores"], part["confusion"] = self._score_tables(run, partition, result)
            if part["confusion"]:
                cells[partition] = self._cells(rows, run.scores.labels)
            part["calibration"] = self._calibration(run, partition)
            worst = rows["difficulty"].dropna()
            worst = worst.sort_values(ascending=False, kind="stable").head(HARDEST)
            part["more"] = self._book.keep(
                *contrasts.groups(run, partition, f"{self.stems[run.folder]}-{partition}"),
                sheets.hardest(run, predictions.beside(run), worst, self._audio, partition),
            )
        self._book.page(
            self.files[run.folder],
            "run.html",
            run.title,
            run=run,
            protocol=protocol or recipe.split.outer,
            parts=parts,
            cells=cells,
            chosen=self._book.keep(
                sheets.chosen(run), *sheets.learned(run), *sheets.layer_weights(run)
            ),
            **self._curves(run),
            notes=notes(run),
            silent=list(self._audio.missing.values()),
            neighbours=self._neighbours(run),
        )

    def _calibration(
        self, run: Scored, partition: str
    ) -> tuple[list[Sheet], list[Shown], list[str]]:
        """Table, picture, and what they show; nothing of each where scores have no calibration."""
        found = contrasts.calibration(run, partition)
        if found is None:
            return [], [], []
        stem = f"{self.stems[run.folder]}-{partition}"
        picture = contrasts.reliability(
            found, f"Accuracy of {run.marked_title} by its confidence, {partition}"
        )
        text = "Accuracy by confidence; on the line a run is as sure of itself as it is right."
        return (
            self._book.keep(contrasts.calibration_errors(run, partition, stem)),
            [self._book.draw(f"calibration-{stem}", picture, text)],
            [contrasts.calibration_note(found)],
        )

    def _curves(self, run: Scored) -> dict[str, Any]:
        """The picture of a network's training, or why there is none; neither of other heads."""
        if not (run.folder / CURVES).exists():
            return {"curves": [], "no_curve": ""}
        found = read_curve(run.folder / CURVES)
        if found is None:
            return {"curves": [], "no_curve": NO_CURVE}
        select = run.record["recipe"]["head"]["select"]
        name = select_name(select)
        title = f"Learning curve of {run.marked_title}: {curve_text(found, name)}"
        chance = 1 / len(run.scores.labels) if select == "uar" else None
        picture = plots.learning_curve(found, f"{name}, inner rows", title, chance=chance)
        caption = curve_caption(found, name, run.record)
        shown = self._book.draw(f"curve-{self.stems[run.folder]}", picture, caption)
        return {"curves": [shown], "no_curve": ""}

    def _score_tables(
        self, run: Scored, partition: str, result: PartitionScores
    ) -> tuple[list[Sheet], list[dict[str, Any]]]:
        """Tables of scores of a partition and of its corpora alone, and confusion matrices."""
        found, matrices = [], []
        whole: dict[str, RowScores] = {partition: result}
        alone = {f"{partition}, {c} alone": part for c, part in result.corpora.items()}
        for where, part in {**whole, **alone}.items():
            if not part.metrics:
                continue
            told = where.replace(partition, marked_partition(partition, [run]), 1)
            regression = run.scores.task == "regression"
            folds = isinstance(part, PartitionScores) and part.folds
            if folds or not regression:  # else the table of targets ends with its means
                found += self._book.keep(sheets.summary(part, told))
            stem = slug(f"{self.stems[run.folder]}-{where.replace(', ', '-').replace(' ', '-')}")
            if regression:
                found += self._book.keep(sheets.of_targets(part, told, f"targets-{stem}"))
                continue
            labels = run.scores.labels
            found += self._book.keep(sheets.of_classes(part, told, f"classes-{stem}", run.marks))
            matrix = sheets.confusion(part, labels, told, f"confusion-{stem}", run.marks)
            self._book.keep(matrix)
            title = f"Confusion matrix of {run.marked_title}, {where}"
            self._book.picture_files(
                f"confusion-{stem}", plots.confusion(part.confusion, labels, title)
            )
            totals = [sum(row) for row in part.confusion]
            matrices.append(
                {
                    "sheet": matrix,
                    "shares": [
                        [n / total if total else 0 for n in row]
                        for row, total in zip(part.confusion, totals, strict=True)
                    ],
                    "partition": partition if where in whole else None,
                }
            )
        return found, matrices

    def _cells(self, rows: pd.DataFrame, labels: Sequence[str]) -> dict[str, list[int]]:
        """Cell of a confusion matrix -> places of its utterances in `utterances.js`."""
        return {
            cell: [self._utterances.setdefault(key, len(self._utterances)) for key in keys]
            for cell, keys in examples.confused(rows.reset_index(), labels).items()
        }

    def _neighbours(self, run: Scored) -> dict[str, tuple[str, str]]:
        """The pages before and after a run's, in the order of the recipe."""
        at = [other.folder for other in self._runs].index(run.folder)
        around = {"prev": self._runs[:at][-1:], "next": self._runs[at + 1 :][:1]}
        return {
            way: (self.files[other.folder], other.title)
            for way, found in around.items()
            for other in found
        }


class _Predictions:
    """Predictions of the runs of a protocol, read once, with how far off each is."""

    def __init__(self, scored: Sequence[Scored]) -> None:
        self._scored = scored
        self._read: dict[Path, pd.DataFrame] = {}

    def of(self, run: Scored) -> pd.DataFrame:
        """Rows indexed by `examples.ROW`, with the column `difficulty`, NaN without a truth."""
        if run.folder not in self._read:
            rows = read_predictions(run.folder / PREDICTIONS)
            index = pd.MultiIndex.from_frame(rows[examples.ROW])
            rows = rows.drop(columns=examples.ROW).set_index(index)
            rows["difficulty"] = examples.difficulty(rows)
            self._read[run.folder] = rows
        return self._read[run.folder]

    def beside(self, run: Scored) -> list[tuple[str, pd.DataFrame]]:
        """The run's own predictions, then those of the other models; not of a sweep's layers."""
        others = [
            other
            for other in self._scored
            if other is not run and other.kind == "model" and not other.at_other_layer
        ]
        return [(other.title, self.of(other)) for other in (run, *others)]


def notes(run: Scored) -> list[str]:
    """What a run has to say beside its scores."""
    fits = run.record.get("fit_warnings", {})
    return [
        *([sheets.STALE] * run.stale),
        *run.scores.warnings,
        *run.record.get("notes", []),
        *(f"{count} of {run.record.get('fits', '?')} fits: {text}" for text, count in fits.items()),
    ]
