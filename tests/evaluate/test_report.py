"""The page: whole, escaped, without outside resources, and computing nothing."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluate import __main__ as command
from evaluate import plots, report, runs, score
from features.command import run_command
from features.errors import RunError
from features.recipe import Recipe
from features.utterances import Finding, Table, write_table
from tests.evaluate import made
from tests.models.synthetic import rows

VOID = {"meta", "br"}


class Page(HTMLParser):
    """Elements of a page with their attributes; fails on tags that are not nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data) -> None:
        if self._open and self._open[-1] not in ("style", "script"):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def render(recipe: Recipe, folder: Path, stores: Path = Path("no-stores")) -> tuple[str, Page]:
    score.score_all(recipe, folder)
    text = report.make_report(recipe, folder, stores).read_text(encoding="utf-8")
    return text, Page(text)


def check(text: str, page: Page) -> None:
    """What holds for every page."""
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#"), attributes
        for name, value in attributes.items():
            assert not name.startswith("on"), name
            assert "url(" not in (value or "") or "url(#" in (value or "")
    assert "@import" not in text
    assert not page.all("script")
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for name in ("href", "xlink:href"):
            if attributes.get(name):
                assert attributes[name][1:] in ids
    assert all(one.get("scope") in ("row", "col") for one in page.all("th"))
    assert len(page.all("caption")) == len(page.all("table")) > 0
    assert len(page.all("title")) == 1 + len(page.all("svg"))


@pytest.fixture
def classified(tmp_path: Path) -> tuple[Recipe, Path]:
    recipe = made.recipe(tmp_path, "classification")
    for i, member in enumerate(("one", "two", "mean")):
        record = {
            "title": f"{member} <b>&amp;",
            "versions": {"numpy": np.__version__},
            "seeds": {"split": 0},
            "chosen": {
                "mine/<i>03": [
                    {"cell": 1, "scaler": "standard", "params": {"C": 0.1}, "score": 0.61234}
                ]
            },
            "notes": ["mine: label <img src=x onerror=alert(2)> is odd"],
            "fits": 50,
            "fit_warnings": {"did not converge": 3},
        }
        frame = made.classification(seed=i)
        made.finish(recipe, tmp_path / "runs", member, frame, record)
    return recipe, tmp_path / "runs"


def test_a_classification_page(classified: tuple[Recipe, Path]) -> None:
    recipe, folder = classified
    text, page = render(recipe, folder)
    check(text, page)
    shown = " ".join(" ".join(page.texts).split())
    assert made.UNLUCKY in shown
    assert "<script" not in text
    assert "<img" not in text
    assert "label <img src=x onerror=alert(2)> is odd" in shown
    assert "one <b>&amp;" in shown
    assert len(page.all("svg")) == 4  # the overview and three confusion matrices
    one = score.read_all(recipe, folder)[0].scores["partitions"]["test"]
    entry = one["metrics"]["uar"]
    assert f"{entry['value']:.3f}" in shown
    assert f"[{entry['low']:.3f}, {entry['high']:.3f}]" in shown
    assert "(5 speakers)" in shown
    assert f"{100 * one['confusion'][0][0] / sum(one['confusion'][0]):.1f} %" in shown
    for expected in ("C = 0.1", "0.612", "3 of 50 fits: did not converge", np.__version__):
        assert expected in shown
    assert "published" not in shown


def test_a_regression_page_with_masks_marks_and_missing_runs(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path)
    frame = made.regression().assign(Anger_pred=0.5)
    test = frame["partition"] == "test"
    frame.loc[test, [f"{target}_true" for target in made.TARGETS]] = np.nan
    made.finish(recipe, tmp_path / "runs", "two", frame, {"optimistic": True})
    text, page = render(recipe, tmp_path / "runs")
    check(text, page)
    shown = " ".join(" ".join(page.texts).split())
    assert "Not finished, hence not shown: one, mean (fusion)." in shown
    assert "two optimistic" in shown
    assert "two (optimistic)" in shown  # in the picture
    assert "masked" in shown
    assert "undefined" in shown
    assert "devel, Anger: Spearman's correlation is undefined: constant prediction" in shown
    stale = made.recipe(tmp_path, more="[head.grid]\nC = [5.0]")
    shown = " ".join(" ".join(render(stale, tmp_path / "runs")[1].texts).split())
    assert "two optimistic stale" in shown
    assert "made with another recipe than this one" in shown


