"""Networks as heads of a recipe: trained, chosen, saved and made again as every other head is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from evaluate.runs.files import read_run
from evaluate.runs.freshness import train_inputs
from features.common.errors import RecipeError, RunError
from features.common.folders import Folders
from features.corpora import read_corpus
from features.matrix import load_matrix
from features.recipe.head import HeadSpec
from features.recipe.member import Member
from features.recipe.model import Recipe
from features.utterances import read_table
from models import network_fits
from models.checks import check_heads
from models.folds import Divisions
from models.heads import cells, pipeline
from models.layers import work_of
from models.neural.estimator import NeuralClassifier
from models.outputs import read_head
from models.problem import Problem
from models.reproduce import reproduce
from models.train import STATES
from tests.models import synthetic

MLP = """
target = "emotion"
[split]
outer = "speaker-k-fold"
outer_folds = 2
expect_overlap = ["session"]
inner = "speaker-k-fold"
inner_folds = 2
[head]
kind = "mlp"
select = "uar"
[head.training]
hidden = [8]
batch_size = 16
epochs = 6
class_weight = "balanced"
[head.grid]
learning_rate = [0.0001, 0.01]
"""
FILES = ("predictions.csv", "inner.csv", "search.csv", "curves.csv", "head.safetensors")


def trained(recipe: Recipe, stores: Path, runs: Path, **more: Any) -> Path:
    """The run of the first model."""
    return synthetic.train(recipe, "one", folders=Folders(stores=stores, runs=runs),
                           **{"jobs": 1, **more})  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    synthetic.classes(folder)
    return folder


@pytest.fixture(scope="module")
def made(stores: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Recipe, Path]:
    folder = tmp_path_factory.mktemp("made")
    recipe = synthetic.recipe(folder, MLP)
    return recipe, trained(recipe, stores, folder / "runs")


def test_a_network_is_chosen_and_predicts_as_any_head(
    made: tuple[Recipe, Path], stores: Path
) -> None:
    recipe, folder = made
    record = read_run(folder)
    assert record["engine"] == "neural engine, float32 on a CPU"
    assert record["fits"] == 2 * 2 * 2 + 2 * 2 + 3
    search = pd.read_csv(folder / "search.csv")
    chosen = search[search["chosen"]]
    assert chosen["learning_rate"].eq(0.01).all()
    assert chosen["score"].gt(0.4).all()  # chance is a third
    predictions = pd.read_csv(folder / "predictions.csv")
    scores = predictions[[f"score_{label}" for label in synthetic.LABELS]].to_numpy()
    best = np.array(synthetic.LABELS)[scores.argmax(axis=1)]
    assert (best == predictions["pred"]).all()
    assert (predictions["pred"] == predictions["true"]).mean() > 0.5
    assert np.abs(scores.sum(axis=1)).max() > 1e-3  # logits, not probabilities less a constant
    head, matrix = read_head(folder, "mlp"), load_matrix(recipe, stores, "one")
    assert tuple(head.classes_) == synthetic.LABELS
    assert (head.predict(matrix.X) == matrix.y).mean() > 0.5


def test_curves_have_the_loss_of_all_fits_and_the_score_on_inner_rows(
    made: tuple[Recipe, Path],
) -> None:
    curves = pd.read_csv(made[1] / "curves.csv")
    by_fit = curves.groupby("fit", sort=False)
    assert (by_fit["epoch"].max() == 6).all()
    assert (by_fit.size() == 6).all()
    inner = curves["fit"].str.contains("inner fold")
    assert inner.any()
    assert curves.loc[inner, "score"].between(0, 1).all()
    refits = curves.loc[~inner]
    assert refits["score"].isna().all()
    assert set(refits["fit"].str.contains("chosen")) == {True}
    fast = by_fit.get_group("outer fold 0, inner fold 0: standard, learning_rate 0.01")
    assert fast["loss"].iloc[-1] < fast["loss"].iloc[0]


def test_no_bit_depends_on_processes_or_on_what_is_trained_together(
    made: tuple[Recipe, Path], stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = made
    monkeypatch.setattr(network_fits, "STACK_MOST", 1)
    alone = trained(recipe, stores, tmp_path / "alone")
    assert contents(alone) == contents(folder)
    monkeypatch.setattr(network_fits, "STACK_MOST", 16)
    text = MLP.replace("[0.0001, 0.01]", "[0.01]")
    fewer = trained(synthetic.recipe(tmp_path, text), stores, tmp_path / "fewer")
    for name in ("predictions.csv", "inner.csv", "head.safetensors"):
        assert (fewer / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.process
def test_two_processes_give_the_same_bits(
    made: tuple[Recipe, Path], stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = made
    monkeypatch.setattr(network_fits, "SERIAL_WORK", 0)
    assert contents(trained(recipe, stores, tmp_path, jobs=2)) == contents(folder)


def test_a_training_that_is_stopped_goes_on_where_it_was(
    made: tuple[Recipe, Path], stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, folder = made
    done = []
    whole = network_fits.train_piece

    def stopped(*args: Any) -> Any:
        if len(done) == 4:
            raise KeyboardInterrupt
        done.append(1)
        return whole(*args)

    monkeypatch.setattr(network_fits, "STACK_MOST", 1)
    with monkeypatch.context() as patch:
        patch.setattr(network_fits, "train_piece", stopped)
        with pytest.raises(KeyboardInterrupt):
            trained(recipe, stores, tmp_path)
    states = list((tmp_path / recipe.name / "one" / STATES).iterdir())
    assert len(states) == 4
    assert not (tmp_path / recipe.name / "one" / "run.json").exists()
    before = {path.name: path.stat().st_mtime_ns for path in states}
    after: dict[str, int] = {}

    def watched(rows: Any, piece: Any, scoring: Any, at: Path, *more: Any) -> Any:
        results = whole(rows, piece, scoring, at, *more)
        after.update({path.name: path.stat().st_mtime_ns for path in at.iterdir()})
        return results

    monkeypatch.setattr(network_fits, "train_piece", watched)
    again = trained(recipe, stores, tmp_path)
    assert {name: after[name] for name in before} == before  # none of them was trained again
    assert contents(again) == contents(folder)
    assert not (again / STATES).exists()


def test_a_finished_run_is_not_trained_again_and_is_made_again_on_request(
    made: tuple[Recipe, Path], stores: Path
) -> None:
    recipe, folder = made
    told: list[str] = []
    trained(recipe, stores, folder.parents[1], tell=told.append)
    assert told == ["one: nothing to do"]
    lines, equal = reproduce(folder, stores=stores, jobs=1)
    assert equal, lines


def test_a_head_of_another_sort_takes_its_files_away(
    made: tuple[Recipe, Path], stores: Path, tmp_path: Path
) -> None:
    svm = MLP[: MLP.index("[head]")] + '[head]\nkind = "linear-svc"\nselect = "uar"\n'
    folder = trained(synthetic.recipe(tmp_path, MLP), stores, tmp_path)
    assert not (folder / "head.skops").exists()
    trained(synthetic.recipe(tmp_path, svm), stores, tmp_path)
    names = {path.name for path in folder.iterdir()}
    assert "head.skops" in names
    assert not names & {"head.safetensors", "curves.csv"}


def test_with_patience_a_refit_takes_the_median_of_its_inner_folds(
    stores: Path, tmp_path: Path
) -> None:
    text = MLP.replace("epochs = 6", "epochs = 30\npatience = 2").replace(
        "[0.0001, 0.01]", "[0.02]"
    )
    folder = trained(synthetic.recipe(tmp_path, text), stores, tmp_path)
    curves = pd.read_csv(folder / "curves.csv")
    lengths = []
    for fold in ("0", "1"):
        inner = [
            curves[
                curves["fit"] == f"outer fold {fold}, inner fold {i}: standard, learning_rate 0.02"
            ]
            for i in (0, 1)
        ]
        for curve in inner:  # the best is two rows from the end, or the end is the thirtieth
            best = curve["score"].to_numpy().argmax()
            assert best == len(curve) - 3 or len(curve) == 30
        best_epochs = [curve["epoch"].iloc[curve["score"].to_numpy().argmax()] for curve in inner]
        refit = curves[curves["fit"] == f"outer fold {fold}, chosen: standard, learning_rate 0.02"]
        assert refit["epoch"].max() == max(round(np.median(best_epochs)), 1)
        lengths.append(len(refit))
    assert max(lengths) < 30
    notes = read_run(folder)["notes"]
    assert any("patience" in note and "inner rows" in note for note in notes)


def test_superb_weighs_all_layers_of_the_pooled_store(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = synthetic.classes(tmp_path)
    told = load_matrix(synthetic.recipe(tmp_path, MLP), tmp_path, "one").X
    noise = rng.normal(size=(2, *told.shape))
    layers = np.stack([noise[0], told, noise[1]])
    synthetic.write(tmp_path, frame, {"one": layers, "two": told},
                    labels={"emotion": synthetic.LABELS})  # fmt: skip
    text = MLP[: MLP.index("[head]")] + (
        '[head]\nkind = "superb"\nselect = "uar"\n[head.training]\n'
        "projection = 16\nsteps = 300\nlearning_rate = 0.01\nevaluate_every = 100\n"
    )
    recipe = synthetic.recipe(tmp_path, text)
    assert recipe.head_of().scalers == ["none"]
    folder = trained(recipe, tmp_path, tmp_path / "runs")
    record = read_run(folder)
    assert record["layers"] == [0, 1, 2]
    assert record["columns"] == told.shape[1]
    assert set(record["layer_weights"]) == {"0", "1", "all"}
    for weights in record["layer_weights"].values():
        assert sum(weights) == pytest.approx(1)
        assert np.argmax(weights) == 1
    head = read_head(folder, "superb")
    X = load_matrix(recipe, tmp_path, "one", "weighted").X
    assert head.decision_function(X).shape == (len(X), 3)


def test_a_sweep_has_no_weighting_of_layers_for_a_network(tmp_path: Path) -> None:
    frame = synthetic.classes(tmp_path)
    X = load_matrix(synthetic.recipe(tmp_path, MLP), tmp_path, "one").X
    synthetic.write(tmp_path, frame, {"one": np.stack([X, X]), "two": X},
                    labels={"emotion": synthetic.LABELS})  # fmt: skip
    swept = work_of(synthetic.recipe(tmp_path, MLP), tmp_path, sweep=True)
    assert [member.layer for member in swept if member.model == "one"] == [
        0, 1, "last", "mean", "best"
    ]  # fmt: skip


def test_a_network_of_values_gives_all_targets_at_once(tmp_path: Path) -> None:
    synthetic.regression(tmp_path, masked_test=False)
    text = f"""
