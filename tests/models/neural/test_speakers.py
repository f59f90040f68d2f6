"""Speakers in a network: the function, its table, what unseen speakers get, runs of recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from evaluate.runs.files import read_run
from evaluate.scores.score import score_all
from features.common.errors import RecipeError, RunError, StoreError
from features.common.folders import Folders
from features.matrix import load_matrix
from features.recipe.model import Recipe
from models.layers import work_of
from models.neural.engine import NeuralFit, NeuralResult, NeuralRows, train
from models.neural.estimator import NeuralClassifier, load_neural, save_neural
from models.neural.networks import Mlp, Pass
from models.neural.settings import NeuralSettings, settings_for
from models.neural.speakers import KNOWN, MEANS, PersonalMlp, speaker_statistics
from models.outputs import read_head
from models.predict import usable_run
from models.reproduce import reproduce
from models.speakers import new_speakers
from tests.models import synthetic, test_predict
from tests.models.neural.test_networks import N_OUTPUTS, Reference, gradients, stack, theirs

N, D, S, M = 120, 6, 5, 4
WIDTH = 3


class Plain(nn.Module):
    """z = x + W e + b before an MLP, by torch's own modules."""

    def __init__(self, kind: str, mlp: nn.Module) -> None:
        super().__init__()
        width = WIDTH if kind == "embedding" else M
        self.table = nn.Embedding(S, width)
        self.line = nn.Linear(width, D)
        self.mlp = mlp

    def forward(self, x: torch.Tensor, speaker: torch.Tensor) -> torch.Tensor:
        return self.mlp(x + self.line(self.table(speaker)))


