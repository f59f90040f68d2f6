"""What is chosen where and scored where, on made predictions, a tiny case worked by hand."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from evaluate.report.pair_sheets import subsets
from evaluate.report.writers.terminal import to_terminal
from evaluate.runs.folders import INNER, PREDICTIONS, run_folder
from evaluate.runs.predictions import KEY, predicted_labels, read_predictions, write_predictions
from evaluate.scores.records import ChosenSubset, SubsetChoice, Subsets, SubsetsOfRows
from evaluate.scores.subsets import FILE, read_subsets
from features.common.errors import RunError
from features.common.folders import Folders
from features.recipe.model import Recipe
from fusion.methods import mean
from fusion.subsets.choose import SearchStates, choose, make_subsets, read_data
from tests.evaluate import made
from tests.models import synthetic
from tests.models.test_train import RIDGE, SVC


def written(
    recipe: Recipe, folder: Path, held: dict[str, pd.DataFrame], inner: dict[str, pd.DataFrame]
) -> Path:
    for member, frame in held.items():
        where = run_folder(folder, recipe.name, member)
        write_predictions(where / PREDICTIONS, frame)
        write_predictions(where / INNER, inner[member])
    return folder


def result_of(recipe: Recipe, folder: Path) -> Subsets:
    data = read_data(recipe, folder)
    return choose(recipe, data, SearchStates(folder / "progress.json", "x"))


def row_of(result: SubsetsOfRows, **wanted: Any) -> SubsetChoice:
    (row,) = [one for one in result.choices if wanted.items() <= vars(one).items()]
    return row


def votes(truth: str, chosen: str, partition: str, fold: str, first: int = 0) -> pd.DataFrame:
    """Rows whose scores are 1 for the class that is chosen; speaker = the utterance's first."""
    rows = [
        ("mine", f"u{i}", partition, fold, f"s{i // 2}", t, c, float(c == "a"), float(c == "b"))
        for i, (t, c) in enumerate(zip(truth, chosen, strict=True), first)
    ]
    return pd.DataFrame(rows, columns=[*KEY, "true", "pred", "score_a", "score_b"])


TOP = Path(__file__).resolve().parents[2]
SUBSETS = "[fusion.subsets]\n"


def test_the_nested_estimate_by_hand(tmp_path: Path) -> None:
    # Two folds of two rows. Fold p: one is right twice, two once. Fold q: one never, two once.
    # Pooled, both are right on 2 of 4 rows. Inside p's training rows two is better, inside q's one.
    recipe = made.recipe(tmp_path, "classification", SUBSETS + 'k = [1]\nmetrics = ["wa"]')
    held = {
        "one": [("ab", "ab", "p"), ("ab", "ba", "q")],
        "two": [("ab", "aa", "p"), ("ab", "aa", "q")],
    }
    inner = {
        "one": [("ab", "ba", "p"), ("ab", "ab", "q")],
        "two": [("ab", "aa", "p"), ("ab", "bb", "q")],
    }

    def frames(parts: dict[str, list], partition: str, turn: bool) -> dict[str, pd.DataFrame]:
        return {
            member: pd.concat(
                votes(truth, chosen, partition, fold, 2 * (i ^ turn))
                for i, (truth, chosen, fold) in enumerate(rows)
            )
            for member, rows in parts.items()
        }

    written(recipe, tmp_path, frames(held, "test", False), frames(inner, "inner", True))
    result = result_of(recipe, tmp_path)
    row = row_of(result, k=1)
    assert (result.partition, result.chosen_on, result.n) == ("test", "inner folds", 4)
    assert row.n_subsets == 2
    assert row.best == ChosenSubset(
        0.5, marks=("optimistic",), members=("one",), n_best=2, ties=(("two",),)
    )
    chosen = {fold: one.members for fold, one in row.honest.choices.items()}
    assert chosen == {"p": ("two",), "q": ("one",)}
    assert [one.value for one in row.honest.choices.values()] == [0.5, 1.0]
    # Fold p by two: 1 of 2; fold q by one: 0 of 2.
    assert row.honest.value == 0.25
    assert row.optimism.value == 0.25
    # Resampled speakers: of (p, p), (p, q), (q, q) the best has 1, 1/2, 0, the honest 1/2, 1/4, 0.
    assert (row.honest.low, row.honest.high) == (0.0, 0.5)
    assert (row.optimism.low, row.optimism.high) == (0.0, 0.5)
    (drawn,) = result.random
    assert (drawn.n, drawn.all, drawn.mean) == (2, True, 0.5)