targets = {list(synthetic.TARGETS)}
[split]
outer = "predefined"
inner = "devel"
[head]
kind = "mlp"
select = "spearman"
[head.training]
hidden = [16]
epochs = 12
loss = "ccc"
learning_rate = 0.01
"""
    folder = trained(synthetic.recipe(tmp_path, text), tmp_path, tmp_path / "runs")
    search = pd.read_csv(folder / "search.csv")
    assert search["score"].gt(0.3).all()
    predictions = pd.read_csv(folder / "predictions.csv")
    test = predictions[predictions["partition"] == "test"]
    for target in synthetic.TARGETS:
        assert np.corrcoef(test[f"{target}_true"], test[f"{target}_pred"])[0, 1] > 0.3


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("epochs = 6", "epoch = 6", r"training.epoch: no such key; did you mean 'epochs'"),
        ("learning_rate =", "hidden =", "grid.hidden: widths are not searched"),
        ("epochs = 6", 'loss = "mse"', "loss: got 'mse'"),
        ("epochs = 6", "epochs = 0", r"training.epochs: got 0"),
        ("learning_rate =", "momentun =", "mlp has no such parameter.*momentum"),
        ("learning_rate =", "batch_size =", "batch_size: in grid and in training"),
        ('select = "uar"', 'select = "uar"\nengine = "sklearn"', "engine: got 'sklearn'"),
        ('kind = "mlp"', 'kind = "svc"', "training: goes with mlp, superb, emobox"),
        (
            "[head.training]\nhidden = [8]",
            "[head.fixed]",
            "fixed: settings of a network stand in training",
        ),
        ('"balanced"', "{angri = 2.0}", "'angri' is no class.*angry"),
        ("class_weight", "steps = 5\nclass_weight", "epochs, steps: give one of both"),
        ('kind = "mlp"', 'kind = "mlp"\nlayer = "weighted"', "'mlp' learns no weighting of layers"),
        ('kind = "mlp"', 'kind = "superb"\nlayer = 1', "superb' weighs all stored layers itself"),
        ("epochs = 6", "shares = {calm = 'a', sad = 'b', angry = 'c'}", "no column of numbers"),
        ("epochs = 6", "shares = {calm = 'a', sad = 'b'}", "no column of angry"),
        ("epochs = 6", "shares = {calm = 'a'}", "training.shares: got"),
        ("learning_rate =", "shares =", "mlp has no such parameter"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(
    old: str, new: str, fault: str, stores: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=fault):
        trained(synthetic.recipe(tmp_path, MLP.replace(old, new)), stores, tmp_path)


SHARES = MLP.replace("[0.0001, 0.01]", "[0.01]").replace(
    "epochs = 6",
    'epochs = 6\nshares = { angry = "votes_angry", calm = "votes_calm", sad = "votes_sad" }',
)


@pytest.fixture(scope="module")
def voted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same corpus with the votes of ten listeners, nobody's in the first twenty rows."""
    folder = tmp_path_factory.mktemp("voted")
    frame = synthetic.classes(folder)
    X = load_matrix(synthetic.recipe(folder, MLP), folder, "one").X
    rng = np.random.default_rng(1)
    chances = np.full((len(frame), 3), 0.15) + 0.55 * np.stack(
        [frame["emotion"] == label for label in synthetic.LABELS], axis=1
    )
    votes = np.stack([rng.multinomial(10, chance) for chance in chances]).astype(float)
    votes[:20] = np.nan
    names = [f"votes_{label}" for label in synthetic.LABELS]
    frame[names] = votes
    synthetic.write(folder, frame, {"one": X, "two": X}, labels={"emotion": synthetic.LABELS},
                    targets=tuple(names))  # fmt: skip
    return folder