def test_the_split_section_shows_each_split_once(classified: tuple[Recipe, Path]) -> None:
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
    text, page = render(recipe, folder)
    check(text, page)
    shown = " ".join(" ".join(page.texts).split())
    caption = (
        "stratified-holdout, inner speaker-k-fold, seed 7; declared overlap: speaker: one, two"
    )
    assert shown.count(caption) == 1
    assert "0 test 240 60 3 of 5 – – 0 of 60 anger (held out)" in shown
    assert "the session of <9> rows is unknown" in shown


def test_the_data_section_reads_the_tables(classified: tuple[Recipe, Path], tmp_path) -> None:
    recipe, folder = classified
    frame = rows(4, "mine", speaker=["a", "a", "b", ""])
    about = {"title": "A corpus of four", "licence": "", "citation": ""}
    table = Table(frame, {}, (), [Finding("labels", 2, (), "2 labels <odd>")], about)
    write_table(tmp_path / "stores" / "mine", table)
    text, page = render(recipe, folder, tmp_path / "stores")
    check(text, page)
    shown = " ".join(" ".join(page.texts).split())
    assert "A corpus of four" in shown
    assert "2 labels <odd>" in shown
    assert "utterances 4 speakers 2" in shown


def test_a_missing_run_and_outdated_scores_are_one_line(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path)
    with pytest.raises(RunError, match="no finished run; run make train"):
        report.make_report(recipe, tmp_path / "runs", tmp_path)
    made.finish(recipe, tmp_path / "runs", "one", made.regression())
    with pytest.raises(RunError, match=r"scores\.json: missing or outdated; run python -m evalu"):
        report.make_report(recipe, tmp_path / "runs", tmp_path)
    assert not (tmp_path / "runs" / "study" / "report").exists()


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = made.recipe(tmp_path)
    where = [recipe.path, "--runs", str(tmp_path / "runs")]

    def run(*argv: str) -> int:
        return run_command(lambda args: args.command(args), command._parser(), argv)

    assert run("report", *where, "--stores", str(tmp_path)) == 1
    assert "python -m evaluate: " in capsys.readouterr().err
    for member in ("one", "mean"):
        made.finish(recipe, tmp_path / "runs", member, made.regression())
    assert run("score", *where) == 0
    assert "fused: mean" in capsys.readouterr().out
    assert run("report", *where, "--stores", str(tmp_path)) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page == tmp_path / "runs" / "study" / "report" / "index.html"
    assert page.is_file()


# -- published figures -----------------------------------------------------------------------

EMOTIONS = ("Anger", "Boredom")


def challenge(tmp_path: Path, models: list[str], **head: object) -> tuple[Recipe, dict[str, Table]]:
    """A recipe on the challenge's corpus, and a table that says what the real one would."""
    made_recipe = made.recipe(tmp_path).model_copy(
        update={
            "corpora": {"hume-prosody": made.recipe(tmp_path).corpora["mine"]},
            "targets": EMOTIONS,
            "models": dict.fromkeys(models, next(iter(made.recipe(tmp_path).models.values()))),
        }
    )
    fusion = made_recipe.fusion["mean"].model_copy(update={"members": tuple(models)})
    made_recipe = made_recipe.model_copy(
        update={
            "fusion": {"mean": fusion},
            "head": made_recipe.head.model_copy(update=head),
            "split": made_recipe.split.model_copy(update={"outer": "predefined"}),
        }
    )
    about = {"reader": "hume-prosody", "published": True}
    return made_recipe, {"hume-prosody": Table(pd.DataFrame(), {}, EMOTIONS, [], about)}


