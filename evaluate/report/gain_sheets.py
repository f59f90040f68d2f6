"""What heads gain over others speaker by speaker, as tables and pictures (`gains.json`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from evaluate.report import plots
from evaluate.report.book import slug
from evaluate.report.tables import Cell, Sheet, difference, entry, plain, text
from evaluate.scores.names import FEW_SPEAKERS, NAMES
from evaluate.scores.records import HeadGain, SpeakerGains
from features.common.words import counted

if TYPE_CHECKING:
    from features.recipe.model import Recipe

MEANING = "A point is a speaker; below the line the head is worse than its base."
NAME = "speaker-gains"

Titles = Mapping[str, str]


def gains(recipe: Recipe, found: SpeakerGains | None, titles: Titles) -> Sheet | None:
    """Mean gain over speakers and the share who lose, a row a pair and protocol.

    Parameters
    ----------
    recipe : Recipe
    found : SpeakerGains or None
    titles : mapping
        System -> how it is shown.

    Returns
    -------
    Sheet or None
        None where no pair of `[evaluate] gains` has both runs.
    """
    if found is None:
        return None

    def row(gain: HeadGain) -> list[Cell]:
        cells = [
            text(titles.get(gain.head, gain.head)),
            text(titles.get(gain.base, gain.base)),
            text(gain.protocol or recipe.split.outer),
        ]
        for metric in recipe.shown:
            of = gain.metrics[metric]
            lacking = len(of.speakers) - of.n
            notes = [counted(of.n, "speaker")] if of.n < FEW_SPEAKERS or lacking else []
            notes += [f"{lacking} undefined"] if lacking else []
            cells.append(replace(difference(of.mean), note="; ".join(notes)))
            cells.append(entry(of.losing))
        return cells

    shown = [
        name
        for metric in recipe.shown
        for name in (f"gain, {NAMES[metric]}", f"share who lose, {NAMES[metric]}")
    ]
    return Sheet(
        "Gains speaker by speaker",
        f"Mean over speakers of the score on a speaker's test rows, head less base, with "
        f"{recipe.evaluate.confidence:.0%} intervals over speakers",
        ["head", "against", "protocol", *shown],
        [[row(gain) for gain in found.gains]],
        NAME,
    )


def by_speaker(recipe: Recipe, found: SpeakerGains | None, titles: Titles) -> list[Sheet]:
    """Every speaker's scores by the first metric, a table a pair and protocol."""
    metric = recipe.shown[0]
    tables = []
    for gain in found.gains if found else ():
        of = gain.metrics[metric]
        rows = [
            [text(name), plain(both.base), plain(both.head), _gain(both.gain)]
            for name, both in of.speakers.items()
        ]
        head, base = (titles.get(name, name) for name in (gain.head, gain.base))
        protocol = gain.protocol or recipe.split.outer
        title = f"{head} against {base}, {protocol}"
        caption = f"{NAMES[metric]} of every speaker on test, {protocol}"
        header = ["speaker", base, head, "gain"]
        marks = of.mean.marks
        tables.append(Sheet(title, caption, header, [rows], _stem(gain), marks=marks))
    return tables


def _gain(value: float | None) -> Cell:
    return Cell("undefined" if value is None else f"{value:+.3f}", value)


def _stem(gain: HeadGain) -> str:
    return slug("-".join(filter(None, [NAME, gain.head, "against", gain.base, gain.protocol])))


def pictures(
    recipe: Recipe, found: SpeakerGains | None, titles: Titles
) -> list[tuple[str, plots.Picture]]:
    """The gain of every speaker against the score with the base; stem and picture of each pair."""
    metric = recipe.shown[0]
    drawn = []
    for gain in found.gains if found else ():
        points = [
            (both.base, both.gain, name)
            for name, both in gain.metrics[metric].speakers.items()
            if both.base is not None and both.gain is not None
        ]
        if points:
            head, base = (titles.get(name, name) for name in (gain.head, gain.base))
            where = gain.protocol or recipe.split.outer
            marks = "".join(f" ({mark})" for mark in gain.metrics[metric].mean.marks)
            title = f"Gain of {head} over {base} in {NAMES[metric]}, speaker by speaker, {where}"
            axes = f"{NAMES[metric]} with {base}", f"gain with {head}{marks}"
            drawn.append((_stem(gain), plots.scatter(points, *axes, title)))
    return drawn
