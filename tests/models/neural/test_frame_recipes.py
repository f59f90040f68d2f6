"""Heads on frames in a recipe: folds, layers, new audio, and what is refused before a fit."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evaluate.runs.files import read_run
from evaluate.runs.predictions import read_predictions
from features.common.errors import RecipeError, RunError, StoreError
from features.common.folders import Folders
from features.new_audio import corpus_name
from features.recipe.member import Member
from features.recipe.model import Recipe
from features.sequences import load_sequences
from features.stores.key import frames_path
from models import network_fits
from models.checks import check_stores
from models.layers import work_of
from models.outputs import read_head
from models.predict import predict
from models.reproduce import reproduce
from models.train import Training
from tests.models import synthetic

TEXT = """
target = "emotion"
[models.one]
frames = [0, 1]
[models.two]
[split]
outer = "speaker-k-fold"
outer_folds = 2
expect_overlap = ["session"]
inner = "speaker-k-fold"
inner_folds = 2
[head]
select = "uar"
[heads.frames]
kind = "emobox"
models = ["one"]
training = { hidden = [12], epochs = 6, batch_size = 16, learning_rate = 0.01 }
[heads.svm]
kind = "linear-svc"
grid = { C = [0.01] }
[fusion.mean]
method = "mean"
"""


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    frame = synthetic.classes(folder)
    synthetic.frames(folder, frame, "one", [0.0, 0.6])
    synthetic.frames(folder, frame, "one", [0.9, 0.0], n_segments=8)
    return folder


@pytest.fixture(scope="module")
def made(stores: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    folder = tmp_path_factory.mktemp("made")
    recipe = synthetic.recipe(folder, TEXT)
    return recipe, run(recipe, stores, folder / "runs")


def run(recipe: Recipe, stores: Path, runs: Path, layer: int | str = "last", jobs: int = 1) -> Path:
    folders = Folders(stores=stores, runs=runs)
    return synthetic.train(recipe, "one", layer, "frames", folders=folders, jobs=jobs)


def accuracy(folder: Path) -> float:
    predictions = pd.read_csv(folder / "predictions.csv")
    return float((predictions["pred"] == predictions["true"]).mean())


def test_a_head_on_frames_is_a_run_like_any_other(made: tuple[Recipe, Path], stores: Path) -> None:
    recipe, folder = made
    record = read_run(folder)
    assert record is not None
    assert (record["layers"], record["columns"]) == ([1], 6)
    assert record["stores"]["made"]["key"]["kind"] == "frames"
    assert accuracy(folder) > 0.7
    predictions = pd.read_csv(folder / "predictions.csv")
    assert len(predictions) == 160
    assert len(pd.read_csv(folder / "inner.csv")) == 160
    sequences = load_sequences(recipe.of_head("frames"), stores, "one")
    head = read_head(folder, "emobox")
    assert (head.predict(sequences) == sequences.y).mean() > 0.8
    # The saved head brings frames to the scale of all rows that it was fitted on.
    every = np.concatenate([sequences.frames(row) for row in range(len(sequences))])
    np.testing.assert_allclose(head.net_.inputs.centre, every.mean(0), atol=1e-5)
    np.testing.assert_allclose(head.net_.inputs.scale, every.std(0), rtol=1e-5)


def test_scales_are_of_the_training_side_alone(
    stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    real = network_fits.train_piece

    def piece(rows, piece, *more):  # type: ignore[no-untyped-def]
        seen.extend((fit.train, fit.inputs) for fit in piece.fits)
        return real(rows, piece, *more)

    monkeypatch.setattr(network_fits, "train_piece", piece)
    recipe = synthetic.recipe(tmp_path, TEXT)
    run(recipe, stores, tmp_path / "runs")
    sequences = load_sequences(recipe.of_head("frames"), stores, "one")
    for train, inputs in seen:
        every = np.concatenate([sequences.frames(row) for row in train])
        np.testing.assert_allclose(inputs.centre, every.mean(0), atol=1e-5)
    by_rows = {train.tobytes(): inputs.centre.tobytes() for train, inputs in seen}
    assert len(set(by_rows.values())) == len(by_rows) == 7


def test_best_takes_the_layer_that_the_inner_folds_chose(stores: Path, tmp_path: Path) -> None:
    recipe = synthetic.recipe(
        tmp_path, TEXT.replace('kind = "emobox"', 'kind = "emobox"\nlayer = "best"')
    )
    assert work_of(recipe, stores)[:3] == [
        Member("one", 0, "frames"), Member("one", 1, "frames"), Member("one", "best", "frames"),
    ]  # fmt: skip
    for layer in (0, 1):
        run(recipe, stores, tmp_path / "runs", layer)
    folder = run(recipe, stores, tmp_path / "runs", "best")
    record = read_run(folder)
    assert record is not None
    assert set(record["chosen_layers"].values()) == {1}
    assert accuracy(tmp_path / "runs/study/one@0@frames") < 0.6 < accuracy(folder)
    sweep = work_of(recipe, stores, sweep=True)
    assert Member("one", "mean", "frames") not in sweep
    assert Member("one", "weighted", "frames") not in sweep


ON_SEGMENTS = TEXT.replace("frames = [0, 1]", "segments = 8").replace(
    'kind = "emobox"', 'kind = "emobox"\nsegments = true\nlayer = 0'
)


def test_a_head_reads_segments_where_it_says_so(stores: Path, tmp_path: Path) -> None:
    recipe = synthetic.recipe(tmp_path, ON_SEGMENTS)
    check_stores(recipe, work_of(recipe, stores), stores)
    folder = run(recipe, stores, tmp_path / "runs", 0)
    record = read_run(folder)
    assert record is not None
    assert record["stores"]["made"]["key"]["segments"] == 8
    assert "the means of 8 equal parts of every utterance stand for its frames" in record["notes"]
    assert accuracy(folder) > 0.7  # the frames of this layer are noise
    sequences = load_sequences(recipe.of_head("frames"), stores, "one", 0, source="segments")
    head = read_head(folder, "emobox")
    every = np.concatenate([sequences.frames(row) for row in range(len(sequences))])
    np.testing.assert_allclose(head.net_.inputs.centre, every.mean(0), atol=1e-5)
    folders = Folders(stores=stores, runs=tmp_path / "runs")
    assert Training(recipe, folders).is_done(Member("one", 0, "frames"))
    on_frames = ON_SEGMENTS.replace("segments = 8", "frames = [0]").replace("segments = true", "")
    recipe = synthetic.recipe(tmp_path, on_frames)
    assert not Training(recipe, folders).is_done(Member("one", 0, "frames"))
    # Of new audio the same is read, and it has to be cut as what was fitted on.
    corpus = corpus_name(["/other"])
    table = pd.read_csv(stores / "made" / "utterances.csv", keep_default_na=False)
    frame = table.assign(corpus=corpus, emotion=sequences.y)
    pooled = {"one": np.zeros((2, len(frame), 12))}
    synthetic.write(stores, frame, pooled, labels={"emotion": synthetic.LABELS})
    synthetic.frames(stores, frame, "one", [0.9, 0.0], n_segments=8)
    recipe = synthetic.recipe(tmp_path, ON_SEGMENTS)
    at = predict(recipe, "one@0@frames", corpus, record, folders)
    found = read_predictions(at / "predictions.csv")
    assert (found["pred"].to_numpy() == head.predict(sequences)).all()
    synthetic.frames(stores, frame, "one", [0.9, 0.0], n_segments=9)
    with pytest.raises(RunError, match="segments was 8, is 9"):
        predict(recipe, "one@0@frames", corpus, record, folders)


def test_layers_of_frames_are_not_those_of_extract_and_those_of_segments_are(
    tmp_path: Path,
) -> None:
    layers = "[extract]\nlayers = [1]\n[split]"
    text = TEXT.replace('kind = "emobox"', 'kind = "emobox"\nlayer = 0')
    assert synthetic.recipe(tmp_path, text.replace("[split]", layers)).frames_of("one") == [0, 1]
    with pytest.raises(RecipeError, match=r"layer: \[0\] not among \[extract\] layers = \[1\]"):
        synthetic.recipe(tmp_path, ON_SEGMENTS.replace("[split]", layers))


@pytest.mark.process
def test_two_processes_give_the_same_bits(
    made: tuple[Recipe, Path], stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = made
    monkeypatch.setattr(network_fits, "SERIAL_WORK", 0)
    again = run(recipe, stores, tmp_path, jobs=2)
    for name in ("predictions.csv", "inner.csv", "curves.csv", "head.safetensors"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()


def test_a_run_is_made_again_from_its_record(made: tuple[Recipe, Path], stores: Path) -> None:
    lines, equal = reproduce(made[1], stores=stores, jobs=1)
    assert equal, lines


def test_new_audio_is_predicted_from_its_frames(made: tuple[Recipe, Path], stores: Path) -> None:
    recipe, folder = made
    corpus = corpus_name(["/speech"])
    sequences = load_sequences(recipe.of_head("frames"), stores, "one")
    table = pd.read_csv(stores / "made" / "utterances.csv", keep_default_na=False)
    frame = table.assign(corpus=corpus, emotion=sequences.y)
    pooled = np.zeros((2, len(frame), 12))
    synthetic.write(stores, frame, {"one": pooled}, labels={"emotion": synthetic.LABELS})
    synthetic.frames(stores, frame, "one", [0.0, 0.6])
    record = read_run(folder)
    assert record is not None
    folders = Folders(stores=stores, runs=folder.parents[1])
    at = predict(recipe, "one@frames", corpus, record, folders)
    found = read_predictions(at / "predictions.csv")
    assert (found["pred"].to_numpy() == read_head(folder, "emobox").predict(sequences)).all()
    frames_path(stores, corpus, "one").unlink()
    with pytest.raises(StoreError, match="no frames of one: set .extract. frames"):
        predict(recipe, "one@frames", corpus, record, folders)


def test_a_head_names_the_models_that_it_is_fitted_on(
    made: tuple[Recipe, Path], stores: Path, tmp_path: Path
) -> None:
    recipe = made[0]
    names = ["one@frames", "one@svm", "two@svm"]
    assert [str(member) for member in recipe.members()] == names
    assert list(recipe.fusion["mean"].members) == names
    assert [str(member) for member in work_of(recipe, stores)] == names
    with pytest.raises(RecipeError, match=r"heads.frames. models: 'on' is none .* 'one'"):
        synthetic.recipe(tmp_path, TEXT.replace('["one"]', '["on"]'))


def test_a_run_is_fresh_until_its_frames_change(
    made: tuple[Recipe, Path], stores: Path, tmp_path: Path
) -> None:
    recipe, folder = made
    training = Training(recipe, Folders(stores=stores, runs=folder.parents[1]))
    member = Member("one", "last", "frames")
    assert training.is_done(member)
    more = synthetic.recipe(tmp_path, TEXT.replace('models = ["one"]\n', "").replace(
        "[models.two]", "[models.two]\nframes = [1]"))  # fmt: skip
    assert Training(more, training.folders).is_done(member)
    path = frames_path(stores, "made", "one")
    before = path.read_bytes()
    frame = pd.read_csv(stores / "made" / "utterances.csv", keep_default_na=False)
    try:
        synthetic.frames(stores, frame.iloc[:-1], "one", [0.0, 0.6])
        assert not training.is_done(member)
    finally:
        path.write_bytes(before)


def test_frames_are_opened_again_in_another_process(
    made: tuple[Recipe, Path], stores: Path
) -> None:
    sequences = load_sequences(made[0].of_head("frames"), stores, "one")
    data = pickle.dumps(sequences)
    assert len(data) < 200_000
    again = pickle.loads(data)
    assert again.fingerprint == sequences.fingerprint
    np.testing.assert_array_equal(again.frames(5), sequences.frames(5))
    path = frames_path(stores, "made", "one")
    before = path.read_bytes()
    try:
        frame = pd.read_csv(stores / "made" / "utterances.csv", keep_default_na=False)
        synthetic.frames(stores, frame.iloc[:-1], "one", [0.0, 0.6])
        with pytest.raises(StoreError, match="was replaced while it was read"):
            pickle.loads(data)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("frames = [0, 1]", "", r"'emobox' takes frames, and none are stored of one: set .extract"),
        (
            'kind = "emobox"',
            'kind = "emobox"\nsegments = true',
            "'emobox' takes segments, and none are stored of one: set .extract. segments",
        ),
        (
            'kind = "linear-svc"',
            'kind = "linear-svc"\nsegments = true',
            r"segments: 'linear-svc' takes pooled features; on frames: emobox, attention",
        ),
        ('kind = "emobox"', 'kind = "emobox"\nlayer = "mean"', "on frames allowed: an index"),
        ('kind = "emobox"', 'kind = "emobox"\nlayer = 3', r"\[3\] not among the frames of one"),
        ('kind = "emobox"', 'kind = "emobox"\nscalers = ["robust"]', "on frames allowed: standard"),
        ('kind = "emobox"', 'kind = "emobox"\nstandardise = "speaker"', "are not standardised"),
        ('kind = "emobox"', 'kind = "emobox"\nstatistics = ["mean"]', "which have none"),
        ("hidden = [12]", "hidden = [12, 4]", "hidden: got .12, 4., of emobox one width"),
        ("hidden = [12]", "mixup_alpha = 0.3", "frames of two utterances are not mixed"),
        ("hidden = [12]", "batch_norm = true", "batch_norm: 'emobox' has none; it has hidden"),
        ("hidden = [12]", "dropout = 0.1", "dropout: 'emobox' has none"),
    ],  # fmt: skip
)
def test_what_frames_do_not_have_is_refused(
    old: str, new: str, fault: str, stores: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=fault):
        run(synthetic.recipe(tmp_path, TEXT.replace(old, new)), stores, tmp_path)


def test_a_layer_without_frames_is_named_before_anything_is_trained(
    stores: Path, tmp_path: Path
) -> None:
    text = TEXT.replace("frames = [0, 1]", 'frames = [0, "last", 7]')
    recipe = synthetic.recipe(
        tmp_path, text.replace('kind = "emobox"', 'kind = "emobox"\nlayer = 7')
    )
    with pytest.raises(StoreError, match=r"one\.h5: .*7"):
        check_stores(recipe, work_of(recipe, stores), stores)
