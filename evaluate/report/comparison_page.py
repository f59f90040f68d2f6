"""Two folders of runs side by side, as a page.

Conventions
-----------
- Nothing is computed: `evaluate.scores.side_by_side` has the numbers. A is what B is taken from.
- Runs are named as their folders are, which is what they were matched by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from evaluate.report import plots
from evaluate.report.book import Book, Shown, slug
from evaluate.report.tables import NONE, Sheet, count, difference, entry, p_value, plain, text
from evaluate.scores.names import NAMES
from evaluate.scores.pairs import LEVEL
from evaluate.scores.records import Estimate
from evaluate.scores.side_by_side import (
    Comparison,
    DetailRow,
    PairRow,
    best_note,
    cannot_tell,
    details,
)

Rows = Sequence[PairRow]


def render(found: Comparison) -> dict[str, str | bytes]:
    """All files of the report on a comparison."""
    return _Book(found).files()


class _Book(Book):
    """The page of a comparison and what it leads to."""

    def __init__(self, found: Comparison) -> None:
        self.found = found
        self.confidence = f"{found.recipe.evaluate.confidence:.0%}"
        names = [folder.resolve().name for folder in (found.a, found.b)]
        self.title = " against ".join(names)
        super().__init__(self.title)

    def files(self) -> dict[str, str | bytes]:
        """Make the page."""
        found = self.found
        by_metric, (beside, lacking) = found.by_metric(), details(found)
        parts = []
        for partition in dict.fromkeys(partition for partition, _ in by_metric):
            rows = {m: by_metric[partition, m] for m in found.recipe.shown}
            parts.append(
                (
                    found.marked(partition),
                    found.optimism(partition),
                    self._picture(partition, rows),
                    self.keep(*(differences(found, partition, *of) for of in rows.items())),
                    list(dict.fromkeys(filter(None, map(cannot_tell, rows.values())))),
                    self.keep(*self._details(partition, beside)),
                )
            )
        self.page(
            "index.html",
            "side-by-side.html",
            "Side by side",
            found=found,
            settings=self.keep(settings(found)),
            parts=parts,
            best=best_note(found),
            lacking=lacking,
        )
        return self._files

    def _picture(self, partition: str, rows: Mapping[str, Rows]) -> Shown:
        pairs: dict[str, dict[str, Estimate]] = {}
        for metric, of in rows.items():
            for row in of:
                pairs.setdefault(row.runs, {})[NAMES[metric]] = row.difference
        names = [NAMES[metric] for metric in rows]
        picture = plots.scores(
            list(pairs.items()),
            names,
            f"A minus B, with {self.confidence} interval",
            f"{' and '.join(names)} of A minus those of B on {partition}, for every pair of runs; "
            "the numbers are in the tables",
            line_at=0,
        )
        text = f"{partition}: right of the line A has the higher score, left of it B."
        return self.draw(slug(f"differences-{partition}"), picture, text)

    def _details(self, partition: str, beside: Sequence[DetailRow]) -> list[Sheet]:
        here = [row for row in beside if row.partition == partition]
        kinds = dict.fromkeys(row.kind for row in here)
        return [
            self._detail(partition, kind, [row for row in here if row.kind == kind])
            for kind in kinds
        ]

    def _detail(self, partition: str, kind: str, rows: Sequence[DetailRow]) -> Sheet:
        name = NAMES[self.found.recipe.shown[0]]
        of = {"class": "Recall of every class", "target": f"{name} of every target"}
        title = f"{of.get(kind, f'{name} by {kind}')}, {partition}"
        cells = [
            [
                text(row.runs),
                text(row.name),
                entry(row.score_a),
                entry(row.score_b),
                difference(row.difference),
                count(row.n_a),
                count(row.n_b),
            ]
            for row in rows
        ]
        return Sheet(
            title,
            f"{title}: each run on all rows that it holds out, as scored by itself; the difference "
            "is not paired",
            ["run", kind, "A", "B", "A minus B", "n of A", "n of B"],
            [cells],
            slug(f"{kind}-{partition}"),
        )


def differences(found: Comparison, partition: str, metric: str, rows: Rows) -> Sheet:
    """A minus B of every pair of runs, of a metric on a partition.

    Parameters
    ----------
    found : Comparison
    partition, metric : str
    rows : list of PairRow
        Those of the partition and metric.

    Returns
    -------
    Sheet
    """
    confidence = f"{found.recipe.evaluate.confidence:.0%}"
    cells = [
        [
            text(row.runs),
            plain(row.score_a),
            plain(row.score_b),
            difference(row.difference),
            count(row.n or 0),
            count(row.n_speakers) if row.n_speakers else text(NONE),
            p_value(row.p),
            p_value(row.p_holm, LEVEL),
        ]
        for row in rows
    ]
    lacking = "".join(f"; {why}" for why in dict.fromkeys(row.lacking for row in rows) if why)
    return Sheet(
        f"{NAMES[metric]}, {partition}",
        f"{NAMES[metric]} of A and B, {partition}, on the rows that both hold out, and A minus "
        f"B with its {confidence} interval; speakers are resampled and swapped, else "
        f"utterances{lacking}; Holm over all rows of this table; p and the interval come from two "
        "methods, and need not agree at its end",
        ["run", "A", "B", "A minus B", "n", "speakers", "p", "p, Holm"],
        [cells],
        slug(f"differences-{partition}-{metric}"),
        strong=f"p up to {LEVEL:g}" if any(row[-1].strong for row in cells) else "",
    )


def settings(found: Comparison) -> Sheet | None:
    """The settings that differ, where some do.

    Parameters
    ----------
    found : Comparison

    Returns
    -------
    Sheet or None
        None where there is nothing to show.
    """
    if not found.settings:
        return None
    rows = [
        [text(each.key), text(each.a), text(each.b), text(", ".join(each.pairs) or "all")]
        for each in found.settings
    ]
    return Sheet(
        "Settings that differ",
        "Settings, packages, tables and stores that differ, as the runs of A and B were made",
        ["setting", "A", "B", "runs"],
        [rows],
        "settings",
    )
