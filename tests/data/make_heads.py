"""Write tiny fitted networks of the current format version, and what they predict.

Run from the top of the project with `python -m tests.data.make_heads`; never over an older file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from models.neural.estimator import (
    HEAD_VERSION,
    NeuralClassifier,
    NeuralRegressor,
    save_neural,
)

HEADS = Path(__file__).parent / "heads"
MADE: Mapping[str, NeuralClassifier | NeuralRegressor] = MappingProxyType(
    {
        "mlp": NeuralClassifier(hidden=(4, 3), epochs=2, batch_size=8),
        "superb": NeuralClassifier(
            "superb", n_layers=3, projection=2, steps=4, evaluate_every=2, learning_rate=0.01
        ),
        "values": NeuralRegressor(hidden=(4,), batch_norm=False, epochs=2, batch_size=8),
    }
)
"""Name of a file -> the estimator that is in it."""


def main() -> None:
    """Write the files of this version that are not there yet."""
    HEADS.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(16, 6)).astype(np.float32)
    names = np.array(["anger", "ärger", "sad"], dtype=object)[np.arange(16) % 3]
    values = X[:, :2] @ rng.normal(size=(2, 2)) + [10, -1]
    for name, head in MADE.items():
        path = HEADS / f"{name}-v{HEAD_VERSION}.safetensors"
        if path.exists():
            print(f"{path} exists; a released file is never rewritten")
            continue
        classifier = isinstance(head, NeuralClassifier)
        fitted = head.fit(X, names if classifier else values)
        save_neural(path, fitted)
        predict = fitted.decision_function if classifier else fitted.predict
        about = {
            "X": X[:4].tolist(),
            "outputs": predict(X[:4]).tolist(),
            "predictions": fitted.predict(X[:4]).tolist(),
        }
        text = json.dumps(about, ensure_ascii=False, indent=1) + "\n"
        path.with_suffix(".json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
