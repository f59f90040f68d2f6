"""The recipes of papers and of protocols, on small trees under the corpora's real names."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from evaluate.report.paper import read_paper, read_results
from evaluate.report.write import make_report
from evaluate.runs.folders import run_folders
from evaluate.runs.predictions import read_predictions
from evaluate.scores.pairs import make_statistics
from evaluate.scores.score import score_all
from extract.__main__ import main as extract
from extract.__main__ import parser as extract_parser
from features.common.errors import CorpusError
from features.common.folders import Folders
from features.corpora import get_corpus, read_corpus
from features.matrix import has_truth, load_rows
from features.recipe.load import load_recipe
from features.recipe.model import Recipe
from features.splits.lint import Lint, lint_recipe
from features.splits.plan import make_plan
from features.utterances import read_table, write_table
from fusion.combine import fuse
from models.checks import check_labels
from tests.checkpoints import save
from tests.evaluate.page import read
from tests.features.test_named_corpora import ravdess_names, touch
from tests.models import synthetic
from tests.trees import plant

TOP = Path(__file__).resolve().parents[1]
# The parts that each protocol of a recipe holds out, the main one first.
PARTS = {
    "multilingual": [1, 10 + 2 + 4 + 3 + 10 + 6],
    "multilingual-transfer": [1],
    "superb-er": [5],
    "iemocap-jtes": [5, 5],
    "ravdess-vote": [1, 5],
    "crema-d": [2, 5],
    "emodb-protocols": [10, 1, 5],
    "turev-db-protocols": [6, 1, 5],
    "emodb-turev-cross": [2 + 10 + 6],
}


def shipped(name: str) -> Recipe:
    return load_recipe(TOP / "recipes" / f"{name}.toml")


def write_tables(recipe: Recipe, data: Path, stores: Path) -> None:
    for corpus in recipe.corpora:
        options = recipe.reader_options(corpus)
        write_table(stores / corpus, read_corpus(corpus, data / corpus, options=options))


@pytest.fixture
def planted(tmp_path: Path):
    """Plant a recipe's corpora and write their tables to `stores`: returns the recipe."""

    def make(name: str) -> Recipe:
        recipe = shipped(name)
        for corpus in recipe.corpora:
            plant(tmp_path / "data", corpus)
        write_tables(recipe, tmp_path / "data", tmp_path / "stores")
        return recipe

    return make


@pytest.mark.parametrize("name", PARTS)
def test_folds_are_planned_and_pass_the_linter(planted, tmp_path: Path, name: str) -> None:
    found: list[Lint] = []
    for one in planted(name).protocols():
        found.append(lint_recipe(one, tmp_path / "stores"))
        found[-1].refuse(one.path)
    assert [len(one.parts) for one in found] == PARTS[name]
    for one in found:
        declared = "speaker" in one.split.expect_overlap
        assert any(part.shared["speaker"] for part in one.parts) == declared
        assert not any("does not occur" in note for note in one.notes)


def test_ravdess_is_held_out_as_published(tmp_path: Path) -> None:
    """1,152 files and 288: 38 or 39 of a class, 19 of neutral."""
    recipe = touch_ravdess(tmp_path, tmp_path / "stores")
    rows, y, _ = load_rows(recipe, tmp_path / "stores")
    (fold,) = make_plan(rows, y, has_truth(y), recipe.split).folds
    assert [len(fold.train), len(fold.test)] == [1152, 288]
    supports = Counter(y[fold.test])
    assert supports.pop("neutral") == 19
    assert sorted(supports.values()) == [38] * 4 + [39] * 3


def test_labels_of_six_corpora_become_four(planted, tmp_path: Path) -> None:
    rows, y, labels = load_rows(planted("multilingual"), tmp_path / "stores")
    assert labels == ("neutral", "happy", "angry", "sad")
    counts = Counter(zip(rows["corpus"], y, strict=True))
    for corpus, each in (("iemocap", 50), ("tess", 10), ("savee", 12), ("ema", 15), ("emovo", 18)):
        assert [counts[corpus, label] for label in labels] == [each] * 4
    assert [counts["emodb", label] for label in labels] == [50, 50, 100, 50]  # disgust is angry
    assert has_truth(y).sum() == 4 * (50 + 10 + 12 + 15 + 18) + 250


