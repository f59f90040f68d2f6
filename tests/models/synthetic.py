"""Stores and tables of made-up features, and recipes over them: no audio, no speech model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from features.recipe.load import load_recipe
from features.recipe.member import LAST, Member
from features.recipe.model import Recipe
from features.stores.key import frames_path, full_key
from features.stores.write import write_frames, write_store
from features.utterances import Table, columns_of, write_table
from models.layers import run_member
from models.train import Training

TARGETS = ("calm", "sad", "keen")
LABELS = ("angry", "calm", "sad")


def rows(n: int, corpus: str = "made", **columns: Sequence[object]) -> pd.DataFrame:
    """A table's rows u000, u001, ... with these columns set."""
    frame = pd.DataFrame({"corpus": corpus, "utterance": [f"u{i:03}" for i in range(n)]})
    for name in columns_of((), ()):
        if name not in frame:
            frame[name] = np.nan if name in ("start", "end", "seconds") else ""
    return frame.assign(**columns)


def write(
    stores: Path,
    frame: pd.DataFrame,
    models: Mapping[str, np.ndarray],
    *,
    labels: Mapping[str, tuple[str, ...]] | None = None,
    targets: tuple[str, ...] = (),
) -> None:
    """Write one corpus: its table, and a store a model (layers x n x columns, or n x columns)."""
    corpus = frame["corpus"].iloc[0]
    table = Table(frame, dict(labels or {}), targets, [], {"key": corpus})
    frame = frame[table.columns]
    write_table(stores / corpus, Table(frame, table.labels, targets, [], {"key": corpus}))
    hashes = frame["audio_hash"].replace("", "00" * 16)
    index = frame[["utterance"]].assign(audio_hash=hashes, size=1, mtime_ns=1)
    for model, X in models.items():
        stack = X if X.ndim == 3 else X[None]
        indices = list(range(len(stack)))
        key = full_key({"model": model, "statistics": ["mean"], "n_layers": len(stack) - 1})
        write_store(
            stores / corpus / f"{model}.h5",
            key,
            index,
            indices,
            lambda _, i, start, stop, stack=stack: stack[i, start:stop].astype(np.float32),
            default=["mean"],
            columns={"mean": stack.shape[2]},
        )


def regression(stores: Path, n: int = 300, d: int = 40, masked_test: bool = True) -> pd.DataFrame:
    """Three shares a row, predefined partitions without a shared speaker; two models."""
    rng = np.random.default_rng(7)
    X = rng.normal(size=(n, d)) * rng.uniform(0.1, 5, d) + rng.normal(size=d)
    Y = X @ rng.normal(size=(d, 3)) / 20 + 0.5 + 0.3 * rng.normal(size=(n, 3))
    Y = np.clip(Y, 0, 1)
    part = np.repeat(["train", "devel", "test"], [n // 2, n // 4, n - n // 2 - n // 4])
    if masked_test:
        Y[part == "test"] = np.nan
    speaker = [f"{p[:2]}{i % 12:02}" for i, p in enumerate(part)]
    frame = rows(n, partition=part, speaker=speaker, **dict(zip(TARGETS, Y.T, strict=True)))
    noisy = X + 2 * rng.normal(size=X.shape)
    write(stores, frame, {"one": X, "two": noisy}, targets=TARGETS)
    return frame


def classes(stores: Path, n: int = 160, d: int = 12, corpus: str = "made") -> pd.DataFrame:
    """Three uneven classes of eight speakers in four sessions; two models."""
    rng = np.random.default_rng(len(corpus))
    y = rng.choice(LABELS, n, p=[0.5, 0.3, 0.2])
    speaker = rng.integers(0, 8, n)
    centres = rng.normal(size=(3, d))
    X = centres[[LABELS.index(one) for one in y]] + 1.2 * rng.normal(size=(n, d))
    frame = rows(
        n,
        corpus,
        speaker=[f"{i:02}" for i in speaker],
        session=[str(i // 2) for i in speaker],
        emotion=y.astype(object),
    )
    two = X + rng.normal(size=X.shape)
    write(stores, frame, {"one": X, "two": two}, labels={"emotion": LABELS})
    return frame


def frames(
    stores: Path,
    frame: pd.DataFrame,
    model: str,
    layers: Sequence[float],
    n_segments: int | None = None,
) -> None:
    """Frames of a corpus, or at most so many segments of each utterance.

    They are noise, and what tells a row's label by the strength of each layer.
    """
    rng = np.random.default_rng(11)
    lengths = rng.integers(2, 30 if n_segments is None else n_segments + 1, len(frame))
    label = [LABELS.index(name) if name in LABELS else 0 for name in frame["emotion"]]
    told = rng.normal(size=(3, 6))[label]
    whole = []
    for strength in layers:
        parts = [rng.normal(size=(n, 6)) + strength * row for n, row in zip(lengths, told,
                 strict=True)]  # fmt: skip
        whole.append(np.concatenate(parts).astype(np.float16))
    corpus = frame["corpus"].iloc[0]
    index = frame[["utterance"]].assign(audio_hash="00" * 16, size=1, mtime_ns=1)
    indices = list(range(len(layers)))
    kind = "frames" if n_segments is None else "segments"
    parts_of = {} if n_segments is None else {"segments": n_segments}
    key = full_key({"model": model, "kind": kind, "dtype": "float16", "layers": indices,
                    "n_layers": len(layers) - 1, **parts_of})  # fmt: skip
    write_frames(
        frames_path(stores, corpus, model, kind), key, index, np.append(0, np.cumsum(lengths)),
        indices, lambda i, start, stop: whole[i][start:stop], width=6,
    )  # fmt: skip


def recipe(folder: Path, text: str, corpora: Sequence[str] = ("made",), **kwargs: object) -> Recipe:
    """A recipe over manifest corpora, from TOML text; of `one` and `two` where it has no models."""
    path = folder / "study.toml"
    tables = "\n".join(f'[corpora.{name}]\nreader = "manifest"' for name in corpora)
    head, _, rest = text.partition("\n[")
    models = "" if "[models." in text else 'models = ["one", "two"]\n'
    path.write_text(f"{models}{head}\n{tables}\n[{rest}", encoding="utf-8")
    return load_recipe(path, **kwargs)  # type: ignore[arg-type]


def awkward(name: str, X: np.ndarray) -> np.ndarray:
    """A copy of a matrix, made ill-conditioned in the way of that name."""
    X, d = X.copy(), X.shape[1]
    if name == "constant columns":
        X[:, : d // 2] = ([0.0, 7.0] * d)[: d // 2]
    elif name == "nearly constant column":
        X[:, 0] = 7 + 1e-5 * (np.arange(len(X)) == 4)
    elif name == "duplicate columns":
        X[:, : d // 2] = X[:, d - d // 2 :]
    elif name == "duplicate rows":
        X[len(X) // 2 :] = X[: len(X) - len(X) // 2]
    elif name == "1e6 and 1e-6":
        X *= np.where(np.arange(d) % 2, 1e6, 1e-6)
    elif name == "far away":
        X += 1e4
    elif name == "one value":
        X[:] = 3.0
    elif name == "zero":
        X[:] = 0.0
    else:
        raise KeyError(name)
    return X


def train(
    recipe: Recipe, model: str, layer: int | str = LAST, head: str = "", **settings: Any
) -> Path:
    """Make the run of a model at a layer, "best", too; settings are those of `Training`."""
    return run_member(Training(recipe, **settings), Member(model, layer, head))
