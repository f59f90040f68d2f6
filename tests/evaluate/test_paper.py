"""Tables of papers: our figures in their cells, and where published ones do not stand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluate.report.paper import Paper, Results, read_paper
from evaluate.report.tables import Sheet
from evaluate.runs.folders import INNER
from evaluate.runs.predictions import write_predictions
from evaluate.scores.records import marked
from evaluate.scores.score import score_all
from evaluate.scores.spread import make_spread
from evaluate.scores.subsets import FoundSubsets
from features.common.findings import Finding
from features.common.folders import Folders
from features.corpora import CORPORA
from features.recipe.load import load_recipe
from features.recipe.model import Recipe
from features.utterances import Table, write_table
from fusion.subsets.choose import SearchStates, choose, read_data
from tests.evaluate import made
from tests.models.synthetic import rows

TOP = Path(__file__).resolve().parents[2]
TABLE = """
[[published]]
name = "table-1"
title = "Table <1>"
source = "Someone"
heading = "system"
differs = "50 % & <more>"
needs = { "head.select" = "uar" }
columns = [{ name = "UAR", metric = "uar" }, { name = "WA", metric = "wa" }]
rows = [
    { name = "a baseline", figures = [0.4, "-"] },
    { name = "One", run = "one", figures = [0.5123, 1] },
    { name = "fused", rule = true, run = "fusion/mean", figures = [0.6, 0.7] },
]
"""
SEARCHED = """
[fusion.subsets]
k = "all"
alone = true
[[published]]
name = "table-2"
title = "Table 2"
source = "Someone"
heading = "UAR"
columns = [{ name = "mine", corpus = "mine" }, { name = "both" }, { name = "theirs", ours = false }]
rows = [
    { name = "mean", statistic = "mean", figures = [0.5, 0.6, 0.7] },
    { name = "deviation", statistic = "deviation", figures = [0.5, 0.6, 0.7] },
    { name = "max", k = 1, figures = [0.5, 0.6, 0.7] },
    { name = "largest", statistic = "largest", figures = [0.5, 0.6, 0.7] },
    { name = "best", k = "any", figures = [0.5, 0.6, 0.7] },
]
[[published]]
name = "table-3"
title = "Table 3"
source = "Someone"
heading = "UAR"
columns = [{ name = "theirs" }]
rows = [{ name = "mean", figures = [0.5] }]
"""


def published(recipe: Recipe, **about: Any) -> dict[str, Table]:
    """Tables that say what those of a corpus with the published counts do."""
    return {
        name: Table(pd.DataFrame(), {}, (), [], {"published": True, **about})
        for name in recipe.corpora
    }


def results(recipe: Recipe, folder: Path, **changes: Any) -> Results:
    scored = score_all(recipe, Folders(runs=folder))
    found = Results(recipe, scored, None, None, published(recipe))
    return replace(found, **changes)


def paper(found: Results, folder: Path) -> Paper:
    return read_paper(found, Folders(stores=folder / "no-stores", runs=folder))


def shown(sheet: Sheet) -> list[list[str]]:
    return [list(sheet.header), *([cell.marked for cell in row] for row in sheet.rows)]


def finished(tmp_path: Path, more: str = TABLE, corpora: str = "mine") -> tuple[Recipe, Path]:
    recipe = made.recipe(tmp_path, "classification", more, corpora)
    for i, member in enumerate(("one", "two", "mean")):
        frame = made.classification(n=90, seed=5, right=0.5 + i / 10)
        if len(corpora.split()) > 1:
            frame["corpus"] = np.where(frame["utterance"] < "u050", *corpora.split())
        where = made.finish(recipe, tmp_path / "runs", member, frame, {"title": member})
        write_predictions(where / INNER, frame.assign(partition="inner"))
    return recipe, tmp_path / "runs"


def test_ours_stand_beside_the_published_figures(tmp_path: Path) -> None:
    recipe, folder = finished(tmp_path)
    found = results(recipe, folder)
    made_paper = paper(found, folder)
    assert made_paper.left_out == []
    (sheet,) = made_paper.sheets
    one, fused = (
        next(s for s in found.scored if s.name == name).scores.partitions["test"].metrics
        for name in ("one", "fusion/mean")
    )
    assert shown(sheet) == [
        ["system", "UAR, published", "UAR, ours", "WA, published", "WA, ours"],
        ["a baseline", "0.40", "–", "–", "–"],
        ["One", "0.5123", f"{one['uar'].value:.3f}", "1.00", f"{one['wa'].value:.3f}"],
        ["fused", "0.60", f"{fused['uar'].value:.3f}", "0.70", f"{fused['wa'].value:.3f}"],
    ]
    assert [len(block) for block in sheet.blocks] == [2, 1]
    cell = sheet.rows[1][2]
    uar = one["uar"]
    assert (cell.value, cell.low, cell.high) == (uar.value, uar.low, uar.high)
    assert cell.note == "5 speakers"
    assert (sheet.name, sheet.notes) == ("paper-table-1", ["50 % & <more>"])
    assert sheet.caption == (
        "Table <1>. Published: Someone; ours: study, with 95% bootstrap intervals over speakers"
    )


def test_nothing_stands_where_counts_or_settings_differ(tmp_path: Path) -> None:
    recipe, folder = finished(tmp_path)
    found = results(recipe, folder)
    counts = Finding("counts", 1, (), "counts differ from the published ones: utterances 3")
    odd = published(recipe)
    odd["mine"].findings.append(counts)
    wanted = {
        "the counts of mine differ from the published ones": {"tables": odd},
        "no table of mine beside the stores says what it holds": {"tables": {}},
        "no figure is published for mine as it is here": {
            "tables": published(recipe, published=False)
        },
        "head.select is 'wa', not 'uar'": {
            "recipe": recipe.model_copy(
                update={"head": recipe.head.model_copy(update={"select": "wa"})}
            )
        },
    }
    for why, change in wanted.items():
        none = paper(replace(found, **change), folder)
        assert none.sheets == []
        assert none.left_out == [f"published figures are not shown ({why}): Table <1>"]
    other = Finding("names", 1, (), "1 file named otherwise")
    fine = published(recipe)
    fine["mine"].findings.append(other)
    assert paper(replace(found, tables=fine), folder).sheets


def test_a_stale_run_has_no_figure(tmp_path: Path) -> None:
    recipe, folder = finished(tmp_path)
    found = results(recipe, folder)
    one_stale = [replace(one, stale=one.name == "one") for one in found.scored]
    (sheet,) = paper(replace(found, scored=one_stale), folder).sheets
    assert [cell.text for cell in sheet.rows[1]] == ["One", "0.5123", "stale", "1.00", "stale"]
    all_stale = [replace(one, stale=True) for one in found.scored]
    none = paper(replace(found, scored=all_stale), folder)
    assert none.sheets == []
    assert "no finished run of today's recipe" in none.left_out[0]


def test_what_a_row_needs_decides_on_ours_alone(tmp_path: Path) -> None:
    text = TABLE.replace(
        "figures = [0.6, 0.7]", 'figures = [0.6, 0.7], needs = { "fusion.mean.method" = "vote" }'
    )
    recipe, folder = finished(tmp_path, text)
    (sheet,) = paper(results(recipe, folder), folder).sheets
    assert [cell.text for cell in sheet.rows[2]] == ["fused", "0.60", "–", "0.70", "–"]


def test_statistics_and_subsets_of_one_corpus_and_of_all(tmp_path: Path) -> None:
    recipe, folder = finished(tmp_path, SEARCHED, "mine yours")
    scored = score_all(recipe, Folders(runs=folder))
    spread = make_spread(recipe, scored, folder)
    whole = choose(recipe, read_data(recipe, folder), SearchStates(folder / "p.json", "x"))
    subsets = FoundSubsets(whole, stale=False)
    found = results(recipe, folder, subsets=subsets, spread=spread)
    sheet, theirs = paper(found, folder).sheets
    chosen = ["published", "ours (the best)", "ours, honest choice"]
    assert list(sheet.header) == [
        "UAR", *(f"{name}, {one}" for name in ("mine", "both") for one in chosen),
        "theirs, published",
    ]  # fmt: skip
    assert shown(theirs)[1:] == [["mean", "0.50"]]  # beside a table with ours
    named = {row[0].text: row[1:] for row in sheet.rows}
    part = spread.partitions["test"]
    for at, one in ((1, part.corpora["mine"]), (4, part)):
        of = one.metrics["uar"]
        for name in ("mean", "deviation", "largest"):
            assert named[name][at].value == getattr(of, name).value
            assert named[name][at].low == getattr(of, name).low
        assert list(named["largest"][at].marks) == ["optimistic"]
        assert list(named["mean"][at].marks) == []
        # The largest of the systems is the best subset of one.
        assert named["max"][at].value == pytest.approx(of.largest.value)
    for at, one in ((1, whole.alone["mine"]), (4, whole)):
        (choice,) = [c for c in one.choices if (c.metric, c.k) == ("uar", "any")]
        assert named["best"][at].value == choice.best.value
        assert list(named["best"][at].marks) == ["optimistic"]
        assert named["best"][at].note == " + ".join(choice.best.members)
        honest, ours = choice.honest, named["best"][at + 1]
        assert (ours.value, ours.low, ours.high) == (honest.value, honest.low, honest.high)
        assert list(ours.marks) == []
    stale = paper(replace(found, subsets=replace(subsets, stale=True)), folder).sheets[0]
    assert [row[2].text for row in stale.rows][2] == "stale"
    assert paper(replace(found, subsets=None, spread=None), folder).sheets == []


def shares(tmp_path: Path, name: str) -> tuple[Recipe, Path]:
    """Runs of a shipped recipe of emotion shares, all labels of test masked."""
    recipe = load_recipe(TOP / "recipes" / f"{name}.toml")
    rng = np.random.default_rng(len(name))
    n = 40
    for member in [*recipe.models, *recipe.fusion]:
        columns: dict[str, Any] = {
            "corpus": "hume-prosody",
            "utterance": [f"u{i:02}" for i in range(n)],
            "partition": np.repeat(["devel", "test"], n // 2),
            "fold": "",
            "speaker": "",
        }
        for target in recipe.targets:
            truth = rng.random(n)
            columns[f"{target}_true"] = np.where(np.arange(n) < n // 2, truth, np.nan)
            columns[f"{target}_pred"] = truth + 0.3 * rng.normal(size=n)
        made.finish(recipe, tmp_path / "runs", member, pd.DataFrame(columns))
    return recipe, tmp_path / "runs"


def test_the_emotion_shares_and_the_recipe_beside_them(tmp_path: Path) -> None:
    recipe, folder = shares(tmp_path, "emotion-share")
    found = results(recipe, folder)
    four, five, six = paper(found, folder).sheets
    assert list(four.header) == ["model", "NMSE, published", "NMSE, ours", "NMAE, published"]
    devel = found.scored[0].scores.partitions["devel"].metrics["spearman"]
    assert [cell.value for cell in four.rows[0][1:]] == [0.5022, devel.value, 0.5001]
    assert four.rows[0][2].marks == []
    first, *others = found.scored
    partitions = dict(first.scores.partitions)
    partitions["devel"] = marked(partitions["devel"], ["optimistic"])
    chosen = replace(first, scores=replace(first.scores, partitions=partitions))
    four = paper(replace(found, scored=[chosen, *others]), folder).sheets[0]
    assert [cell.value for cell in four.rows[0][1:]] == [0.5022, devel.value, 0.5001]
    assert four.rows[0][2].marks == ["optimistic"]
    assert [row[-1].text for row in five.rows] == ["–"] * 5 + ["masked"]
    assert five.rows[5][2].value is not None
    assert [row[1].value for row in six.rows][::8] == [0.4894, 0.5867]
    assert {row[2].text for row in six.rows} == {"masked"}
    assert "utterances" in four.caption

    # The other column is that of the other recipe, once its runs are there and its corpus, too.
    other, _ = shares(tmp_path, "emotion-share-nmae")
    score_all(other, Folders(runs=folder))
    stores = tmp_path / "stores"
    frame = rows(2, "hume-prosody", **dict.fromkeys(recipe.targets, [0.5, 0.5]))
    about = {"published": True, "title": "", "licence": "", "citation": ""}
    write_table(stores / "hume-prosody", Table(frame, {}, tuple(recipe.targets), [], about))
    four = read_paper(found, Folders(stores=stores, runs=folder)).sheets[0]
    assert list(four.header)[3:] == ["NMAE, published", "NMAE, ours"]
    theirs = (
        score_all(other, Folders(runs=folder))[0].scores.partitions["devel"].metrics["spearman"]
    )
    assert four.rows[0][4].value == theirs.value != devel.value
    assert "ours: emotion-share, emotion-share-nmae" in four.caption

    # In its own report the columns change sides, and the tables of the first recipe are not there.
    beside = paper(results(other, folder), folder)
    assert [one.name for one in beside.sheets] == ["paper-table-iv"]
    assert list(beside.sheets[0].header)[-1] == "NMAE, ours"
    assert any("head.select is 'nmae', not 'nmse'" in line for line in beside.left_out)


def test_never_beside_the_demo(tmp_path: Path) -> None:
    recipe, folder = finished(tmp_path)
    demo = published(recipe, published=CORPORA["demo"].published)
    none = paper(results(recipe, folder, tables=demo), folder)
    assert none.sheets == []
    assert "no figure is published for mine as it is here" in none.left_out[0]


@pytest.mark.slow
def test_ten_layers_fill_the_tables_of_two_corpora(tmp_path: Path) -> None:
    few = {"evaluate": {"bootstrap": 100}}
    recipe = load_recipe(TOP / "recipes" / "iemocap-jtes.toml", overrides=few)
    folder = tmp_path / "runs"
    frame = made.classification(n=100, seed=2, labels=recipe.labels)
    frame["corpus"] = np.where(frame["utterance"] < "u060", "iemocap", "jtes")
    members = [str(member) for member in recipe.members()]
    for i, member in enumerate([*members, *recipe.fusion]):
        rng = np.random.default_rng(i)
        scores = frame.filter(like="score_") + 0.5 * rng.normal(size=(len(frame), 4))
        names = np.array(recipe.labels, dtype=object)
        one = frame.assign(**scores, pred=names[scores.to_numpy().argmax(axis=1)])
        where = made.finish(recipe, folder, member, one)
        write_predictions(where / INNER, one.assign(partition="inner"))
    scored = score_all(recipe, Folders(runs=folder))
    whole = choose(recipe, read_data(recipe, folder), SearchStates(folder / "p.json", "x"))
    subsets = FoundSubsets(whole, stale=False)
    spread = make_spread(recipe, scored, folder)
    assert len(spread.systems) == 10
    found = results(recipe, folder, subsets=subsets, spread=spread)
    made_paper = paper(found, folder)
    assert [one.name for one in made_paper.sheets] == [f"paper-table-{i}" for i in (3, 4, 5, 6)]
    (why,) = made_paper.left_out
    assert "corpora is ['iemocap', 'jtes'], not ['iemocap']" in why
    three, four, five, six = made_paper.sheets
    assert [cell.text for cell in three.rows[0]][1::3][:1] == ["0.7347"]
    assert all(row[2].value is not None for row in three.rows)
    assert [row[3].value is not None for row in three.rows] == [False, False, True, False, True] * 2
    assert list(three.header)[4:] == ["MTL, published", "DANN, published"]
    means = [spread.partitions["test"].corpora[c].metrics["uar"].mean.value
             for c in ("iemocap", "jtes")]  # fmt: skip
    assert [three.rows[i][2].value for i in (0, 5)] == means
    assert list(four.header) == ["UAR", *(f"{one}, published" for one in ("EM", "EF", "JM", "JF"))]
    at = {one.name: one.scores.partitions["test"].corpora["iemocap"] for one in scored}
    assert [row[2].value for row in five.rows] == [
        at[name].metrics["uar"].value
        for name in ("hubert-large@6+12+18+24", "fusion/late-four", "fusion/late")
    ]
    best = {c.metric: c for c in subsets.record.alone["iemocap"].choices if c.k == "any"}
    assert [six.rows[4][i].value for i in (1, 2, 3, 4, 5, 6)] == [
        0.7845, best["uar"].best.value, best["uar"].honest.value,
        0.7769, best["wa"].best.value, best["wa"].honest.value,
    ]  # fmt: skip

    # One corpus alone, as CORPUS=iemocap has it: Table 2, and no other.
    one = load_recipe(TOP / "recipes" / "iemocap-jtes.toml", corpora=["iemocap"], overrides=few)
    folder = tmp_path / "alone"
    for i, member in enumerate([*members, *recipe.fusion]):
        own = made.classification(n=60, seed=2, right=0.5 + i / 40, labels=one.labels)
        made.finish(one, folder, member, own.assign(corpus="iemocap"))
    scored = score_all(one, Folders(runs=folder))
    spread = make_spread(one, scored, folder)
    alone = paper(results(one, folder, spread=spread), folder)
    (two,) = alone.sheets
    chosen = ("published", "ours (the best)", "ours, honest choice")
    assert list(two.header) == ["UAR", *(f"IEMOCAP, {one}" for one in chosen), "JTES, published"]
    value = spread.partitions["test"].metrics["uar"].mean.value
    assert [two.rows[0][i].value for i in (1, 2, 4)] == [0.7311, value, 0.9991]
