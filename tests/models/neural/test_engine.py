"""The engine: the bits of each model, a plain loop of torch, states, patience, failures."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from features.common.errors import RunError
from models.neural import engine
from models.neural.draws import beta, hashed, order
from models.neural.engine import NeuralFit, NeuralResult, NeuralRows, Scoring, forget, train
from models.neural.networks import Mlp, initial, layout
from models.neural.optimisers import clip, moments, update
from models.neural.scales import Affine
from models.neural.settings import NeuralSettings, settings_for
from models.neural.stacks import kept

N, N_COLUMNS, N_CLASSES = 90, 11, 3


def sample(
    n_columns: int = N_COLUMNS, n_outputs: int = N_CLASSES, values: bool = False
) -> NeuralRows:
    rng = np.random.default_rng(n_columns)
    label = rng.integers(0, n_outputs, N)
    X = rng.normal(size=(n_outputs, n_columns))[label] + rng.normal(size=(N, n_columns))
    if values:
        targets = X[:, :n_outputs] + 0.3 * rng.normal(size=(N, n_outputs))
    else:
        targets = np.eye(n_outputs)[label]
    return NeuralRows(X.astype(np.float32), targets.astype(np.float32))


def uar_like(rows: NeuralRows) -> Scoring:
    def score(outputs: np.ndarray, positions: np.ndarray) -> float:
        return float((outputs.argmax(1) == rows.targets[positions].argmax(1)).mean())

    return Scoring("accuracy", score)


def parts(k: int, n: int = N) -> tuple[np.ndarray, np.ndarray]:
    """Training and inner rows of fold k, each fold of a size of its own."""
    drawn = np.random.default_rng(k).permutation(n)
    return np.sort(drawn[: 50 + 3 * k]), np.sort(drawn[50 + 3 * k :])


def numbers(result: NeuralResult) -> list[bytes]:
    """All that a training gave, in bits."""
    arrays = [*result.net.parameters.values(), *result.net.running.values()]
    curve = [(row.step, row.loss, row.score) for row in result.curve]
    return [array.tobytes() for array in arrays] + [repr((curve, result.step)).encode()]


CASES: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (256, 64), "dropout": 0.3, "epochs": 3},
    "odd shapes, mixup": {"hidden": (7, 33), "dropout": 0.5, "mixup_alpha": 0.4, "epochs": 3},
    "focal, adamw": {"loss": "focal", "optimiser": "adamw", "weight_decay": 0.01, "hidden": (5,)},
    "kl, sgd, clipped": {"loss": "kl", "optimiser": "sgd", "learning_rate": 0.1, "clip_norm": 0.5},
    "ccc": {"loss": "ccc", "hidden": (19,), "batch_norm": False, "patience": 2, "epochs": 6},
    "one output": {"loss": "mse", "hidden": (16,), "n_outputs": 1, "epochs": 3},
    "superb": {"network": "superb", "n_layers": 4, "n_columns": 4 * 13, "projection": 24},
    "superb, wide": {"network": "superb", "n_layers": 3, "n_columns": 3 * 96, "clip_norm": 1.0},
}


def case(name: str, n_fits: int) -> tuple[NeuralRows, list[NeuralFit]]:
    """Fits with folds, seeds, rates and lengths of their own."""
    given = {
        "network": "mlp",
        "loss": "cross-entropy",
        "epochs": 2,
        "batch_size": 16,
        **CASES[name],
    }
    shape = {key: given.pop(key) for key in ("n_columns", "n_outputs") if key in given}
    rows = sample(**shape, values=given["loss"] in ("mse", "ccc"))
    base = settings_for(**given)
    found = []
    for k in range(n_fits):
        own = dataclasses.replace(
            base,
            learning_rate=base.learning_rate * (1 + k % 3),
            dropout=base.dropout * (k % 2),
            epochs=(base.epochs or 1) + k % 2,
        )
        train_rows, inner = parts(k)
        inputs = Affine.of(rows.X[train_rows]) if k % 2 else None
        found.append(NeuralFit(own, train_rows, k // 2, str(k % 3), inner, inputs=inputs))
    return rows, found


@pytest.mark.parametrize("name", ["odd shapes, mixup", "superb"])
def test_a_model_has_the_same_bits_alone_and_among_others(name: str) -> None:
    rows, fits = case(name, 4)
    scoring = uar_like(rows)
    alone = [numbers(train(rows, [fit], scoring)[0]) for fit in fits]
    for n in (2, 4):
        together = train(rows, fits[:n], scoring, most=n)
        assert [numbers(result) for result in together] == alone[:n]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_bits_are_the_same_in_any_stack_and_order(name: str) -> None:
    rows, fits = case(name, 12)
    scoring = uar_like(rows)
    alone = [numbers(train(rows, [fit], scoring)[0]) for fit in fits]
    for n in (2, 4, 12):
        together = train(rows, fits[:n], scoring, most=n)
        assert [numbers(result) for result in together] == alone[:n]
    backwards = train(rows, fits[::-1], scoring, most=5)
    assert [numbers(result) for result in backwards] == alone[::-1]


class Module(nn.Module):
    """256-64-C by torch's own modules."""

    def __init__(self, hidden: Sequence[int]) -> None:
        super().__init__()
        widths = [N_COLUMNS, *hidden]
        pairs = list(zip(widths, widths[1:], strict=False))
        self.lines = nn.ModuleList(nn.Linear(a, b) for a, b in pairs)
        self.norms = nn.ModuleList(nn.BatchNorm1d(b) for b in hidden)
        self.out = nn.Linear(widths[-1], N_CLASSES)

    def forward(self, x: torch.Tensor, masks: Sequence[torch.Tensor]) -> torch.Tensor:
        for line, norm, mask in zip(self.lines, self.norms, masks, strict=True):
            x = norm(line(x).relu() * mask)
        return self.out(x)


