"""Gains speaker by speaker: by hand, kept up to date, in all media."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluate.report.printed import scores_text
from evaluate.report.write import make_report
from evaluate.scores.pairs import make_statistics
from evaluate.scores.protocols import Protocols, score_protocols
from evaluate.scores.records import SpeakerGains, Statistics
from evaluate.scores.score import Scored, score_all
from evaluate.scores.speaker_gains import MAIN, make_gains, read_gains, speaker_scores
from evaluate.scores.spread import make_spread
from features.common.errors import OutdatedError, RecipeError
from features.common.folders import Folders
from features.recipe.model import Recipe
from tests.evaluate import made

LABELS = ("anger", "joy", "sadness")
HEADS = """
[heads.base]
[heads.personal]
[heads.marked]
standardise = "speaker"
[evaluate]
bootstrap = 200
gains = [["base", "personal"], ["base", "marked"]]
"""


def both(right: tuple[float, float] = (0.4, 0.9)) -> list[pd.DataFrame]:
    return [made.classification(80, seed, right[seed], LABELS) for seed in (0, 1)]


def study(folder: Path) -> tuple[Recipe, list[Scored]]:
    recipe = made.recipe(folder, "classification", HEADS)
    base, personal = both()
    personal[["true"]] = base[["true"]]
    for name, frame in (("base", base), ("personal", personal), ("marked", personal)):
        own = {"recipe": recipe.of_head(name).resolved()}
        made.finish(recipe, folder, f"one@{name}", frame, own)
    return recipe, score_all(recipe, Folders(runs=folder))


def test_gains_are_those_of_each_speakers_own_rows(tmp_path: Path) -> None:
    recipe, scored = study(tmp_path)
    found = make_gains(recipe, {MAIN: scored}, tmp_path)
    assert found is not None
    gain, marked = found.gains
    assert (gain.base, gain.head, gain.n) == ("one@base", "one@personal", 80)
    base, personal = both()
    personal["true"] = base["true"]
    wa, uar = [], []
    for speaker in sorted(set(base["speaker"])):
        rows = base["speaker"] == speaker
        sides = []
        for frame in (base, personal):
            own = frame[rows]
            hit = own["true"] == own["pred"]
            sides.append((hit.mean(), hit.groupby(own["true"]).mean().mean()))
        wa.append(sides[1][0] - sides[0][0])
        uar.append(sides[1][1] - sides[0][1])
        of = gain.metrics["uar"].speakers[f"mine/{speaker}"]
        assert (of.base, of.head) == pytest.approx((sides[0][1], sides[1][1]))
    for metric, gains in (("wa", np.array(wa)), ("uar", np.array(uar))):
        of_metric = gain.metrics[metric]
        assert of_metric.n == 5
        assert of_metric.mean.value == pytest.approx(gains.mean())
        assert of_metric.losing.value == (gains < 0).mean()
        low, high = of_metric.mean.low, of_metric.mean.high
        assert gains.min() <= low < gains.mean() < high <= gains.max()
    assert gain.metrics["uar"].mean.marks == ()
    assert marked.metrics["uar"].mean.marks == ("uses unlabelled test data",)
    assert marked.metrics["uar"].losing.marks == ("uses unlabelled test data",)


@pytest.mark.slow
def test_rows_are_matched_by_their_keys_and_undefined_speakers_are_left_out(
    tmp_path: Path,
) -> None:
    base, head = both()
    head["true"] = base["true"]
    n, expected = speaker_scores(base, head)
    shuffled = head.sample(frac=1, random_state=0)
    assert speaker_scores(base, shuffled) == (n, expected)
    n, fewer = speaker_scores(base, head[head["speaker"] != "00"])
    assert (n, list(fewer)) == (64, [f"mine/{i:02}" for i in range(1, 5)])
    values = made.regression(60, partitions=("test",))
    constant = values.copy()
    of = constant["speaker"] == "00"
    constant.loc[of, [f"{t}_pred" for t in made.TARGETS]] = 0.5
    text = HEADS.replace('standardise = "speaker"', "")
    recipe = made.recipe(tmp_path, "regression", text)
    for name, frame in (("base", values), ("personal", constant)):
        made.finish(recipe, tmp_path, f"one@{name}", frame)
    found = make_gains(recipe, {MAIN: score_all(recipe, Folders(runs=tmp_path))}, tmp_path)
    assert found is not None
    (gain,) = found.gains
    spearman = gain.metrics["spearman"]
    assert (spearman.n, len(spearman.speakers)) == (5, 6)
    assert spearman.speakers["mine/00"].gain is None
    assert spearman.mean.value == 0
    assert spearman.losing.value == 0


def test_gains_are_made_anew_where_predictions_changed_and_only_there(tmp_path: Path) -> None:
    recipe, scored = study(tmp_path)
    assert read_none(recipe, tmp_path)
    make_gains(recipe, {MAIN: scored}, tmp_path)
    path = tmp_path / recipe.name / "gains.json"
    before = path.stat().st_mtime_ns
    make_gains(recipe, {MAIN: scored}, tmp_path)
    assert path.stat().st_mtime_ns == before
    made.finish(recipe, tmp_path, "one@base", both((0.9, 0.9))[0])
    scored = score_all(recipe, Folders(runs=tmp_path))
    with pytest.raises(OutdatedError):
        read_gains(recipe, {MAIN: scored}, tmp_path)
    make_gains(recipe, {MAIN: scored}, tmp_path)
    assert path.stat().st_mtime_ns != before
    assert json.loads(path.read_text())["format"] == "serfuse-speaker-gains"


def read_none(recipe: Recipe, folder: Path) -> bool:
    """Whether there is nothing to compare where no run is finished."""
    found: SpeakerGains | None = make_gains(recipe, {MAIN: []}, folder)
    return found is None


@pytest.mark.slow
def test_terminal_page_and_csv_have_gains_losers_and_marks(tmp_path: Path) -> None:
    recipe, scored = study(tmp_path)
    found = make_gains(recipe, {MAIN: scored}, tmp_path)
    text = scores_text(recipe, scored, Statistics({}), Protocols({}, {}), None, None, found, 400)
    table = text[text.index("Mean over speakers") :]
    assert "share who lose, UAR" in table
    assert "5 speakers" in table
    assert "uses unlabelled test data" in table
    make_statistics(recipe, scored, tmp_path)
    make_spread(recipe, scored, tmp_path)
    score_protocols(recipe, Folders(runs=tmp_path))
    page, _ = make_report(recipe, Folders(runs=tmp_path, stores=tmp_path, data=tmp_path))
    html = page.read_text("utf-8")
    assert "Speaker by speaker" in html
    assert "Gains speaker by speaker" in html
    tables = page.parent / "tables"
    whole = pd.read_csv(tables / "speaker-gains.csv")
    assert len(whole) == 2
    (single,) = tables.glob("speaker-gains-one*personal*.csv")
    assert len(pd.read_csv(single)) == 5
    assert len(list((page.parent / "figures").glob("speaker-gains-*.svg"))) == 2


@pytest.mark.parametrize(
    ("pair", "fault"),
    [
        ('["base", "persnal"]', "'persnal' is no .heads.NAME.; did you mean 'personal'"),
        ('["base", "base"]', "'base' against itself"),
        ('["base", "personal"], ["base", "personal"]', "a pair is named twice"),
        ('["base"]', "gains"),
    ],
)
def test_pairs_that_are_no_heads_are_faults(pair: str, fault: str, tmp_path: Path) -> None:
    text = HEADS.replace('["base", "personal"], ["base", "marked"]', pair)
    with pytest.raises(RecipeError, match=fault):
        made.recipe(tmp_path, "classification", text)