def sample() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, MFCC columns and speakers of rows."""
    rng = np.random.default_rng(3)
    speaker = rng.integers(0, S, N)
    X = rng.normal(size=(N, D)).astype(np.float32)
    means = (rng.normal(size=(S, M))[speaker] * 4 + rng.normal(size=(N, M))).astype(np.float32)
    return X, means, speaker


def columns(kind: str) -> np.ndarray:
    X, means, speaker = sample()
    own = [means] if kind == "mean-mfcc" else []
    return np.column_stack([X, *own, speaker]).astype(np.float32)


def of(kind: str, **more: Any) -> NeuralSettings:
    given = {"hidden": (7, 5), "epochs": 3, "batch_size": 16, "dropout": 0.3, **more}
    width = {"embedding": WIDTH, "mean-mfcc": M}[kind]
    return settings_for("mlp", "cross-entropy", speaker=kind, n_speakers=S, speaker_width=width,
                        **given)  # fmt: skip


@pytest.mark.parametrize("kind", ["embedding", "mean-mfcc"])
def test_the_function_is_that_of_torchs_modules(kind: str) -> None:
    width = WIDTH if kind == "embedding" else M
    network = PersonalMlp(Mlp((7, 5)), kind, S, width)
    X, speaker = torch.from_numpy(columns(kind)[:32]).double(), sample()[2][:32]
    p, running = stack(network, X.shape[1], 2, torch.float64)
    rng = np.random.default_rng(0)
    table = torch.from_numpy(rng.normal(size=(2, S, width)))
    if kind == "mean-mfcc":
        running[MEANS] = table
    running[KNOWN][:] = 1
    x = X.expand(2, -1, -1).clone()
    weight, slopes = torch.ones(2, 32), torch.from_numpy(rng.normal(size=(2, 32, N_OUTPUTS)))
    run = Pass(dict(running), weight.double())
    outputs = network.forward(p, x, run)
    grads = gradients(outputs, p, slopes)
    after = Pass(run.running)
    applied = network.forward(p, x, after)
    for k in range(2):
        mlp = Reference(network.base, D, [torch.ones(())] * 2).double()
        plain = Plain(kind, mlp).double()
        own = dict(mlp.named_parameters())
        named = {"speaker.weight": plain.line.weight, "speaker.bias": plain.line.bias}
        named |= {"speaker.table": plain.table.weight} if kind == "embedding" else {}
        named |= {name: own[theirs(name)] for name in p if not name.startswith("speaker.")}
        with torch.no_grad():
            if kind == "mean-mfcc":
                plain.table.weight.copy_(table[k])
            for name, value in p.items():
                named[name].copy_(value[k])
        expected = plain(X[:, :D], torch.from_numpy(speaker))
        torch.testing.assert_close(outputs[k], expected, rtol=1e-10, atol=1e-12)
        (expected * slopes[k]).sum().backward()
        for name, grad in grads.items():
            torch.testing.assert_close(grad[k], named[name].grad, rtol=1e-8, atol=1e-10)
        plain.eval()
        torch.testing.assert_close(applied[k], plain(X[:, :D], torch.from_numpy(speaker)),
                                   rtol=1e-10, atol=1e-12)  # fmt: skip


def fits(kind: str) -> tuple[NeuralRows, list[NeuralFit]]:
    """Fits that lack speakers of their own."""
    X, speaker = columns(kind), sample()[2]
    targets = np.eye(3, dtype=np.float32)[(X[:, 0] > 0).astype(int) + (speaker == 2)]
    found = []
    for k in range(3):
        rows = np.flatnonzero(speaker != k)[: 70 + k]
        inner = np.flatnonzero(speaker == k)
        found.append(NeuralFit(of(kind, epochs=2 + k), rows, k, str(k), inner))
    return NeuralRows(X, targets), found


def bits(result: NeuralResult) -> list[bytes]:
    net = result.net
    return [array.tobytes() for array in [*net.parameters.values(), *net.running.values()]]


@pytest.mark.parametrize("kind", ["embedding", "mean-mfcc"])
def test_a_model_has_the_same_bits_alone_and_among_others(kind: str, tmp_path: Path) -> None:
    rows, todo = fits(kind)
    alone = [bits(train(rows, [fit])[0]) for fit in todo]
    assert [bits(result) for result in train(rows, todo, most=3)] == alone
    again = train(rows, todo, folder=tmp_path)
    assert [bits(result) for result in train(rows, todo, folder=tmp_path)] == alone
    assert [bits(result) for result in again] == alone


def test_an_unseen_speaker_gets_the_mean_row_of_the_fitted_ones() -> None:
    rows, todo = fits("embedding")
    net = train(rows, [todo[1]])[0].net
    table, known = net.parameters["speaker.table"], net.running["speaker.known"]
    assert known.tolist() == [1, 0, 1, 1, 1]
    mean = table[known > 0].mean(axis=0, dtype=np.float64)
    probe = np.repeat(rows.X[:1], 4, axis=0)
    probe[:, -1] = [1, -1, S + 3, 0]  # unseen, none, beyond the table, seen
    found = net.outputs(probe)
    table[1] = mean
    net.running["speaker.known"][1] = 1
    np.testing.assert_allclose(found[:3], np.repeat(net.outputs(probe[:1]), 3, axis=0), atol=1e-6)
    assert np.abs(found[3] - found[0]).max() > 1e-4


def test_speaker_means_are_of_fitted_rows_and_of_own_rows_where_asked() -> None:
    X, speaker = columns("mean-mfcc"), sample()[2]
    rows = np.flatnonzero((speaker != 1) & (np.arange(N) % 3 > 0))
    means = pd.DataFrame(X[rows, D:-1].astype(np.float64)).groupby(speaker[rows]).mean()
    centre, scale = means.mean(), means.std(ddof=0)
    found = speaker_statistics(of("mean-mfcc", unseen="mean"), X, rows)
    assert found[KNOWN].tolist() == [1, 0, 1, 1, 1]
    expected = ((means - centre) / scale).to_numpy()
    np.testing.assert_allclose(found[MEANS][[0, 2, 3, 4]], expected, atol=1e-5)
    assert not found[MEANS][1].any()
    own = speaker_statistics(of("mean-mfcc", unseen="own"), X, rows)
    np.testing.assert_array_equal(own[MEANS][[0, 2, 3, 4]], found[MEANS][[0, 2, 3, 4]])
    theirs = (X[speaker == 1, D:-1].astype(np.float64).mean(axis=0) - centre) / scale
    np.testing.assert_allclose(own[MEANS][1], theirs, atol=1e-5)


def test_an_estimator_is_saved_with_its_table(tmp_path: Path) -> None:
    X, speaker = columns("embedding"), sample()[2]
    y = np.where(X[:, 0] + (speaker == 2) > 0, "a", "b")
    head = NeuralClassifier(speaker="embedding", n_speakers=S, epochs=3, batch_size=16).fit(X, y)
    head.speakers_ = tuple("abcde")
    save_neural(tmp_path / "head.safetensors", head)
    again = load_neural(tmp_path / "head.safetensors")
    assert again.speakers_ == tuple("abcde")
    np.testing.assert_array_equal(again.decision_function(X), head.decision_function(X))
    probe = new_speakers(X[:, :-1])
    assert np.isfinite(again.decision_function(probe)).all()
    odd = X.copy()
    odd[3, -1] = S
    with pytest.raises(ValueError, match=r"from 0 to 4 \(n_speakers = 5\); it has 0 to 5"):
        NeuralClassifier(speaker="embedding", n_speakers=S).fit(odd, y)


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"speaker": "embeding"}, "did you mean 'embedding'"),
        ({"speaker": "embedding", "mixup_alpha": 0.2}, "mixup_alpha: a mixture of rows has no"),
        ({"speaker": "embedding", "unseen": "own"}, "'own' goes with mean-mfcc"),
        ({"speaker": "embedding", "n_speakers": 0}, "n_speakers: got 0"),
        ({"speaker": "embedding", "network": "superb"}, "speaker: goes with mlp"),
    ],
)
def test_settings_that_do_not_go_together_are_named(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        settings_for(given.pop("network", "mlp"), "cross-entropy", **given)


SEEN = """
target = "emotion"
[split]
outer = "stratified-holdout"
expect_overlap = ["speaker", "session"]
inner = "stratified-k-fold"
inner_folds = 2
[head]
select = "uar"
kind = "mlp"
[head.training]
hidden = [8]
batch_size = 16
epochs = 6
learning_rate = 0.01
[heads.base]
[heads.personal]
speaker = "embedding"
[heads.means]
speaker = "mean-mfcc"
"""
UNSEEN = SEEN.replace('"speaker", ', "").replace(
    '"stratified-holdout"', '"speaker-k-fold"\nouter_folds = 2'
)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    frame = synthetic.classes(folder)
    X = load_matrix(synthetic.recipe(folder, SEEN.split("[heads")[0]), folder, "one").X
    rng = np.random.default_rng(0)
    of_speaker = rng.normal(size=(8, M))[frame["speaker"].astype(int)]
    mfcc = of_speaker + 0.1 * rng.normal(size=(len(frame), M))
    moved = X + 3 * np.eye(X.shape[1])[frame["speaker"].astype(int)]  # what speakers differ by
    synthetic.write(folder, frame, {"one": moved, "two": X, "mfcc": mfcc},
                    labels={"emotion": synthetic.LABELS})  # fmt: skip
    return folder


def trained(recipe: Recipe, head: str, stores: Path, runs: Path, **more: Any) -> Path:
    given = {"folders": Folders(stores=stores, runs=runs), "jobs": 1, **more}
    return synthetic.train(recipe, "one", head=head, **given)


@pytest.mark.slow
def test_heads_know_speakers_who_are_on_both_sides(stores: Path, tmp_path: Path) -> None:
    recipe, told = synthetic.recipe(tmp_path, SEEN), []
    assert recipe.single_models == ["one", "two", "mfcc"]
    for head, own in (("base", 0), ("personal", 1), ("means", M + 1)):
        folder = trained(recipe, head, stores, tmp_path / "runs", tell=told.append)
        saved = read_head(folder, "mlp")
        assert saved.n_features_in_ == 12 + own
        assert not any("fitted row" in line for line in told)
        if own:
            assert saved.speakers_ == tuple(f"made/{i:02}" for i in range(8))
            assert saved.net_.running[KNOWN].all()
            lines, equal = reproduce(folder, stores=stores, jobs=1)
            assert equal, lines
    inputs = read_run(folder)["inputs"]
    assert set(inputs["corpora"]["made"]) == {"table", "store", "speakers"}
    assert "speaker" not in read_run(tmp_path / "runs/study/one@base")["inputs"]["head"]


@pytest.mark.parametrize(("head", "what"), [("personal", "mean row"), ("means", "mean row")])
def test_unseen_speakers_are_an_error_until_the_recipe_says_what_they_get(
    head: str, what: str, stores: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    with pytest.raises(RecipeError, match=rf"\[heads.{head}\] speaker = .*unseen = 'mean'"):
        trained(synthetic.recipe(tmp_path, UNSEEN), head, stores, runs)
    told: list[str] = []
    recipe = synthetic.recipe(tmp_path, UNSEEN.replace('"uar"', '"uar"\nunseen = "mean"', 1)
                              .replace("[heads.base]\n", ""))  # fmt: skip
    folder = trained(recipe, head, stores, runs, tell=told.append)
    said = "8 held-out speakers of 2 outer folds without a fitted row: each gets the mean row"
    assert any(said in line for line in told)
    assert any(said in note for note in read_run(folder)["notes"])


@pytest.mark.slow
def test_own_rows_are_marked_as_unlabelled_test_data(stores: Path, tmp_path: Path) -> None:
    text = UNSEEN.replace('"mean-mfcc"', '"mean-mfcc"\nunseen = "own"')
    text = text.replace('[heads.personal]\nspeaker = "embedding"\n', "")
    recipe, runs = synthetic.recipe(tmp_path, text), tmp_path / "runs"
    for head in ("base", "means"):
        folder = trained(recipe, head, stores, runs)
    assert any("uses unlabelled test data" in note for note in read_run(folder)["notes"])
    plain, marked = score_all(recipe, Folders(stores=stores, runs=runs))
    assert (plain.marks, marked.marks) == ([], ["uses unlabelled test data"])
    with pytest.raises(RunError, match="takes MFCC means of known speakers"):
        usable_run(recipe, "one@means", runs)


def test_new_audio_gets_the_mean_row_and_the_line_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic.classes(tmp_path)
    text = SEEN[: SEEN.index("[heads")].replace('"mlp"', '"mlp"\nspeaker = "embedding"')
    recipe = synthetic.recipe(tmp_path, text)
    folder = trained(recipe, "", tmp_path, tmp_path / "runs")
    test_predict.new_audio(tmp_path, recipe)
    capsys.readouterr()
    test_predict.run(tmp_path, recipe, "--member", "one")
    line = "one: 9 files, their speakers taken as unseen: the mean row of the fitted ones\n"
    assert capsys.readouterr().out == line
    head, X = read_head(folder, "mlp"), load_matrix(recipe, tmp_path, "one").X[:9]
    table = head.net_.parameters["speaker.table"]
    table[:] = table.mean(axis=0, dtype=np.float64)
    expected = head.decision_function(np.column_stack([X, np.zeros(9)]))
    scores = [f"score_{label}" for label in synthetic.LABELS]
    found = test_predict.said(tmp_path, "one")[scores].to_numpy(dtype=np.float64)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ('"embedding"', '"embedding"\nunseen = "own"', "'own' goes with speaker = 'mean-mfcc'"),
        ("[heads.base]", '[heads.base]\nunseen = "mean"', "unseen: goes with speaker = "),
        ("epochs = 6", "epochs = 6\nspeaker_width = 4", "speaker_width: goes with speaker = "),
        ("epochs = 6", "epochs = 6\nspeaker_width = 0", "speaker_width: got 0"),
        ('kind = "mlp"', 'kind = "superb"', "speaker: goes with 'mlp'; kind is 'superb'"),
    ],
)
def test_what_cannot_be_said_of_speakers_is_refused(
    old: str, new: str, fault: str, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=fault):
        synthetic.recipe(tmp_path, SEEN.replace(old, new, 1))


def test_rows_without_a_speaker_and_stores_without_rows_are_named(tmp_path: Path) -> None:
    frame = synthetic.classes(tmp_path)
    X = np.zeros((len(frame), 3))
    labels = {"emotion": synthetic.LABELS}
    recipe = synthetic.recipe(tmp_path, SEEN)
    with pytest.raises(StoreError, match=r"mfcc"):
        trained(recipe, "means", tmp_path, tmp_path / "runs")
    frame.loc[3, "speaker"] = ""
    synthetic.write(tmp_path, frame, {"one": X, "two": X}, labels=labels)
    with pytest.raises(RunError, match="speaker = 'embedding': the speaker of 1 of 160 rows"):
        trained(recipe, "personal", tmp_path, tmp_path / "runs")


@pytest.mark.slow
def test_the_width_of_the_table_can_be_searched(stores: Path, tmp_path: Path) -> None:
    text = SEEN.replace('"embedding"', '"embedding"\ngrid = { speaker_width = [2, 16] }')
    recipe = synthetic.recipe(tmp_path, text)
    folder = trained(recipe, "personal", stores, tmp_path / "runs")
    search = pd.read_csv(folder / "search.csv")
    assert set(search["speaker_width"]) == {2, 16}
    chosen = read_run(folder)["chosen"]["all"][0]["params"]["speaker_width"]
    assert read_head(folder, "mlp").net_.parameters["speaker.table"].shape == (8, chosen)
    assert len(work_of(recipe, stores)) == 6