@pytest.mark.parametrize("loss", ["cross-entropy", "kl", "focal"])
def test_votes_are_fitted_to_as_the_estimator_fits_to_shares(
    loss: str, voted: Path, tmp_path: Path
) -> None:
    text = SHARES.replace("epochs = 6", f'loss = "{loss}"\nepochs = 6')
    text = text.replace('select = "uar"', 'select = "uar"\nscalers = ["none"]')
    recipe = synthetic.recipe(tmp_path, text)
    folder = trained(recipe, voted, tmp_path / "runs")
    matrix = load_matrix(recipe, voted, "one")
    votes = matrix.rows[list(recipe.head_of().shares.values())].to_numpy()
    assert np.isnan(votes).any(axis=1).sum() == 20
    rows = network_fits.rows_hash(np.arange(len(matrix.X)))
    params = dict(loss=loss, hidden=(8,), batch_size=16, epochs=6, learning_rate=0.01)
    alone = NeuralClassifier(class_weight="balanced", fold=rows, **params)
    expected = alone.fit(matrix.X, matrix.y, shares=votes).decision_function(matrix.X)
    head = read_head(folder, "mlp")
    np.testing.assert_array_equal(head.decision_function(matrix.X), expected)
    labels = alone.fit(matrix.X, matrix.y).decision_function(matrix.X)
    assert np.abs(labels - expected).max() > 0.1
    (note,) = [note for note in read_run(folder)["notes"] if note.startswith("shares: ")]
    assert note.startswith("shares: 140 rows have votes (votes_angry, ")
    assert note.endswith("; 20 rows have none and use their label")