def scored(kind: str, member: str, stale: bool = False) -> score.Scored:
    return score.Scored(kind, member, Path(), stale, {}, {})


def test_published_figures_stand_beside_the_published_procedure_alone(tmp_path: Path) -> None:
    nine = [name for name in report.PUBLISHED["nmse"] if name != "fusion"]
    assert len(nine) == 9
    recipe, tables = challenge(tmp_path, nine)
    assert report.published(recipe, scored("model", "xlsr-2b"), tables) == {"devel": 0.4813}
    assert report.published(recipe, scored("fusion", "mean"), tables) == {
        "devel": 0.5236,
        "test": 0.537,
    }
    other, _ = challenge(tmp_path, nine, select="nmae")
    assert report.published(other, scored("fusion", "mean"), tables) == {"devel": 0.5266}

    for one in (scored("model", "mfcc"), scored("model", "xlsr-2b", stale=True)):
        assert report.published(recipe, one, tables) == {}
    few, _ = challenge(tmp_path, nine[:3])
    assert report.published(few, scored("fusion", "mean"), tables) == {}
    for head in ({"kind": "ridge"}, {"select": "spearman"}, {"per_target": True}):
        changed, _ = challenge(tmp_path, nine, **head)
        assert report.published(changed, scored("model", "xlsr-2b"), tables) == {}
    assert report.published(recipe, scored("model", "xlsr-2b"), {}) == {}
    table = tables["hume-prosody"]
    table.findings.append(Finding("counts", 1, (), "counts differ from the published ones"))
    assert report.published(recipe, scored("model", "xlsr-2b"), tables) == {}
    table.findings.clear()
    table.corpus["published"] = False
    assert report.published(recipe, scored("model", "xlsr-2b"), tables) == {}


# -- pictures --------------------------------------------------------------------------------


def entry(value: float | None, low: float | None, high: float | None) -> dict[str, float | None]:
    return {"value": value, "low": low, "high": high}


def test_a_picture_of_scores_shows_every_defined_value() -> None:
    svg = plots.scores(
        [
            (made.UNLUCKY, {"devel": entry(0.4, 0.3, 0.5), "test": entry(0.3, 0.2, 0.4)}),
            ("$x^2$ 中文", {"devel": entry(None, None, None), "test": entry(0.6, None, None)}),
            ("fused", {}),
        ],
        ["devel", "test"],
        "rho",
        'A "title" <b>',
        rule_after=2,
    )
    page = Page(svg)
    text = " ".join(page.texts)
    assert "<script>" in text
    assert "$x^2$ 中文" in text
    assert 'A "title" <b>' in text
    assert not page.all("script")
    assert svg.count("stroke: var(--second); stroke-width: 1.5") == 1
    assert svg.count("stroke: var(--accent); stroke-width: 1.5") == 1
    assert "#1234" not in svg
    assert "currentColor" in svg
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", svg)


def test_a_confusion_picture_has_counts_and_per_cent() -> None:
    svg = plots.confusion([[3, 1], [0, 0]], ["a", "b"], "x")
    texts = [text.strip() for text in Page(svg).texts if text.strip()]
    assert texts.count("75") == texts.count("25") == 1
    assert texts.count("3") == texts.count("1") == 1
    assert texts.count("-") == 2  # no true b: a row without per cent
    assert "opacity: 0.375" in svg  # three quarters of the strongest shade


def test_pictures_of_one_page_share_no_ids_and_are_the_same_each_time() -> None:
    one, two = (plots.confusion([[1]], ["a"], title) for title in ("x", "y"))
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    assert plots.confusion([[1]], ["a"], "x") == one


def test_the_report_reads_and_does_not_write_scores(classified: tuple[Recipe, Path]) -> None:
    recipe, folder = classified
    score.score_all(recipe, folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    report.make_report(recipe, folder, folder)
    changed = {path for path in folder.rglob("*") if path.is_file()} - set(before)
    assert {path.name for path in changed} == {"index.html"}
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    assert runs.read_json(folder / "study" / "one" / runs.SCORES)["task"] == "classification"
