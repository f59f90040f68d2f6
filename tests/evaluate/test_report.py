"""The report: whole, escaped, without outside resources, and computing nothing."""

from __future__ import annotations

import builtins
import json
import re
import xml.etree.ElementTree
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from evaluate import __main__ as command
from evaluate.report import write as report
from evaluate.report.book import slug
from evaluate.runs import record as runs
from evaluate.runs.folders import PREDICTIONS, SUBSETS
from evaluate.runs.freshness import subsets_settings
from evaluate.runs.predictions import read_predictions, write_predictions
from evaluate.scores import score
from evaluate.scores.pairs import make_statistics
from evaluate.scores.subsets import FILE
from evaluate.scores.sweeps import score_sweeps
from features.common.command import run_command
from features.common.errors import RunError
from features.common.findings import Finding
from features.common.folders import Folders
from features.recipe.load import load_recipe
from features.recipe.model import Recipe
from features.utterances import Table, write_table
from fusion.subsets.choose import SearchStates, choose, read_data
from tests.evaluate import made
from tests.evaluate.page import read
from tests.models.synthetic import rows

NOWHERE = Path("no-such-folder")


def render(recipe: Recipe, folder: Path, stores: Path = NOWHERE, data: Path = NOWHERE):
    """The pages of a report, each checked."""
    make_statistics(recipe, score.score_all(recipe, Folders(runs=folder)), folder)
    index, _ = report.make_report(recipe, Folders(stores=stores, runs=folder, data=data))
    assert index == folder / recipe.name / "report" / "index.html"
    return read(index.parent)


def outputs(folder: Path) -> dict[str, bytes]:
    found = folder / "study" / "report"
    return {str(p.relative_to(found)): p.read_bytes() for p in found.rglob("*") if p.is_file()}


@pytest.fixture
def classified(tmp_path: Path) -> tuple[Recipe, Path]:
    """Three runs of a classification with labels and titles that mean harm."""
    recipe = made.recipe(tmp_path, "classification")
    for i, member in enumerate(("one", "two", "mean")):
        record = {
            "title": f"{member} <b>&amp;",
            "versions": {"numpy": np.__version__},
            "seeds": {"split": 0},
            "chosen": {
                "mine/<i>03": [made.choice(0.61234)],
            },
            "notes": ["mine: label <img src=x onerror=alert(2)> is odd"],
            "fits": 50,
            "fit_warnings": {"did not converge": 3},
        }
        frame = made.classification(seed=i)
        made.finish(recipe, tmp_path / "runs", member, frame, record)
    return recipe, tmp_path / "runs"


def test_a_report_of_a_classification(classified: tuple[Recipe, Path]) -> None:
    recipe, folder = classified
    found = render(recipe, folder)
    assert set(found) == {
        "index.html", "model-one.html", "model-two.html", "fusion-mean.html", "fusion.html",
        "data.html", "provenance.html",
    }  # fmt: skip
    index, model = found["index.html"], found["model-one.html"]
    one = score.read_all(recipe, Folders(runs=folder))[0].scores.partitions["test"]
    entry = one.metrics["uar"]
    for page in (index, model):
        assert "one <b>&amp;" in page.shown
        assert not page.all("b")
        assert f"{entry.value:.3f} [{entry.low:.3f}, {entry.high:.3f}]" in page.shown
        assert "mine: label <img src=x onerror=alert(2)> is odd" in page.shown
        assert not page.all("img")
    assert "5 speakers" in index.shown
    assert "is odd (all runs)" in index.shown  # once, for all
    assert index.shown.count("is odd") == 1
    assert len(index.all("svg")) == 1
    assert made.UNLUCKY in model.shown
    assert f"{100 * one.confusion[0][0] / sum(one.confusion[0]):.1f} %" in model.shown
    for expected in ("C = 0.1", "0.612", "3 of 50 fits: did not converge"):
        assert expected in model.shown
    assert "of the held-out rows, 1,000 times" in index.shown
    provenance = found["provenance.html"].shown
    assert np.__version__ in provenance
    assert provenance.count("Recipe as resolved") == 1
    assert provenance.count('"bootstrap": 1000') == 1
    assert "published" not in index.shown
    assert {page["href"] for page in index.all("a")} >= set(found) - {"index.html"}