def test_the_transfer_is_from_six_corpora_to_one(planted, tmp_path: Path) -> None:
    recipe = planted("multilingual-transfer")
    rows, y, _ = load_rows(recipe, tmp_path / "stores")
    (fold,) = make_plan(rows, y, has_truth(y), recipe.split).folds
    assert set(rows["corpus"].iloc[fold.test]) == {"enterface"}
    assert "enterface" not in set(rows["corpus"].iloc[fold.train])
    assert len(set(rows["corpus"].iloc[fold.train])) == 6
    assert set(y[fold.test]) == {"happy", "angry", "sad"}
    assert set(y[fold.train]) == {"neutral", "happy", "angry", "sad"}


def test_each_session_of_either_corpus_is_left_out_once(planted, tmp_path: Path) -> None:
    recipe = planted("iemocap-jtes")
    rows, y, _ = load_rows(recipe, tmp_path / "stores")
    plan = make_plan(rows, y, has_truth(y), recipe.split)
    held: Counter[tuple[str, str]] = Counter()
    for fold in plan.folds:
        sessions = set(zip(*rows.iloc[fold.test][["corpus", "session"]].to_numpy().T, strict=True))
        assert sorted(corpus for corpus, _ in sessions) == ["iemocap", "jtes"]
        genders = rows.iloc[fold.test].groupby("corpus")["gender"].nunique()
        assert genders.tolist() == [2, 2]
        held.update(sessions)
    assert set(held.values()) == {1}
    assert len(held) == 10


@pytest.mark.parametrize("name", PARTS)
def test_every_missing_corpus_is_named_at_once(tmp_path: Path, name: str) -> None:
    recipe, nowhere = shipped(name), tmp_path / "nowhere"
    arguments = [recipe.path, "--data", str(nowhere), "--stores", str(tmp_path / "stores")]
    with pytest.raises(CorpusError) as extracting:
        extract(extract_parser().parse_args(arguments))
    with pytest.raises(CorpusError) as training:
        check_labels(recipe, Folders(stores=tmp_path / "stores", data=nowhere))
    with pytest.raises(CorpusError) as linting:
        lint_recipe(recipe, tmp_path / "stores")
    assert str(training.value) == str(linting.value)
    for error, place in ((extracting, str(nowhere)), (training, "DATA")):
        for corpus in recipe.corpora:
            record = get_corpus(corpus)
            parts = (record.title, record.homepage, record.layout, f"put it at {place}/{corpus}")
            assert all(part in str(error.value) for part in parts)


OTHERS = {
    "wav2vec2-large": "mfcc",
    "xlsr-53": "log-mel",
    "hubert-base": "wav2vec2-tiny",
    "hubert-xlarge": "mfcc+log-mel",
    "unispeech-large": "mfcc+wav2vec2-tiny",
    "unispeech-large-multi": "log-mel+wav2vec2-tiny",
}
"""Models that need no weights, in place of those of `ravdess-vote`."""


