"""Write the tiny store of the current format version that later versions must read.

Run from the top of the project with `python -m tests.data.make_store`; never over an older file.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd

from features.stores.key import FORMAT_VERSION, full_key
from features.stores.read import Store
from features.stores.write import write_store

HERE = Path(__file__).parent


def main() -> None:
    """Write `store-v<version>.h5` and what is in it as JSON."""
    path = HERE / f"store-v{FORMAT_VERSION}.h5"
    if path.exists():
        raise SystemExit(f"{path} exists; a released file is never rewritten")
    data = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    index = pd.DataFrame(
        {
            "utterance": ["a/ä", "b#0-500", "c"],
            "audio_hash": ["00" * 16, "0f" * 16, "ff" * 16],
            "size": [1, 2, 3],
            "mtime_ns": [4, 5, 6],
        }
    )
    key = full_key(
        {
            "model": "toy", "family": "wav2vec2", "source": "sha256:" + "ab" * 32,
            "layers": [0, 3], "n_layers": 3, "statistics": ["mean"], "precision": "float32",
            "sampling_rate": 16000, "max_seconds": 60.0, "input_normalisation": "none",
        }
    )  # fmt: skip
    write_store(
        path,
        key,
        index,
        [0, 3],
        lambda _, i, start, stop: data[i, start:stop],
        default=["mean"],
        columns={"mean": 4},
    )
    with Store(path) as store:
        record = {
            "utterance": index["utterance"].tolist(),
            "identity": store.identity,
            "mean": {"0": data[0].tolist(), "3": data[1].tolist()},
        }
    text = json.dumps(record, ensure_ascii=False, indent=1) + "\n"
    path.with_suffix(".json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