def plain_loop(rows: NeuralRows, fit: NeuralFit) -> tuple[Module, list[float]]:
    """The same training written without the engine: torch's modules, loss and Adam."""
    s = fit.settings
    module = Module(s.hidden)
    specs = Mlp(s.hidden).parameters(N_COLUMNS, N_CLASSES)
    flat = torch.from_numpy(initial(specs, fit.seed, fit.fold))[None]
    own = dict(module.named_parameters())
    names = {"weight": "lines.{}.weight", "bias": "lines.{}.bias",
             "norm.gain": "norms.{}.weight", "norm.bias": "norms.{}.bias"}  # fmt: skip
    with torch.no_grad():
        for name, value in layout(specs).views(flat).items():
            at, _, kind = name.partition(".")
            own[name if at == "out" else names[kind].format(at)].copy_(value[0])
    adam = torch.optim.Adam(module.parameters(), lr=s.learning_rate, weight_decay=s.weight_decay)
    found, step = [], 0
    for epoch in range(s.epochs or 0):
        positions = fit.train[order(len(fit.train), fit.seed, fit.fold, "order", epoch)]
        total = count = 0.0
        for start in range(0, len(positions), s.batch_size):
            chosen = positions[start : start + s.batch_size]
            if len(chosen) < 2:
                continue
            x, y = torch.from_numpy(rows.X[chosen]), torch.from_numpy(rows.targets[chosen])
            key = (fit.seed, fit.fold, "mixup", step)
            if s.mixup_alpha:
                partner = torch.from_numpy(order(len(chosen), *key))
                share = beta(s.mixup_alpha, *key, "share")
                x, y = share * x + (1 - share) * x[partner], share * y + (1 - share) * y[partner]
            masks = [kept(32, width, [hashed((fit.seed, fit.fold, "dropout", step, f"{i}"), 4)],
                          torch.tensor([s.dropout]))[0, : len(chosen)]
                     for i, width in enumerate(s.hidden)]  # fmt: skip
            loss = nn.functional.cross_entropy(module(x, masks), y)
            adam.zero_grad()
            loss.backward()
            if s.clip_norm:
                nn.utils.clip_grad_norm_(module.parameters(), s.clip_norm)
            adam.step()
            total, count, step = total + loss.item() * len(chosen), count + len(chosen), step + 1
        found.append(total / count)
    return module, found


@pytest.mark.parametrize(
    "more", [{}, {"dropout": 0.4}, {"mixup_alpha": 0.3, "weight_decay": 0.01, "clip_norm": 0.7}]
)
def test_a_training_is_the_plain_loop_of_torch(more: dict[str, float]) -> None:
    rows = sample()
    given = {"dropout": 0.0, "hidden": (16, 8), "epochs": 3, "batch_size": 24, **more}
    settings = settings_for("mlp", "cross-entropy", **given)
    fit = NeuralFit(settings, np.arange(73), seed=4, fold="x")  # 24 + 24 + 24, and one left out
    (result,) = train(rows, [fit])
    module, expected = plain_loop(rows, fit)
    assert [row.loss for row in result.curve] == pytest.approx(expected, rel=1e-4)
    assert [row.step for row in result.curve] == [3, 6, 9]
    assert [row.epoch for row in result.curve] == [1, 2, 3]
    module.eval()
    outputs = module(torch.from_numpy(rows.X), [torch.ones(())] * 2).detach().numpy()
    np.testing.assert_allclose(result.net.outputs(rows.X), outputs, atol=2e-3)