def test_votes_are_shared_among_the_classes_that_are_fitted() -> None:
    y = np.array(["a", "b", "c", "a", "b", "b"], dtype=object)
    votes = np.array([[1, 1, 2], [0, 1, 0], [0, 0, 9], [0, 0, 3], [np.nan] * 3, [3, 1, 4.0]])
    spec = HeadSpec(kind="mlp", select="uar", training={"epochs": 2})
    problem = Problem(np.zeros((6, 2), np.float32), y, ("a", "b", "c"), spec, shares=votes)
    found = network_fits.NeuralFits(problem, 1)._targets(("a", "b"))
    # The third row is of a class that is not fitted; the fourth has votes for that one alone.
    np.testing.assert_allclose(
        found, [[0.5, 0.5], [0, 1], [0, 0], [1, 0], [0, 1], [0.75, 0.25]], rtol=1e-7
    )


def test_a_run_depends_on_its_votes_and_one_without_is_as_it_was(
    made: tuple[Recipe, Path], voted: Path, tmp_path: Path
) -> None:
    recipe, folder = made
    plain = synthetic.recipe(tmp_path, MLP)
    assert not {"shares", "speaker_width"} & set(read_run(folder)["inputs"]["head"]["training"])
    with_votes = train_inputs(synthetic.recipe(tmp_path, SHARES), Member("one"), voted)
    assert with_votes["head"]["training"]["shares"]["sad"] == "votes_sad"
    other = SHARES.replace('sad = "votes_sad"', 'sad = "votes_calm"')
    with pytest.raises(RecipeError, match="shares: 'votes_calm' stands for several classes"):
        synthetic.recipe(tmp_path, other)
    assert train_inputs(plain, Member("one"), voted)["head"] == read_run(folder)["inputs"]["head"]
    assert recipe.head_of().shares is None


