"""Where networks are trained: what is asked for, what is recorded, and what is compared."""

from __future__ import annotations

import re
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from evaluate.runs import record as files
from evaluate.runs.files import read_run
from evaluate.runs.predictions import read_predictions, write_predictions
from evaluate.runs.reproduction import SCORE_TOLERANCE
from features.common.command import run_chosen, run_command
from features.common.errors import RunError
from features.common.folders import Folders
from features.matrix import load_matrix
from features.recipe.head import HeadSpec
from models.__main__ import parser
from models.heads import cells
from models.network_fits import STACK_MOST, NeuralFits
from models.neural.engine import NeuralFit, NeuralRows, train
from models.neural.place import TrainingPlace, find_place
from models.neural.settings import settings_for
from models.problem import Problem
from models.reproduce import reproduce
from tests.models import synthetic
from tests.models.neural.test_recipes import MLP

no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
NETWORK = MLP.replace("[0.0001, 0.01]", "[0.01]")
SVC = MLP[: MLP.index("[head]")] + '[head]\nkind = "linear-svc"\nselect = "uar"\ngrid.C = [1.0]\n'


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    synthetic.classes(folder)
    return folder


def trained(folder: Path, stores: Path, text: str = NETWORK, **more: Any) -> Path:
    folders = Folders(stores=stores, runs=folder / "runs")
    return synthetic.train(synthetic.recipe(folder, text), "one", folders=folders, jobs=1, **more)


@no_cuda
@pytest.mark.parametrize(
    ("device", "precision", "fault"),
    [
        ("cuda", "float32", "DEVICE=cuda: torch sees no CUDA device here; DEVICE=cpu trains, too"),
        ("cuda:1", "bfloat16", "DEVICE=cuda:1: torch sees no CUDA device here"),
        ("mps", "float32", "DEVICE=mps: networks are trained on cpu, cuda or cuda:N, or auto"),
        ("auto", "bfloat16", "PRECISION=bfloat16: networks are trained so on CUDA alone, and DEV"),
        ("cpu", "bfloat16", "DEVICE=cpu is a CPU here; leave PRECISION out"),
        ("auto", "float16", "PRECISION=float16: networks are trained in float32 or bfloat16"),
    ],
)
def test_a_place_that_is_not_there_is_refused(device: str, precision: str, fault: str) -> None:
    with pytest.raises(RunError, match=fault):
        find_place(device, precision)


@no_cuda
def test_without_cuda_networks_are_trained_on_the_cpu() -> None:
    assert find_place("auto", "float32") == find_place("cpu", "float32") == TrainingPlace()


def test_a_place_is_recorded_by_its_kind() -> None:
    place = TrainingPlace("cuda:1", "bfloat16", "Card 9")
    assert place.engine == "neural engine, bfloat16 on CUDA (Card 9)"
    assert place.record() == {"kind": "cuda", "precision": "bfloat16", "name": "Card 9"}


@pytest.mark.parametrize("more", [["--precision", "bfloat16"], ["--layers", "--device", "cuda:99"]])
def test_nothing_is_trained_where_there_is_no_such_place(
    more: list[str], stores: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = synthetic.recipe(tmp_path, NETWORK)
    argv = ["train", recipe.path, "--stores", str(stores), "--runs", str(tmp_path / "runs")]
    device = [] if "--device" in more else ["--device", "cpu"]
    assert run_command(run_chosen, parser(), [*argv, *more, *device]) == 1
    assert re.search(r"(PRECISION=bfloat16|DEVICE=cuda:99): ", capsys.readouterr().err)
    assert not (tmp_path / "runs").exists()


def test_other_heads_are_fitted_as_ever_whatever_is_asked_for(stores: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path, stores, SVC, device="cuda:99", precision="float16")
    record = read_run(folder)
    assert "device" not in record
    assert "torch" not in record["versions"]


@pytest.mark.slow
def test_a_run_made_elsewhere_is_compared_by_its_scores(stores: Path, tmp_path: Path) -> None:
    folder = trained(tmp_path, stores, device="cpu")
    record = read_run(folder)
    assert record["device"] == {"kind": "cpu", "precision": "float32"}
    assert record["versions"]["torch"] == metadata.version("torch")
    lines, equal = reproduce(folder, stores=stores, jobs=1)
    assert equal
    assert not any("scores alone" in line for line in lines)
    record.pop("digest", None)
    place = {"kind": "cuda", "precision": "bfloat16", "name": "Card 9"}
    files.write_run(folder, {**record, "device": place})
    predictions = read_predictions(folder / "predictions.csv")
    scores = [name for name in predictions.columns if name.startswith("score_")]
    predictions[scores] += 1e-3  # other bits, the same classes
    write_predictions(folder / "predictions.csv", predictions)
    lines, equal = reproduce(folder, stores=stores, jobs=1, device="cpu")
    assert equal
    assert lines[0] == (
        "networks trained in bfloat16 on cuda then, in float32 on cpu now: scores alone are "
        f"compared, within {SCORE_TOLERANCE}"
    )
    assert re.match(r"test: UAR 0\.\d{4} then, 0\.\d{4} now; WA ", lines[1])
    wrong = np.flatnonzero(predictions["pred"] == predictions["true"])[:6]
    other = dict(zip(synthetic.LABELS, np.roll(synthetic.LABELS, 1), strict=True))
    predictions.loc[wrong, "pred"] = predictions.loc[wrong, "true"].map(other)
    write_predictions(folder / "predictions.csv", predictions)
    lines, equal = reproduce(folder, stores=stores, jobs=1, device="cpu")
    assert not equal
    assert "(differs)" in lines[1]


def test_on_cuda_one_process_trains_all_fits_of_a_shape_at_once(stores: Path) -> None:
    spec = HeadSpec(kind="mlp", select="uar", training={"epochs": 1})
    X = np.zeros((8, 2), np.float32)
    problem = Problem(X, np.array(["a", "b"] * 4, dtype=object), ("a", "b"), spec)
    fit = problem.fit(cells(spec)[0], (), np.arange(6), (np.arange(6, 8),), "here")
    n = 2 * STACK_MOST + 1
    for place, sizes in ((TrainingPlace("cuda", name="Card 9"), [n]), (None, [11, 11, 11])):
        fits = NeuralFits(problem, 3, place=place)
        todo = {i: fits._fit(fit, fits._head(fit)) for i in range(n)}
        assert [len(piece.fits) for piece in fits._pieces(todo, [fit] * n)] == sizes


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_cuda_a_training_is_that_of_the_cpu_within_rounding(stores: Path) -> None:
    matrix = load_matrix(synthetic.recipe(stores, NETWORK), stores, "one")
    targets = (matrix.y[:, None] == np.array(synthetic.LABELS, dtype=object)).astype(np.float32)
    rows = NeuralRows(matrix.X, targets)
    settings = settings_for("mlp", "cross-entropy", hidden=(8,), epochs=2, dropout=0.2)
    fits = [NeuralFit(settings, np.arange(100), seed) for seed in range(4)]
    on_cpu = train(rows, fits)
    among = train(rows, fits, device="cuda")
    alone = [train(rows, [fit], device="cuda")[0] for fit in fits]
    truth = targets.argmax(1)
    for expected, *found in zip(on_cpu, among, alone, strict=True):
        outputs = expected.net.outputs(rows.X)
        right = (outputs.argmax(1) == truth).mean()
        for each in found:
            values = each.net.outputs(rows.X)
            assert abs((values.argmax(1) == truth).mean() - right) <= SCORE_TOLERANCE
            np.testing.assert_allclose(values, outputs, atol=1e-4)