def test_resamples_that_lack_a_class_are_left_out(tmp_path: Path) -> None:
    """Of two speakers the first alone has an a: the pairs that draw the other twice are out."""
    recipe = made.recipe(tmp_path, "classification", SUBSETS + 'k = [1]\nmetrics = ["uar"]')
    held = {
        one: votes("abbb", said, "test", "") for one, said in (("one", "abba"), ("two", "bbbb"))
    }
    inner = {one: frame.assign(partition="inner") for one, frame in held.items()}
    result = result_of(recipe, written(recipe, tmp_path, held, inner))
    honest = row_of(result, k=1).honest
    # (first, first) has recalls 1 and 1, a mixed pair 1 and 2/3.
    assert (honest.low, honest.high) == (pytest.approx(5 / 6), 1.0)
    n = honest.undefined
    assert 200 < n < 300
    assert result.lacking == f"{n} of 1,000 resamples lack a class and are left out"


def members(
    rng: np.random.Generator, frame: pd.DataFrame, names: tuple[str, ...]
) -> dict[str, pd.DataFrame]:
    """Noisy copies of a frame's predictions."""
    found = {}
    for name in names:
        one = frame.copy()
        for column in one.columns:
            if column.endswith("_pred") or column.startswith("score_"):
                one[column] += 0.3 * rng.normal(size=len(one))
        if "pred" in one:
            labels = np.array(predicted_labels(one), dtype=object)
            scores = one[[f"score_{label}" for label in labels]].to_numpy()
            one["pred"] = labels[scores.argmax(axis=1)]
        found[name] = one
    return found


def mean_rho(frames: dict[str, pd.DataFrame], names: list[str], partition: str) -> float:
    rows = [frames[name][frames[name]["partition"] == partition] for name in names]
    values = []
    for target in made.TARGETS:
        truth = rows[0][f"{target}_true"].to_numpy()
        predicted = mean(np.stack([one[[f"{target}_pred"]].to_numpy() for one in rows]))[:, 0]
        known = ~np.isnan(truth)
        values.append(spearmanr(truth[known], predicted[known]).statistic)
    return float(np.mean(values))


def test_chosen_on_devel_scored_on_test(tmp_path: Path, rng: np.random.Generator) -> None:
    recipe = made.recipe(tmp_path, more=SUBSETS)
    frames = members(rng, made.regression(80), ("one", "two"))
    written(recipe, tmp_path, frames, frames)
    result = result_of(recipe, tmp_path)
    assert (result.partition, result.chosen_on) == ("test", "devel")
    row = row_of(result, k="any")
    on = {
        part: max((["one"], ["two"], ["one", "two"]), key=lambda m, p=part: mean_rho(frames, m, p))
        for part in ("devel", "test")
    }
    assert list(row.best.members) == on["test"]
    assert row.best.value == pytest.approx(mean_rho(frames, on["test"], "test"), abs=1e-12)
    (chosen,) = row.honest.choices.values()
    assert list(chosen.members) == on["devel"]
    assert chosen.value == pytest.approx(mean_rho(frames, on["devel"], "devel"), abs=1e-12)
    honest = mean_rho(frames, on["devel"], "test")
    assert row.honest.value == pytest.approx(honest, abs=1e-12)
    assert row.optimism.value == pytest.approx(row.best.value - honest, abs=1e-12)