def test_a_manifest_s_columns_of_votes_are_numbers_and_are_fitted_to(
    voted: Path, tmp_path: Path
) -> None:
    recipe = synthetic.recipe(tmp_path, SHARES)
    options = recipe.reader_options("made")
    names = ["votes_angry", "votes_calm", "votes_sad"]
    assert options == {"labels": ["emotion"], "targets": names}
    rows = read_table(voted / "made").rows
    columns = ["utterance", "speaker", "session", "emotion", *names]
    rows[columns].assign(path=rows["utterance"] + ".wav").to_csv(
        tmp_path / "manifest.csv", index=False
    )
    table = read_corpus("made", tmp_path, reader="manifest", options=options)
    assert table.targets == tuple(names)
    X = load_matrix(recipe, voted, "one").X
    synthetic.write(tmp_path / "stores", table.rows, {"one": X, "two": X}, labels=table.labels,
                    targets=table.targets)  # fmt: skip
    found, expected = (
        trained(recipe, stores, tmp_path / stores.name / "runs")
        for stores in (tmp_path / "stores", voted)
    )
    assert contents(found) == contents(expected)


def test_several_heads_are_looked_at_before_the_first_is_fitted(
    voted: Path, tmp_path: Path
) -> None:
    text = SHARES.replace("[head]", '[heads.svm]\nkind = "linear-svc"\nselect = "uar"\n[heads.net]')
    text = text.replace("[head.", "[heads.net.").replace('"votes_sad"', '"vote_sad"')
    recipe = synthetic.recipe(tmp_path, text)
    with pytest.raises(
        RecipeError, match=r"\[heads.net.training\] shares: sad = 'vote_sad': no col"
    ):
        check_heads(recipe, Divisions(recipe), voted)


def test_a_training_that_diverges_is_named_with_its_cell(stores: Path, tmp_path: Path) -> None:
    text = MLP.replace("[0.0001, 0.01]", "[1e30]").replace("epochs = 6", 'optimiser = "sgd"')
    text = text.replace('class_weight = "balanced"', "epochs = 6\nbatch_norm = false")
    with pytest.raises(RunError, match=r"learning_rate 1e\+30: .* the loss is .*lower learning_r"):
        trained(synthetic.recipe(tmp_path, text), stores, tmp_path)


@pytest.mark.parametrize("scaler", ["standard", "minmax", "robust", "none"])
def test_scaler_and_weights_of_columns_are_inside_the_network(scaler: str) -> None:
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(40, 3)) * [1, 10, 0.1] + [0, 5, -1]).astype(np.float32)
    y = np.where(X[:, 0] > 0, "a", "b").astype(object)
    weights = np.array([1.0, 2.0, 0.5])
    spec = HeadSpec(kind="mlp", select="uar", scalers=[scaler], training={"epochs": 2})
    problem = Problem(X, y, ("a", "b"), spec, weights)
    train, test = np.arange(30), np.arange(30, 40)
    fit = problem.fit(cells(spec)[0], (), train, (test,), "one", keep=True)
    (fitted,) = network_fits.NeuralFits(problem, 1)([fit])
    affine = fitted.pipeline.net_.inputs
    found = (X - affine.centre) / affine.scale
    by_hand = pipeline(spec, cells(spec)[0], weights)[:-1].fit_transform(X[train].astype(float))
    np.testing.assert_allclose(found[train], by_hand, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(fitted.pipeline.decision_function(X[test]), fitted.outputs[0])
