"""Write the tiny files of the current format versions that later versions must read.

Run from the top of the project with `python -m tests.data.make_store`; never over an older file.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from features.stores.frames import FrameStore
from features.stores.key import FORMAT_VERSION, FRAMES_VERSION, full_key
from features.stores.read import Store
from features.stores.write import write_frames, write_store

HERE = Path(__file__).parent


INDEX = pd.DataFrame(
    {
        "utterance": ["a/ä", "b#0-500", "c"],
        "audio_hash": ["00" * 16, "0f" * 16, "ff" * 16],
        "size": [1, 2, 3],
        "mtime_ns": [4, 5, 6],
    }
)
SETTINGS = {
    "model": "toy", "family": "wav2vec2", "source": "sha256:" + "ab" * 32,
    "n_layers": 3, "precision": "float32",
    "sampling_rate": 16000, "max_seconds": 60.0, "input_normalisation": "none",
}  # fmt: skip


def main() -> None:
    """Write the files of versions that have none yet."""
    for path, write in (
        (HERE / f"store-v{FORMAT_VERSION}.h5", write_pooled),
        (HERE / f"frames-v{FRAMES_VERSION}.h5", partial(write_framewise, {"kind": "frames"})),
        (
            HERE / f"segments-v{FRAMES_VERSION}.h5",
            partial(write_framewise, {"kind": "segments", "segments": 3}),
        ),
    ):
        if path.exists():
            print(f"{path} exists; a released file is never rewritten")
            continue
        text = json.dumps(write(path), ensure_ascii=False, indent=1) + "\n"
        path.with_suffix(".json").write_text(text, encoding="utf-8")


def write_framewise(kind: dict[str, object], path: Path) -> dict[str, object]:
    """Write frames or segments, and give what is in the file."""
    data = np.random.default_rng(1).standard_normal((2, 6, 2)).astype(np.float16)
    offsets = np.array([0, 2, 3, 6])
    key = full_key({**SETTINGS, "layers": [1, 3], "dtype": "float16", **kind})
    write_frames(
        path, key, INDEX, offsets, [1, 3], lambda i, start, stop: data[i, start:stop], width=2
    )
    with FrameStore(path) as store:
        return {
            "utterance": INDEX["utterance"].tolist(),
            "offsets": offsets.tolist(),
            "identity": store.identity,
            "frames": data.astype(float).tolist(),
        }


def write_pooled(path: Path) -> dict[str, object]:
    """Write a store, and give what is in it."""
    data = np.random.default_rng(0).standard_normal((2, 3, 4)).astype(np.float32)
    key = full_key({**SETTINGS, "layers": [0, 3], "statistics": ["mean"]})
    write_store(
        path,
        key,
        INDEX,
        [0, 3],
        lambda _, i, start, stop: data[i, start:stop],
        default=["mean"],
        columns={"mean": 4},
    )
    with Store(path) as store:
        return {
            "utterance": INDEX["utterance"].tolist(),
            "identity": store.identity,
            "mean": {"0": data[0].tolist(), "3": data[1].tolist()},
        }


if __name__ == "__main__":
    main()