def on_other_models(name: str, folder: Path) -> Path:
    """A copy of a shipped recipe that needs no weights from elsewhere."""
    text = (TOP / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    for theirs, ours in OTHERS.items():
        text = text.replace(f'"{theirs}"', f'"{ours}"')
    if name == "iemocap-jtes":
        weights = folder / "weights"
        save(weights, "hubert-layer-stable", num_hidden_layers=24)
        mine = f'models = [{{ name = "hubert-small", path = "{weights}" }}]'
        text = text.replace("hubert-large", "hubert-small")
        text = text.replace('models = ["hubert-small"]', mine, 1)
    path = folder / f"{name}.toml"
    path.write_text(f"{text}\n[evaluate]\nbootstrap = 100\n", encoding="utf-8")
    return path


def touch_ravdess(data: Path, stores: Path) -> Recipe:
    """The names of all its files, and the table that they make."""
    touch(data / "ravdess", *ravdess_names())
    recipe = shipped("ravdess-vote")
    write_tables(recipe, data, stores)
    return recipe


@pytest.mark.slow
def test_published_figures_stand_beside_a_corpus_of_the_published_counts(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    data, stores, runs = (tmp_path / one for one in ("data", "stores", "runs"))
    recipe = touch_ravdess(data, stores)
    table = read_table(stores / "ravdess")
    code = table.rows["emotion"].map(table.labels["emotion"].index).to_numpy()
    centres = rng.normal(size=(8, 6))
    three = recipe.fusion["vote-of-three"].members
    features = {m: centres[code] + 1.5 * rng.normal(size=(len(code), 6)) for m in three}
    synthetic.write(stores, table.rows, features, labels=table.labels)
    write_tables(recipe, data, stores)
    for model in three:
        synthetic.train(recipe, model, folders=Folders(stores=stores, runs=runs), jobs=1)
    fuse(recipe, "vote-of-three", Folders(stores=stores, runs=runs))
    scored = score_all(recipe, Folders(stores=stores, runs=runs))
    make_statistics(recipe, scored, runs)
    folder = make_report(recipe, Folders(stores=stores, runs=runs, data=data))[0].parent
    page = read(folder)["paper.html"].shown
    assert "Table 3: accuracy of the votes" in page

    def rows(name: str) -> dict[str, list[str]]:
        with open(folder / "tables" / f"paper-{name}.csv", encoding="utf-8") as file:
            return {line[0]: line[1:] for line in csv.reader(file)}

    frame = read_predictions(runs / recipe.name / "fusion" / "vote-of-three" / "predictions.csv")
    assert len(frame) == 288
    accuracy = float((frame["true"] == frame["pred"]).mean())
    name = "XLSR-53, HuBERT x-large, UniSpeech large multilingual"
    assert rows("table-3")[name][:2] == ["0.9653", repr(accuracy)]
    four = rows("table-4")
    assert four[name][:2] == ["0.9653", repr(accuracy)]
    assert four["HuBERT base"][:2] == ["0.92", ""]  # not trained here
    frame = read_predictions(runs / recipe.name / "xlsr-53" / "predictions.csv")
    accuracy = float((frame["true"] == frame["pred"]).mean())
    assert four["wav2vec 2.0 large XLSR-53"][:2] == ["0.93", repr(accuracy)]

    (data / "ravdess" / ravdess_names()[0]).unlink()
    write_tables(recipe, data, stores)
    results = read_results(recipe, scored, Folders(stores=stores, runs=runs))
    none = read_paper(results, Folders(stores=stores, runs=runs))
    assert none.sheets == []
    assert "the counts of ravdess differ from the published ones" in none.left_out[0]


@pytest.mark.process
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ravdess-vote", "fused: vote (vote of 6)"),
        ("iemocap-jtes", "fused: late (logit-sum of 10)"),
    ],
)
def test_from_audio_to_the_page(
    tmp_path: Path, rng: np.random.Generator, name: str, told: str
) -> None:
    path = on_other_models(name, tmp_path)
    recipe = load_recipe(path)
    for corpus in recipe.corpora:
        plant(tmp_path / "data", corpus, rng)
    where = {one: [f"--{one}", str(tmp_path / one)] for one in ("data", "stores", "runs")}
    data, stores, runs = where.values()
    jobs = ["--jobs", "1"]

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=TOP, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("extract", path, *data, *stores, *jobs)
    run("features", "lint", path, *stores)
    run("models", path, *data, *stores, *runs, *jobs)
    run("fusion", path, *stores, *runs)
    scores = run("evaluate", "score", path, *runs)
    assert told in scores
    assert f"UAR on test by protocol; differences to {recipe.split.outer}" in " ".join(
        scores.split()
    )
    (beside,) = recipe.also
    *printed, page = run("evaluate", "report", path, *stores, *runs).splitlines()
    assert beside in Path(page).read_text(encoding="utf-8")
    why = f"published figures are not shown (the counts of {next(iter(recipe.corpora))} differ"
    assert any(line.startswith(why) for line in printed)
    assert not Path(page).with_name("paper.html").exists()
    for kind, _, folder in run_folders(recipe, tmp_path / "runs"):
        if kind == "fusion":
            continue
        frame = read_predictions(folder / "predictions.csv")
        rows, y, labels = load_rows(recipe, tmp_path / "stores")
        plan = make_plan(rows, y, has_truth(y), recipe.split)
        assert len(frame) == sum(len(fold.test) for fold in plan.folds)
        assert set(frame["true"]) - {""} == set(labels)
