"""Networks on frames in the engine: a plain loop of torch, the bits of each model, their scales."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from features.recipe.known.heads import HEADS
from features.recipe.known.training import NETWORK_SETTINGS, ON_FRAMES, SHAPE_SETTINGS
from models.neural import engine
from models.neural.engine import NeuralFit, NeuralResult, NeuralRows, Scoring, state_path, train
from models.neural.estimator import NeuralClassifier, NeuralRegressor, load_neural, save_neural
from models.neural.frame_heads import FRAME_HEADS
from models.neural.networks import initial, layout
from models.neural.on_frames import OnFrames
from models.neural.settings import DEFAULTS, settings_for
from models.neural.utterances import HeldFrames, moments, scale_of

N, N_COLUMNS, N_CLASSES = 42, 5, 3
NETWORKS = sorted(ON_FRAMES)


@pytest.fixture
def rows() -> NeuralRows:
    rng = np.random.default_rng(3)
    label = rng.integers(0, N_CLASSES, N)
    middles = rng.normal(size=(N_CLASSES, N_COLUMNS))
    frames = [middles[c] + rng.normal(size=(rng.integers(1, 40), N_COLUMNS)) + 4 for c in label]
    return NeuralRows(HeldFrames(frames), np.eye(N_CLASSES, dtype=np.float32)[label])


def accuracy(rows: NeuralRows) -> Scoring:
    def score(outputs: np.ndarray, positions: np.ndarray) -> float:
        return float((outputs.argmax(1) == rows.targets[positions].argmax(1)).mean())

    return Scoring("accuracy", score)


def fits_of(network: str, rows: NeuralRows, n_fits: int, **given: object) -> list[NeuralFit]:
    """Folds, seeds, rates and scales of their own; the first batch of the last has few rows."""
    settings = settings_for(network, "cross-entropy", **{"epochs": 2, "batch_size": 8, **given})
    assert isinstance(rows.X, HeldFrames)
    sums, squares = moments(rows.X)
    found = []
    for k in range(n_fits):
        drawn = np.random.default_rng(k).permutation(N)
        fit, inner = np.sort(drawn[: 25 + k]), np.sort(drawn[25 + k :])
        scale = scale_of(sums[fit].sum(0), squares[fit].sum(0), int(rows.X.lengths[fit].sum()))
        own = dataclasses.replace(settings, learning_rate=settings.learning_rate * (k + 1))
        found.append(NeuralFit(own, fit, k, f"f{k}", inner, inputs=scale if k else None))
    return found


def numbers(result: NeuralResult) -> list[bytes]:
    curve = [(row.step, row.loss, row.score) for row in result.curve]
    arrays = [array.tobytes() for array in result.net.parameters.values()]
    return [*arrays, repr((curve, result.step)).encode()]


@pytest.mark.parametrize("network", NETWORKS)
def test_a_training_is_that_of_a_plain_loop(network: str, rows: NeuralRows) -> None:
    given = {"optimiser": "sgd", "momentum": 0.0, "learning_rate": 0.05}
    fit = fits_of(network, rows, 2, dropout=0.0, clip_norm=0.0, **given)[1]
    (found,) = train(rows, [fit])
    settings, source = fit.settings, rows.X
    assert isinstance(source, HeldFrames)
    assert fit.inputs is not None
    module = FRAME_HEADS[network](N_COLUMNS, N_CLASSES)
    shape = OnFrames(network, settings.hidden[0], settings.projection)
    specs = shape.parameters(N_COLUMNS, N_CLASSES)
    flat = torch.tensor(initial(specs, fit.seed, fit.fold)).unsqueeze(0)
    start = {name: view[0].clone() for name, view in layout(specs).views(flat).items()}
    module.load_state_dict(start)
    optimiser = torch.optim.SGD(module.parameters(), lr=settings.learning_rate)
    for epoch in range(2):
        for batch in rows.batches(fit, epoch):
            frames = [
                torch.tensor(source.padded(np.array([row])).X[0] - fit.inputs.centre)
                / torch.tensor(fit.inputs.scale)
                for row in batch
            ]
            x = nn.utils.rnn.pad_sequence(frames, batch_first=True)
            lengths = torch.tensor([len(each) for each in frames])
            label = torch.tensor(rows.targets[batch].argmax(1))
            module.eval()  # no dropout
            loss = nn.functional.cross_entropy(module(x, lengths), label)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    for name, value in module.state_dict().items():
        reached = torch.tensor(found.net.parameters[name])
        moved = (value - start[name]).abs().max()
        assert (value - reached).abs().max() <= 1e-3 * moved + 1e-7, name
    assert max((v - start[n]).abs().max() for n, v in module.state_dict().items()) > 1e-3


def test_parameters_start_within_the_bounds_of_torch() -> None:
    torch.manual_seed(0)
    for network in NETWORKS:
        module = FRAME_HEADS[network](300, N_CLASSES)
        settings = settings_for(network, "cross-entropy")
        shape = OnFrames(network, settings.hidden[0], settings.projection)
        specs = shape.parameters(300, N_CLASSES)
        assert list(specs) == [name for name, _ in module.named_parameters()]
        for name, value in module.named_parameters():
            assert specs[name].shape == tuple(value.shape)
            most = value.abs().max().item()
            if value.numel() > 500:
                assert most == pytest.approx(specs[name].spread, rel=0.02)
            assert most <= specs[name].spread


@pytest.mark.parametrize("network", NETWORKS)
def test_a_model_alone_has_the_bits_that_it_has_among_others(
    network: str, rows: NeuralRows
) -> None:
    drops = {"dropout": 0.4} if "cnn" in network or network == "fcn" else {}
    fits = fits_of(network, rows, 3, **drops)
    together = train(rows, fits, accuracy(rows), most=3)
    alone = train(rows, fits[1:2], accuracy(rows))
    assert numbers(together[1]) == numbers(alone[0])
    assert numbers(together[0]) != numbers(together[1])


def test_every_network_is_declared_wherever_it_has_to_be() -> None:
    assert set(NETWORK_SETTINGS) == set(DEFAULTS)
    assert set(ON_FRAMES) == set(FRAME_HEADS)
    for network, own in NETWORK_SETTINGS.items():
        assert set(own) <= set(SHAPE_SETTINGS)
        assert HEADS[network].frames == (network in ON_FRAMES)


def test_dropout_is_drawn_anew_each_step_and_leaves_torchs_generator_alone(
    rows: NeuralRows,
) -> None:
    fits = fits_of("cnn-attention", rows, 1, dropout=0.4)
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with_drops = train(rows, fits)
    assert torch.equal(torch.rand(3), expected)
    without = train(rows, [dataclasses.replace(
        fits[0], settings=dataclasses.replace(fits[0].settings, dropout=0.0)
    )])  # fmt: skip
    assert numbers(with_drops[0]) != numbers(without[0])


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("network", ["cnn-attention", "hgfm"])
def test_a_resumed_training_has_the_bits_of_an_unbroken_one(
    network: str, rows: NeuralRows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits = fits_of(network, rows, 2, patience=2)
    unbroken = train(rows, fits, accuracy(rows))
    real, steps = engine._Stack.step, []

    def step(stack: engine._Stack) -> None:
        steps.append(1)
        if len(steps) == 3:
            raise Killed
        real(stack)

    monkeypatch.setattr(engine._Stack, "step", step)
    with pytest.raises(Killed):
        train(rows, fits, accuracy(rows), folder=tmp_path, every_s=0.0)
    assert os.listdir(tmp_path)
    resumed = train(rows, fits, accuracy(rows), folder=tmp_path, every_s=0.0)
    assert [numbers(each) for each in resumed] == [numbers(each) for each in unbroken]


def test_a_state_is_of_its_frames(rows: NeuralRows, tmp_path: Path) -> None:
    fits = fits_of("emobox", rows, 1)
    train(rows, fits, folder=tmp_path)
    assert isinstance(rows.X, HeldFrames)
    other = [rows.X.padded(np.array([row])).X[0] for row in range(N)]
    other[7] = other[7] + 1
    train(NeuralRows(HeldFrames(other), rows.targets), fits, folder=tmp_path)
    assert len(list(tmp_path.glob(state_path(tmp_path, "*").name))) == 2


def test_scales_are_those_of_all_frames_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    frames = [
        np.column_stack([rng.normal(100, 0.5, n), np.full(n, 0.1), rng.normal(size=n)])
        for n in (3, 50, 1, 200)
    ]
    source = HeldFrames(frames)
    sums, squares = moments(source, size=2)
    scale = scale_of(sums[:3].sum(0), squares[:3].sum(0), 54)
    every = np.concatenate(frames[:3]).astype(np.float32).astype(np.float64)
    np.testing.assert_allclose(scale.centre, every.mean(0), rtol=1e-6)
    np.testing.assert_allclose(scale.scale, [every[:, 0].std(), 1, every[:, 2].std()], rtol=1e-5)


def test_batches_are_of_about_one_length_and_go_over_all_rows(rows: NeuralRows) -> None:
    (fit,) = fits_of("emobox", rows, 1)
    first, second = (rows.batches(fit, epoch) for epoch in (0, 1))
    assert len(first) == fit.steps_an_epoch == 3  # 25 rows by 8: a rest of one is left out
    left_out = set(fit.train.tolist()) - set(np.concatenate(first).tolist())
    assert len(left_out) == 1
    assert [each.tolist() for each in first] != [each.tolist() for each in second]
    assert isinstance(rows.X, HeldFrames)
    spreads = [np.ptp(rows.X.lengths[batch]) for batch in first]
    assert max(spreads) < np.ptp(rows.X.lengths[fit.train])


def test_pooled_rows_and_frames_are_not_taken_for_each_other(rows: NeuralRows) -> None:
    (fit,) = fits_of("emobox", rows, 1)
    pooled = NeuralRows(np.zeros((N, N_COLUMNS), dtype=np.float32), rows.targets)
    with pytest.raises(ValueError, match="emobox takes frames of utterances"):
        train(pooled, [fit])
    mlp = dataclasses.replace(fit, settings=settings_for("mlp", "cross-entropy", epochs=1))
    with pytest.raises(ValueError, match="mlp takes pooled rows"):
        train(rows, [mlp])
    with pytest.raises(ValueError, match="hidden: got .4, 4., of emobox one width"):
        settings_for("emobox", "cross-entropy", hidden=(4, 4))
    with pytest.raises(ValueError, match="mixup_alpha: frames of two utterances"):
        settings_for("hgfm", "cross-entropy", mixup_alpha=0.2)


@pytest.fixture
def utterances() -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(5)
    y = np.array(["sad", "glad"] * 15)
    frames = [rng.normal(size=(rng.integers(3, 30), 4)) + (2 if c == "sad" else 0) for c in y]
    return frames, y


def test_an_estimator_learns_is_saved_and_read(
    utterances: tuple[list[np.ndarray], np.ndarray], tmp_path: Path
) -> None:
    X, y = utterances
    head = NeuralClassifier(
        "emobox", epochs=10, hidden=(16,), batch_size=8, learning_rate=1e-2
    ).fit(X, y)
    assert (head.predict(X) == y).mean() > 0.9
    save_neural(tmp_path / "head.safetensors", head)
    again = load_neural(tmp_path / "head.safetensors")
    assert isinstance(again, NeuralClassifier)
    assert np.array_equal(again.decision_function(X), head.decision_function(X))
    some = head.decision_function(X[3:5])
    np.testing.assert_allclose(some, head.decision_function(X)[3:5], rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="frames of 3 columns, fitted were 4"):
        head.predict([each[:, :3] for each in X])
    values = np.column_stack([y == "sad", y == "glad"]).astype(float)
    numbers_of = NeuralRegressor("attention", epochs=2).fit(X, values)
    assert numbers_of.predict(X).shape == values.shape
    assert NeuralRegressor("emobox", epochs=2).fit(X, values[:, 0]).predict(X).shape == (30,)


def test_an_estimator_on_frames_goes_through_a_grid_search(
    utterances: tuple[list[np.ndarray], np.ndarray],
) -> None:
    X, y = utterances
    search = GridSearchCV(
        NeuralClassifier("emobox", epochs=10, hidden=(8,)), {"learning_rate": [1e-7, 1e-2]}, cv=3
    )
    assert search.fit(X, y).best_params_ == {"learning_rate": 1e-2}
    assert clone(search.best_estimator_).get_params()["network"] == "emobox"


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([], "no utterances"),
        ([[[1.0]], [[1.0, 2.0]]], "row 1 has 2 columns, the first 1"),
        ([[[1.0]], [1.0]], r"row 1 has shape \(1,\)"),
        ([np.empty((0, 3))], r"row 0 has shape \(0, 3\)"),
        ([[[np.nan]]], "row 0 has values that are not finite"),
    ],
)
def test_frames_that_are_none_are_named(frames: list[object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        HeldFrames(frames)