def test_names_that_turn_the_text_around_are_written_out(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    turned = "sad\u202egnp"
    for i, member in enumerate(("one", "two", "mean")):
        frame = made.classification(seed=i, labels=("anger", turned, "joy\u2066"))
        frame["utterance"] = "\u200f" + frame["utterance"]
        record = {"title": f"{member}\x9b\u202e", "notes": [f"{turned} is odd"]}
        made.finish(recipe, tmp_path / "runs", member, frame, record)
    found = render(recipe, tmp_path / "runs")
    model = found["model-one.html"].shown
    for expected in ("sad\\u202egnp", "joy\\u2066", "one\\x9b\\u202e", "sad\\u202egnp is odd"):
        assert expected in model
    for name, data in outputs(tmp_path / "runs").items():
        if name.endswith((".html", ".svg", ".js", ".tex")):
            assert not re.search("[\u200f\u202e\u2066\x9b]", data.decode()), name
    # The list of utterances is a script: what it holds is read as JSON first.
    listing = (tmp_path / "runs/study/report/utterances.js").read_text(encoding="utf-8")
    listed = json.loads(listing.removeprefix("const utterances = ").rstrip(";\n"))
    assert {name[:7] for name, _ in listed} == {"\\u200fu"}
    written = (tmp_path / "runs/study/report/tables").glob("*.csv")
    assert any(turned in one.read_text(encoding="utf-8") for one in written)  # data stays data


def test_every_cell_of_a_confusion_matrix_has_its_utterances(classified) -> None:
    recipe, folder = classified
    found = render(recipe, folder)["model-two.html"]
    (cells,) = [json.loads(one) for one in found.scripts if one.strip()]
    listing = (folder / "study/report/utterances.js").read_text(encoding="utf-8")
    utterances = json.loads(listing.removeprefix("const utterances = ").rstrip(";\n"))
    frame = read_predictions(folder / "study" / "two" / PREDICTIONS)
    for i, true in enumerate(made.LABELS):
        for j, pred in enumerate(made.LABELS):
            wanted = frame[(frame["true"] == true) & (frame["pred"] == pred)]["utterance"]
            listed = [utterances[place] for place in cells["test"].get(f"{i},{j}", [])]
            assert [name for name, _ in listed] == list(wanted)
            assert {link for _, link in listed} <= {None}  # nothing is known of the audio


def test_a_class_without_a_hit_and_one_without_a_truth(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification")
    frame = made.classification()
    frame = frame[frame["true"] != "sadness"].assign(pred="anger")
    made.finish(recipe, tmp_path / "runs", "one", frame)
    shown = render(recipe, tmp_path / "runs")["model-one.html"].shown
    n = int((frame["true"] == made.UNLUCKY).sum())
    assert f"{made.UNLUCKY} undefined 0.000 0.000 {n}" in shown  # no prediction: no precision
    assert "sadness undefined undefined undefined 0" in shown
    assert f"{made.UNLUCKY} {n} 100.0 % 0 0.0 % 0 0.0 % sadness 0 0 0" in shown


def test_a_regression_with_masks_marks_and_missing_runs(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path)
    frame = made.regression().assign(Anger_pred=0.5)
    test = frame["partition"] == "test"
    frame.loc[test, [f"{target}_true" for target in made.TARGETS]] = np.nan
    made.finish(recipe, tmp_path / "runs", "two", frame, {"optimistic": True})
    found = render(recipe, tmp_path / "runs")
    index, model = found["index.html"].shown, found["model-two.html"].shown
    assert "Not finished, hence not shown: one, mean (fusion)." in index
    assert "two optimistic" in index
    assert "two (optimistic)" in index  # in the picture
    assert "masked" in index
    assert "undefined" in index
    assert "devel, Anger: Spearman's correlation is undefined: constant prediction" in index
    assert "No row has a truth: the labels are masked." in model
    assert "fusion.html" not in found
    stale = made.recipe(tmp_path, more="[head.grid]\nC = [5.0]")
    found = render(stale, tmp_path / "runs")
    assert "two optimistic stale" in found["index.html"].shown
    assert "made with another recipe than this one" in found["model-two.html"].shown
    differs = "where it differs from the one above setting value head.grid"
    assert differs in found["provenance.html"].shown


def test_the_hardest_utterances_stand_with_what_every_run_makes_of_them(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path)
    frame = made.regression()
    frame.loc[45, "Anger_pred"] = frame.loc[45, "Anger_true"] + 30
    made.finish(recipe, tmp_path / "runs", "one", frame)
    made.finish(recipe, tmp_path / "runs", "two", made.regression(seed=1))
    page = render(recipe, tmp_path / "runs")["model-one.html"]
    start = page.shown.index("The 20 utterances with the worst distance of this run, test")
    row = page.shown[page.shown.index("u045", start) :]
    off = [
        abs(frame.loc[45, f"{target}_pred"] - frame.loc[45, f"{target}_true"])
        for target in made.TARGETS
    ]
    truth, wrong = frame.loc[45, "Anger_true"], frame.loc[45, "Anger_pred"]
    expected = f"u045 – {np.mean(off):.3f} Anger: {truth:.2f} predicted {wrong:.2f} 0."
    assert row.startswith(expected)
    assert page.shown.index("utterance recording one two", start) < page.shown.index("u045", start)


def test_recordings_are_links_to_the_users_files(classified, tmp_path: Path) -> None:
    recipe, folder = classified
    root = tmp_path / "data" / "mine"
    root.mkdir(parents=True)
    frame = rows(60, "mine").assign(utterance=[f"u{i:03}" for i in range(60)])
    frame["path"] = [f"50% <b>#{i}.wav" for i in range(60)]
    frame.loc[1, ["start", "end"]] = [0.5, 1.25]
    for path in frame["path"][:-1]:
        (root / path).write_bytes(b"")
    write_table(
        tmp_path / "stores" / "mine",
        Table(frame, {}, (), [], {"title": "x", "licence": "", "citation": ""}),
    )
    score.score_all(recipe, Folders(stores=tmp_path / "stores", runs=folder))
    found = render(recipe, folder, tmp_path / "stores", tmp_path / "data")
    audio = [one["src"] for one in found["model-one.html"].all("audio")]
    assert audio  # that they lead to files is checked for every page
    listing = (folder / "study/report/utterances.js").read_text(encoding="utf-8")
    links = dict(json.loads(listing.removeprefix("const utterances = ").rstrip(";\n")))
    assert links["u000"] == "../../../data/mine/50%25%20%3Cb%3E%230.wav"
    assert links["u001"].endswith("231.wav#t=0.500,1.250")
    assert links["u059"] is None
    said = f"1 of 60 recordings of mine are not below {root}"
    assert said in found["model-one.html"].shown
    assert said in found["data.html"].shown


PUBLISHED = """
[[published]]
name = "table-1"
title = "Table <b>1</b>"
source = "Someone & al."
heading = "model <i>"
differs = "theirs is <em>tuned</em>"
columns = [{ name = "UAR <u>" }]
rows = [{ name = "One <s>", run = "one", figures = [0.4321] }]
"""


def test_the_paper_has_a_page_where_the_corpus_has_the_published_counts(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification", PUBLISHED)
    folder, stores = tmp_path / "runs", tmp_path / "stores"
    made.finish(recipe, folder, "one", made.classification())
    about = {"title": "x", "licence": "", "citation": "", "published": True}
    frame = rows(2, "mine").assign(emotion="anger")
    labels = {"emotion": made.LABELS}
    write_table(stores / "mine", Table(frame, labels, (), [], about))
    score.score_all(recipe, Folders(stores=stores, runs=folder))
    found = render(recipe, folder, stores)
    page = found["paper.html"]
    value = score.read_all(recipe, Folders(runs=folder))[0].scores.partitions["test"].metrics["uar"]
    assert f"One <s> 0.4321 {value.value:.3f} [{value.low:.3f}" in page.shown
    assert "theirs is <em>tuned</em>" in page.shown
    assert not [tag for tag in ("b", "i", "em", "u", "s") if page.all(tag)]
    assert "paper.html" in [one["href"] for one in found["index.html"].all("a")]
    assert "published" not in found["index.html"].shown
    table = outputs(folder)["tables/paper-table-1.csv"].decode().splitlines()[1]
    assert table == f"One <s>,0.4321,{value.value!r},{value.low!r},{value.high!r}"
    assert b"theirs is \\textless{}em" in outputs(folder)["tables/paper-table-1.tex"]

    odd = [Finding("counts", 1, (), "counts differ from the published ones: utterances 2")]
    write_table(stores / "mine", Table(frame, labels, (), odd, about))
    score.score_all(recipe, Folders(stores=stores, runs=folder))
    found = render(recipe, folder, stores)
    assert "paper.html" not in found
    assert "tables/paper-table-1.csv" not in outputs(folder)
    why = "published figures are not shown (the counts of mine differ from the published ones)"
    assert f"{why}: Table <b>1</b>" in found["index.html"].shown


def test_subsets_of_each_corpus_have_a_table(tmp_path: Path) -> None:
    more = "[fusion.subsets]\nalone = true"
    recipe = made.recipe(tmp_path, "classification", more, "mine yours")
    folder = tmp_path / "runs"
    for i, member in enumerate(("one", "two")):
        frame = made.classification(seed=1, right=0.5 + i / 4)
        frame["corpus"] = np.where(frame["utterance"] < "u040", "mine", "yours")
        made.finish(recipe, folder, member, frame)
    where = folder / "study" / "fusion" / "subsets"
    result = choose(recipe, read_data(recipe, folder), SearchStates(tmp_path / "p.json", "x"))
    FILE.write(where / SUBSETS, result)
    runs.write_run(where, {"inputs": subsets_settings(recipe, folder)})
    shown = render(recipe, folder)["fusion.html"].shown
    assert "Subsets of 2 models, test: the best" in shown
    for corpus in ("mine", "yours"):
        assert f"Subsets of 2 models, test, {corpus} alone: the best" in shown
        assert f"tables/subsets-{corpus}.csv" in outputs(folder)


def test_split_and_notes_once(classified: tuple[Recipe, Path]) -> None:
    recipe, folder = classified
    shared = {"speaker": {"n": 3, "of": 5}, "audio": {"n": 0, "of": 60}}
    part = {"fold": "0", "part": "test", "fitted": 240, "held_out": 60, "shared": shared}
    split = {
        "outer": "stratified-holdout",
        "inner": "speaker-k-fold",
        "seed": 7,
        "expect_overlap": ["speaker"],
        "parts": [{**part, "missing": ["anger (held out)"]}],
        "notes": ["the session of <9> rows is unknown"],
    }
    for member in ("one", "two"):
        made.finish(recipe, folder, member, made.classification(), {"split": split})
    shown = render(recipe, folder)["data.html"].shown
    caption = (
        "stratified-holdout, inner speaker-k-fold, seed 7; declared overlap: speaker: one, two"
    )
    assert shown.count(caption) == 1
    assert "0 test 240 60 3 of 5 – – 0 of 60 anger (held out)" in shown
    assert "the session of <9> rows is unknown" in shown


def test_the_data_page_reads_the_tables(classified: tuple[Recipe, Path], tmp_path) -> None:
    recipe, folder = classified
    frame = rows(4, "mine", speaker=["a", "a", "b", ""], gender=["x", "", "<y>", "x"])
    frame["emotion"] = [made.UNLUCKY, "anger", "anger", ""]
    about = {"title": "A corpus of four", "licence": "", "citation": ""}
    findings = [Finding("labels", 2, (), "2 labels <odd>")]
    labels = {"emotion": made.LABELS}
    write_table(tmp_path / "stores" / "mine", Table(frame, labels, (), findings, about))
    score.score_all(recipe, Folders(stores=tmp_path / "stores", runs=folder))
    shown = render(recipe, folder, tmp_path / "stores")["data.html"].shown
    assert "A corpus of four" in shown
    assert "2 labels <odd>" in shown
    assert "utterances 4 speakers 2 gender x 2 gender <y> 1" in shown
    assert f"anger 2 {made.UNLUCKY} 1 sadness 0" in shown


def test_layers_have_a_page_where_they_were_swept(tmp_path: Path) -> None:
    sweep = made.recipe(tmp_path)
    head = sweep.head.model_copy(update={"layer": ["mean", "last", 10, 9]})
    sweep = sweep.model_copy(update={"head": head})
    for i, member in enumerate(("one@mean", "one", "one@10", "one@9", "one@11", "two")):
        record = {"title": member, "chosen": {"": [made.choice(score=i / 10)]}}
        made.finish(sweep, tmp_path / "runs", member, made.regression(seed=i), record)
    score_sweeps(sweep, Folders(runs=tmp_path / "runs"))
    found = render(sweep, tmp_path / "runs")
    page = found["layers.html"]
    assert page.shown.count("highest, optimistic") == 2  # on devel and on test
    assert "9 0.300" in page.shown  # what it would be chosen by
    assert "model-one@11.html" in found  # not of the recipe, but of the sweep
    assert "one@11" not in found["index.html"].shown
    assert "Layers of one" in [one.get("aria-label") for one in page.all("div")]
    assert not [one for one in page.all("div") if one.get("aria-label") == "Layers of two"]
    rows = page.shown[page.shown.index("to choose by") :]
    order = [rows.index(f" {layer} ") for layer in ("9", "10", "11", "last", "mean")]
    assert order == sorted(order)
    assert len(page.all("svg")) == 2
    assert "model-one@10.html" in found
    assert {"figures/layers-one-test.pdf", "tables/layers-one.csv"} <= set(
        outputs(tmp_path / "runs")
    )


def test_a_missing_run_and_outdated_scores_are_one_line(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path)
    folders = Folders(stores=tmp_path, runs=tmp_path / "runs", data=tmp_path)
    with pytest.raises(RunError, match="no finished run; run make train"):
        report.make_report(recipe, folders)
    made.finish(recipe, tmp_path / "runs", "one", made.regression())
    with pytest.raises(
        RunError, match=r"scores\.json: missing or outdated; run make score RECIPE="
    ):
        report.make_report(recipe, folders)
    assert not (tmp_path / "runs" / "study" / "report").exists()


def test_names_of_files_are_harmless_and_differ() -> None:
    names = ["a/b", "a_b", "a\\b", "../x", made.UNLUCKY, "ü", "x" * 300, "x" * 301]
    slugs = [slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert all(re.fullmatch(r"[\w.@+-]{1,80}", one, re.ASCII) for one in slugs)
    assert slug("xlsr-1b@12") == "xlsr-1b@12"


def test_a_model_with_an_unlucky_name(tmp_path: Path) -> None:
    name = made.UNLUCKY.replace("/", "|")
    path = Path(made.recipe(tmp_path, "classification").path)
    text = path.read_text(encoding="utf-8").replace('["one", "two"]', json.dumps([name, "two"]))
    path.write_text(text, encoding="utf-8")
    recipe = load_recipe(path)
    for member in (name, "two", "mean"):
        made.finish(recipe, tmp_path / "runs", member, made.classification(), {"title": member})
    found = render(recipe, tmp_path / "runs")
    assert name in found["index.html"].shown
    assert any(one.startswith("model-_script_alert_1_") for one in found)


def test_figures_and_tables_are_files(classified: tuple[Recipe, Path]) -> None:
    recipe, folder = classified
    render(recipe, folder)
    files = outputs(folder)
    for stem in ("scores", "confusion-model-one-test", "confusion-fusion-mean-test"):
        root = xml.etree.ElementTree.fromstring(files[f"figures/{stem}.svg"])
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert files[f"figures/{stem}.pdf"].startswith(b"%PDF-")
    for stem in ("scores", "classes-model-two-test", "confusion-model-two-test"):
        assert b"\\toprule" in files[f"tables/{stem}.tex"]
    value = score.read_all(recipe, Folders(runs=folder))[0].scores.partitions["test"].metrics["uar"]
    line = files["tables/scores.csv"].decode().splitlines()[1]
    assert line.split(",")[1:4] == [repr(of) for of in (value.value, value.low, value.high)]


@pytest.mark.slow
def test_a_report_is_the_same_each_time_and_forgets_runs_that_are_gone(classified) -> None:
    recipe, folder = classified
    render(recipe, folder)
    before = outputs(folder)
    (folder / "study" / "report" / "notes.txt").write_text("of the user")
    render(recipe, folder)
    assert outputs(folder) == {**before, "notes.txt": b"of the user"}
    (folder / "study" / "one" / "run.json").unlink()
    (folder / "study" / "fusion" / "mean" / "run.json").unlink()
    assert "model-one.html" not in render(recipe, folder)
    assert not [name for name in outputs(folder) if "model-one" in name or "fusion-mean" in name]


def test_the_report_reads_and_does_not_write_scores(classified: tuple[Recipe, Path]) -> None:
    recipe, folder = classified
    make_statistics(recipe, score.score_all(recipe, Folders(runs=folder)), folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    report.make_report(recipe, Folders(stores=NOWHERE, runs=folder, data=NOWHERE))
    changed = {path for path in folder.rglob("*") if path.is_file()} - set(before)
    assert all(folder / "study" / "report" in path.parents for path in changed)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


def test_a_report_opens_each_file_of_the_runs_and_tables_once(
    tmp_path: Path, classified: tuple[Recipe, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = classified
    stores = tmp_path / "stores"
    about = {"title": "x", "licence": "", "citation": ""}
    table = Table(rows(60, "mine", emotion=["anger"] * 60), {"emotion": made.LABELS}, (), [], about)
    write_table(stores / "mine", table)
    make_statistics(recipe, score.score_all(recipe, Folders(stores=stores, runs=folder)), folder)
    opened: Counter[str] = Counter()

    def counting(path, mode="r", *more, **named):
        if "r" in mode and tmp_path in Path(path).parents:
            opened[str(Path(path).relative_to(tmp_path))] += 1
        return open_file(path, mode, *more, **named)

    open_file = builtins.open
    monkeypatch.setattr(builtins, "open", counting)
    where = ["--runs", str(folder), "--stores", str(stores), "--data", str(tmp_path)]
    assert run_command(command.main, command.parser(), ["report", recipe.path, *where]) == 0
    runs_of = [f"runs/study/{run}" for run in ("one", "two", "fusion/mean")]
    for name in ("run.json", "predictions.csv", "inner.csv", "scores.json"):
        assert {opened[f"{run}/{name}"] for run in runs_of} == {1}, name
    for name in ("runs/study/statistics.json", "stores/mine/utterances.json"):
        assert opened[name] == 1
    assert opened["stores/mine/utterances.csv"] == 1


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = made.recipe(tmp_path)
    where = [recipe.path, "--runs", str(tmp_path / "runs")]

    def run(*argv: str) -> int:
        return run_command(command.main, command.parser(), argv)

    assert run("report", *where, "--stores", str(tmp_path)) == 1
    assert "python -m evaluate report: " in capsys.readouterr().err
    for member in ("one", "mean"):
        made.finish(recipe, tmp_path / "runs", member, made.regression())
    assert run("score", *where) == 0
    table = capsys.readouterr().out
    assert "fused: mean" in table
    assert run("report", *where, "--stores", str(tmp_path), "--data", str(tmp_path)) == 0
    page = tmp_path / "runs" / "study" / "report" / "index.html"
    assert capsys.readouterr().out == f"{table}{page}\n"
    assert page.is_file()


def test_outdated_scores_are_mended_with_the_folders_that_were_given(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = made.recipe(tmp_path)
    made.finish(recipe, tmp_path / "runs", "one", made.regression())
    where = ["--runs", str(tmp_path / "runs"), "--stores", str(tmp_path)]
    for more, said in (([], ""), (["--corpus", "mine"], " CORPUS=mine")):
        argv = ["report", recipe.path, *where, *more]
        assert run_command(command.main, command.parser(), argv) == 1
        again = f"RECIPE={recipe.path} STORES={tmp_path} RUNS={tmp_path / 'runs'}{said}\n"
        assert capsys.readouterr().err.endswith(f"outdated; run make score {again}")


def test_predictions_that_somebody_changed_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = made.recipe(tmp_path)
    at = [made.finish(recipe, tmp_path / one, "one", made.regression(seed=3)) for one in "ab"]
    frame = made.regression(seed=3)
    frame.loc[1, "Anger_pred"] += 0.5
    write_predictions(at[0] / "predictions.csv", frame)
    said = f"changed since it was written, and scored as it is: {at[0]}/predictions.csv; `make rep"
    where = [recipe.path, "--stores", str(tmp_path), "--runs"]
    for argv in (
        ["score", *where, str(tmp_path / "a")],
        ["report", *where, str(tmp_path / "a"), "--data", str(tmp_path)],
        ["compare", str(at[1].parent), str(at[0].parent)],
    ):
        assert run_command(command.main, command.parser(), argv) == 0
        assert capsys.readouterr().err.startswith(said)
    assert run_command(command.main, command.parser(), ["score", *where, str(tmp_path / "b")]) == 0
    assert capsys.readouterr().err == ""
