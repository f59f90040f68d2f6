"""Files of fitted networks of every version are read, and predict what they predicted.

They were written by tests/data/make_heads.py, those of version 1 before networks on frames and
speakers were known: their settings name neither.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.neural.estimator import HEAD, NeuralClassifier, load_neural
from models.neural.files import read_tensors
from tests.data.make_heads import HEADS, MADE

FILES = sorted(HEADS.glob("*.safetensors"))


def test_a_file_of_each_head_and_version_is_there() -> None:
    assert {path.stem for path in FILES} == {f"{name}-v1" for name in MADE}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_of_an_earlier_version_predicts_what_it_did(path: Path) -> None:
    head = load_neural(path)
    about = json.loads(path.with_suffix(".json").read_text("utf-8"))
    X = np.array(about["X"], dtype=np.float32)
    if isinstance(head, NeuralClassifier):
        assert head.predict(X).tolist() == about["predictions"]
        outputs = head.decision_function(X)
    else:
        outputs = head.predict(X)
    # Another kind of CPU sums in another order.
    np.testing.assert_allclose(outputs, about["outputs"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_settings_of_version_1_are_those_that_it_knew(path: Path) -> None:
    _, record = read_tensors(path, HEAD, 1)
    assert set(record["settings"]) == {
        "network", "loss", "hidden", "batch_norm", "n_layers", "projection", "dropout",
        "focal_gamma", "optimiser", "learning_rate", "weight_decay", "momentum", "batch_size",
        "epochs", "steps", "evaluate_every", "patience", "clip_norm", "mixup_alpha",
    }  # fmt: skip