def test_a_masked_test_leaves_devel_without_a_counterpart(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    recipe = made.recipe(tmp_path, more=SUBSETS)
    frame = made.regression(80)
    frame.loc[frame["partition"] == "test", [f"{one}_true" for one in made.TARGETS]] = np.nan
    frames = members(rng, frame, ("one", "two"))
    devel = {name: one[one["partition"] == "devel"] for name, one in frames.items()}
    written(recipe, tmp_path, frames, devel)
    result = result_of(recipe, tmp_path)
    assert result.partition == "devel"
    assert (result.chosen_on, result.why) == (None, "no rows beside devel to choose on")
    row = row_of(result, k=2)
    assert row.best.value == pytest.approx(mean_rho(frames, ["one", "two"], "devel"))
    assert row.honest is row.optimism is None
    # Rows of inner folds of train are not those that are scored.
    inner = {name: one.assign(partition="inner") for name, one in frames.items()}
    written(recipe, tmp_path, frames, inner)
    assert result_of(recipe, tmp_path).chosen_on == "inner folds"
    for one in frames.values():
        one[[f"{target}_true" for target in made.TARGETS]] = np.nan
    written(recipe, tmp_path, frames, devel)
    with pytest.raises(RunError, match="no row of test or devel has a truth"):
        read_data(recipe, tmp_path)


FIVE = ("one", "two", "three", "four", "five")


@pytest.fixture
def five(tmp_path: Path, rng: np.random.Generator):
    """A recipe of five models with finished runs, and its folder."""

    def make(more: str) -> tuple[Recipe, Path]:
        recipe = made.recipe(tmp_path, "classification", SUBSETS + more)
        spec = recipe.subsets.model_copy(update={"members": list(FIVE)})
        recipe = recipe.model_copy(update={"subsets": spec})
        held = members(rng, made.classification(100), FIVE)
        inner = {
            name: members(rng, one.assign(partition="inner"), ("x",))["x"]
            for name, one in held.items()
        }
        return recipe, written(recipe, tmp_path, held, inner)

    return make


def test_sizes_beyond_the_limit_have_greedy_paths(five) -> None:
    recipe, folder = five('methods = ["vote", "mean"]\nmetrics = ["uar"]\nlimit = 5')
    result = result_of(recipe, folder)
    sizes = {
        kind: [row.k for row in result.choices if (row.search, row.method) == (kind, "vote")]
        for kind in ("exhaustive", "greedy", "greedy with replacement")
    }
    assert sizes == {
        "exhaustive": [1, 4, 5, "any"],
        "greedy": [2, 3, "any"],
        "greedy with replacement": [2, 3, "any"],
    }
    whole = result_of(recipe.model_copy(update={"subsets": recipe.subsets.model_copy(
        update={"limit": 1000, "greedy": True})}), folder)  # fmt: skip
    for k in (2, 3):
        best = row_of(whole, k=k, method="mean", search="exhaustive")
        path = row_of(whole, k=k, method="mean", search="greedy")
        assert path.best.value <= best.best.value
        assert path.best == row_of(result, k=k, method="mean", search="greedy").best
        assert path.n_subsets is None
        assert best.n_subsets == math.comb(5, k)
    alls = [row for row in whole.choices if row.k == "any" and row.search == "exhaustive"]
    for row in alls:
        of_sizes = [
            one.best.value
            for one in whole.choices
            if one.k != "any" and (one.method, one.search) == (row.method, "exhaustive")
        ]
        assert row.best.value == max(of_sizes)
        assert row.n_subsets == 31


class Interrupted(SearchStates):
    """Stopped by Ctrl-C after each block."""

    def save(self, *, now: bool = False) -> None:
        super().save(now=True)
        if not now:
            raise KeyboardInterrupt


def test_stopped_and_gone_on_with(five, tmp_path: Path) -> None:
    recipe, folder = five('k = [1, 2]\nmethods = ["mean", "vote"]')
    expected = result_of(recipe, folder)
    data = read_data(recipe, folder)
    path = tmp_path / "stopped.json"
    n_searches = 2 * (1 + len(data.choosers)) * 2
    for n_done in range(1, n_searches + 1):
        with pytest.raises(KeyboardInterrupt):
            choose(recipe, data, Interrupted(path, "same"))
        states = json.loads(path.read_text(encoding="utf-8"))["states"]
        assert sum(one["n_blocks"] for one in states.values()) == n_done
    assert choose(recipe, data, Interrupted(path, "same")) == expected


def test_progress_of_other_inputs_is_refused(
    five, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, folder = five("k = [2]")
    path = tmp_path / "progress.json"
    checkpoint = SearchStates(path, "these")
    choose(recipe, read_data(recipe, folder), checkpoint)
    checkpoint.save(now=True)
    assert SearchStates(path, "these").states == checkpoint.states != {}
    assert SearchStates(path, "others", print).states == {}
    assert "is of other inputs; begun anew" in capsys.readouterr().out


def printed(recipe: Recipe, runs: Path) -> str:
    found = read_subsets(recipe, runs)
    assert found is not None
    return to_terminal(subsets(found.record, stale=found.stale), 300)


def test_the_stage_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic.classes(tmp_path)
    recipe = synthetic.recipe(tmp_path, SVC + '\n[fusion.subsets]\nmetrics = ["uar"]\n')
    folders = Folders(stores=tmp_path, runs=tmp_path / "runs")
    assert read_subsets(recipe, folders.runs) is None
    for model in recipe.models:
        synthetic.train(recipe, model, jobs=1, folders=folders)
    capsys.readouterr()
    folder = make_subsets(recipe, folders, tell=print)
    assert folder == tmp_path / "runs" / "study" / "fusion" / "subsets"
    assert "best uar on test" in capsys.readouterr().out
    assert sorted(one.name for one in folder.iterdir()) == ["run.json", "subsets.json"]
    result = FILE.at(folder / "subsets.json").record
    assert result.chosen_on == "inner folds"
    assert {row.k for row in result.choices} == {1, 2, "any"}
    make_subsets(recipe, folders, tell=print)
    assert capsys.readouterr().out == "fusion subsets: nothing to do\n"

    text = printed(recipe, folders.runs)
    assert "chosen on inner folds" in text
    assert f"{row_of(result, k=2).best.value:.3f}" in text
    folds = [one.members for one in row_of(result, k=2).honest.choices.values()]
    assert f"{' + '.join(folds[0])} (2 models, {len(folds)} of {len(folds)} folds)" in text
    assert not read_subsets(recipe, folders.runs).stale
    frame = read_predictions(tmp_path / "runs/study/two/predictions.csv")
    write_predictions(tmp_path / "runs/study/two/predictions.csv", frame.iloc[::-1])
    assert "(stale)" in printed(recipe, folders.runs)
    make_subsets(recipe, folders)
    assert row_of(FILE.at(folder / "subsets.json").record, k=2) == row_of(result, k=2)
    (tmp_path / "runs/study/two/run.json").unlink()
    with pytest.raises(RunError, match="fusion subsets: two has no finished run"):
        make_subsets(recipe, folders)


def test_regression_from_end_to_end(tmp_path: Path) -> None:
    synthetic.regression(tmp_path, masked_test=False)
    recipe = synthetic.recipe(tmp_path, RIDGE + "\n[fusion.subsets]\n")
    folders = Folders(stores=tmp_path, runs=tmp_path / "runs")
    for model in recipe.models:
        synthetic.train(recipe, model, jobs=1, folders=folders)
    make_subsets(recipe, folders)
    text = printed(recipe, folders.runs)
    assert "chosen on devel" in text
    assert "\nSpearman's rho  mean    exhaustive  " in text


SEARCH = """
import argparse, sys
import numpy as np
from features.common.command import run_command
from fusion.subsets.classes import Classes
from fusion.subsets.search import search

def main(args):
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 4, 4000)
    problem = Classes(truth, rng.normal(size=(25, 4000, 4)), "logit-sum", ["uar"])
    search(problem, 12, done=lambda state, n_subsets: print(state.n_blocks, flush=True))

sys.exit(run_command(main, argparse.ArgumentParser("search")))
"""


@pytest.mark.process
def test_ctrl_c_stops_the_threads() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SEARCH], cwd=TOP, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == "1\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "The same command goes on from here." in said


def test_each_corpus_alone_is_as_if_it_were_all(tmp_path: Path, rng: np.random.Generator) -> None:
    text = SUBSETS + 'k = "all"\nmethods = ["mean", "vote"]\nalone = true'
    recipe = made.recipe(tmp_path, "classification", text, "mine yours")
    held = made.classification(n=120, seed=1)
    held["corpus"] = np.where(held["utterance"] < "u070", "mine", "yours")

    def noisy() -> dict[str, pd.DataFrame]:
        found = {}
        for member in ("one", "two"):
            scores = held.filter(like="score_") + 0.8 * rng.normal(size=(len(held), 3))
            names = np.array(made.LABELS, dtype=object)
            found[member] = held.assign(**scores, pred=names[scores.to_numpy().argmax(axis=1)])
        return found

    frames = noisy(), {name: one.assign(partition="inner") for name, one in noisy().items()}
    whole = result_of(recipe, written(recipe, tmp_path / "whole", *frames))
    assert list(whole.alone) == ["mine", "yours"]
    for corpus, part in whole.alone.items():
        of_one = [{m: f[f["corpus"] == corpus] for m, f in one.items()} for one in frames]
        alone = result_of(recipe, written(recipe, tmp_path / corpus, *of_one))
        assert alone.alone == {}
        assert part == SubsetsOfRows(
            **{field.name: getattr(alone, field.name) for field in fields(SubsetsOfRows)}
        )
        assert part.chosen_on == "inner folds"
        assert part.choices != whole.choices


def test_a_corpus_without_rows_to_choose_on_has_no_honest_choice(tmp_path: Path) -> None:
    recipe = made.recipe(tmp_path, "classification", SUBSETS + "alone = true", "mine yours")
    held = made.classification(n=60, seed=1)
    held["corpus"] = np.where(held["utterance"] < "u030", "mine", "yours")
    inner = held[held["corpus"] == "mine"].assign(partition="inner")
    both = [dict.fromkeys(("one", "two"), one) for one in (held, inner)]
    found = result_of(recipe, written(recipe, tmp_path, *both)).alone
    assert row_of(found["mine"], k=1, metric="uar").honest is not None
    assert row_of(found["yours"], k=1, metric="uar").honest is None
    assert found["yours"].chosen_on is None
    assert found["yours"].why.startswith("no rows of yours beside test to choose on in fold ")