@pytest.mark.parametrize("optimiser", ["adam", "adamw", "sgd"])
def test_steps_are_those_of_torchs_optimisers(optimiser: str, rng: np.random.Generator) -> None:
    base = NeuralSettings("mlp", "mse", optimiser=optimiser, epochs=1)
    own = [
        dataclasses.replace(base, learning_rate=0.01, weight_decay=0.1),
        dataclasses.replace(base, learning_rate=0.03, momentum=0.5, clip_norm=0.8),
        dataclasses.replace(base, learning_rate=0.02, clip_norm=2.0),
    ]
    flat = torch.from_numpy(rng.normal(size=(3, 64)))
    theirs = [row.clone().requires_grad_() for row in flat]
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    steppers = [
        kinds[optimiser]([p], lr=s.learning_rate, weight_decay=s.weight_decay,
                         **({"momentum": s.momentum} if optimiser == "sgd" else {}))
        for p, s in zip(theirs, own, strict=True)
    ]  # fmt: skip
    spare = torch.zeros_like(flat)
    state = {name: torch.zeros_like(flat) for name in moments(optimiser)}
    for step in range(1, 31):
        grads = torch.from_numpy(rng.normal(size=(3, 64)))
        for p, s, grad, stepper in zip(theirs, own, grads, steppers, strict=True):
            p.grad = grad.clone()
            if s.clip_norm:
                nn.utils.clip_grad_norm_([p], s.clip_norm)
            stepper.step()
        clip(grads, spare, own)
        update(flat, grads, state, spare, own, [step] * 3)
    for row, p in zip(flat, theirs, strict=True):
        torch.testing.assert_close(row, p.detach(), rtol=1e-9, atol=1e-11)


class StopError(Exception):
    """What stands for a kill."""


def stopping(scoring: Scoring, after: int) -> Scoring:
    """The same score, but for an end at a call."""
    calls = iter(range(after))

    def score(outputs: np.ndarray, positions: np.ndarray) -> float:
        if next(calls, None) is None:
            raise StopError
        return scoring.function(outputs, positions)

    return Scoring(scoring.name, score)


@pytest.mark.parametrize(
    "name", ["odd shapes, mixup", *(pytest.param(n, marks=pytest.mark.slow) for n in CASES)]
)
def test_a_resumed_training_equals_an_unbroken_one(name: str, tmp_path: Path) -> None:
    rows, fits = case(name, 4)
    scoring = uar_like(rows)
    unbroken = [numbers(result) for result in train(rows, fits, scoring, most=4)]
    stops = 0
    for after in (1, 3, 2, 5, 99):
        try:
            done = train(rows, fits, stopping(scoring, after), most=3, folder=tmp_path, every_s=0)
        except StopError:
            stops += 1
    assert stops >= 2
    assert [numbers(result) for result in done] == unbroken
    again = train(rows, fits, stopping(scoring, 0), folder=tmp_path)  # nothing is scored anew
    assert [numbers(result) for result in again] == unbroken
    forget(tmp_path)
    assert not tmp_path.exists()


def test_a_state_of_other_rows_or_settings_is_not_gone_on_from(tmp_path: Path) -> None:
    rows, (fit, *_) = case("mlp", 1)
    scoring = uar_like(rows)
    train(rows, [fit], scoring, folder=tmp_path)
    moved = NeuralRows(rows.X + np.float32(0.1), rows.targets)
    slower = dataclasses.replace(fit.settings, learning_rate=1e-5)
    others = [
        (moved, fit),
        (rows, dataclasses.replace(fit, settings=slower)),
        (rows, dataclasses.replace(fit, seed=9)),
        (rows, dataclasses.replace(fit, train=fit.train[:-1])),
        (rows, dataclasses.replace(fit, class_weights=(1.0, 2.0, 3.0))),
        (rows, dataclasses.replace(fit, inputs=Affine.of(rows.X))),
    ]
    for data, other in others:
        (found,) = train(data, [other], scoring, folder=tmp_path)
        assert numbers(found) == numbers(train(data, [other], scoring)[0])
    assert len(list(tmp_path.iterdir())) == 1 + len(others)


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    rows, (fit, *_) = case("mlp", 1)
    train(rows, [fit], folder=tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunError, match=f"{path.name}: cannot be read"):
        train(rows, [fit], folder=tmp_path)


def scripted(scores: Sequence[float]) -> Scoring:
    coming = iter(scores)
    return Scoring("scripted", lambda outputs, positions: next(coming))


@pytest.mark.parametrize(
    ("scores", "best", "length"),
    [
        ([0.2, 0.5, 0.5, 0.4, 0.9], 2, 4),  # a tie is no better
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 6, 6),
        ([np.nan, 0.3, np.nan, 0.2, 0.9], 2, 4),
    ],
)
def test_patience_keeps_the_best(scores: list[float], best: int, length: int) -> None:
    rows, (fit, *_) = case("mlp", 1)
    patient = dataclasses.replace(fit.settings, patience=2, epochs=6)
    (result,) = train(rows, [dataclasses.replace(fit, settings=patient)], scripted(scores))
    assert len(result.curve) == length
    assert result.epoch == best
    short = dataclasses.replace(fit.settings, epochs=best)
    (until,) = train(rows, [dataclasses.replace(fit, settings=short)])
    assert numbers(result)[:-1] == numbers(until)[:-1]


def test_patience_without_any_score_says_so() -> None:
    rows, (fit, *_) = case("mlp", 1)
    patient = dataclasses.replace(fit.settings, patience=2, epochs=6)
    (result,) = train(rows, [dataclasses.replace(fit, settings=patient)], scripted([np.nan] * 6))
    assert result.failure == "fold 0, seed 0: no score on the inner rows is a number"


def test_one_that_diverges_says_so_and_leaves_the_others_alone() -> None:
    rows, fits = case("mlp", 3)
    wild = dataclasses.replace(fits[1].settings, learning_rate=1e30, batch_norm=True)
    results = train(rows, [fits[0], dataclasses.replace(fits[1], settings=wild), fits[2]], most=3)
    assert "fold 1, seed 0: the loss is" in results[1].failure
    assert "lower learning_rate (it is 1e+30)" in results[1].failure
    for fit, result in ((fits[0], results[0]), (fits[2], results[2])):
        assert not result.failure
        assert numbers(result) == numbers(train(rows, [fit])[0])


def test_all_faults_are_named_at_once() -> None:
    rows, (fit, *_) = case("superb", 1)
    bad = dataclasses.replace(fit.settings, n_layers=5, patience=3, dropout=1.5)
    wrong = dataclasses.replace(fit, settings=bad, train=np.arange(1), inner=None)
    expected = (
        r"bfloat16 is for CUDA.*dropout: got 1.5.*n_samples = 1: 2 training rows are needed.*"
        r"patience needs inner rows.*52 columns are no 5 layers"
    )
    with pytest.raises(ValueError, match=expected) as caught:
        train(rows, [wrong], precision="bfloat16")
    assert "\n" not in str(caught.value)


def test_evaluations_by_steps_and_a_length_in_steps() -> None:
    rows, (fit, *_) = case("mlp", 1)
    settings = settings_for("mlp", "cross-entropy", steps=11, evaluate_every=4, batch_size=16)
    (result,) = train(rows, [dataclasses.replace(fit, settings=settings)], uar_like(rows))
    assert [row.step for row in result.curve] == [4, 8, 11]
    assert result.step == 11
    assert result.curve[-1].epoch == 11 / 4  # 50 rows: 16 + 16 + 16 + 2


@pytest.mark.parametrize(
    ("n", "batches"), [(40, [(0, 20), (20, 40)]), (41, [(0, 20), (20, 40)]), (2, [(0, 2)]),
                       (42, [(0, 20), (20, 40), (40, 42)]), (19, [(0, 19)])],
)  # fmt: skip
def test_batches_of_an_epoch(n: int, batches: list[tuple[int, int]]) -> None:
    settings = NeuralSettings("mlp", "mse", batch_size=20, epochs=3)
    fit = NeuralFit(settings, np.arange(n))
    assert [fit.batch(step) for step in range(fit.steps_an_epoch)] == batches
    assert fit.n_steps == 3 * len(batches)


def test_stacks_have_one_shape_and_fewer_of_large_models() -> None:
    def sizes(*hidden: tuple[int, ...], most: int | None = None) -> list[int]:
        fits = [NeuralFit(settings_for("mlp", "mse", hidden=hidden[seed % len(hidden)]),
                          np.arange(9), seed) for seed in range(20)]  # fmt: skip
        courses = [engine._Course(fit, "") for fit in fits]
        groups = list(engine.stacks(courses, 1024, 6, "cpu", most))
        assert all(len({course.fit.settings.shape for course in group}) == 1 for group in groups)
        return [len(group) for group in groups]

    assert sizes((8,)) == [16, 4]
    assert sizes((256, 64)) == [7, 7, 6]
    assert sizes((1024, 256, 64, 64)) == [4] * 5
    assert sizes((8,), (9,)) == [10, 10]
    assert sizes((256, 64), most=20) == [20]
