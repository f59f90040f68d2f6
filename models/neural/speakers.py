"""Who speaks, added to the embedding: z = x + W e(speaker) + b, then the MLP on z.

Conventions
-----------
- The last column of X is the speaker's code, 0 to n_speakers - 1; a code beyond is a speaker that
  nothing is known of. Of `mean-mfcc` the columns before it are the row's MFCC means. The network
  takes both off before anything else: they pass no scaler and no layer.
- `embedding`: e is the speaker's row of a table that is fitted with the rest. It begins uniform
  within `SPREAD` of 0, as that of Keras does, which the paper used.
- `mean-mfcc`: e is the mean of the MFCC means of the speaker's fitted rows, each column centred and
  scaled over the fitted speakers. The paper adds it to an embedding of 1,024 columns without saying
  how it gets there; here it goes through the same linear layer.
- A speaker without a fitted row gets the mean row: the mean over the rows of the fitted speakers (0
  of `mean-mfcc`). With `unseen = "own"`, `mean-mfcc` takes the mean over that speaker's own rows:
  unlabelled, but held out.
- Which speakers are known, and their means, are running statistics: they stand in states and files.

Sources
-------
L. Sha, C. Martinez, P. Tutsi and Y. Liu, Pre-Trained Speech Encoders for Emotion Recognition in
Audio Data, models 2 and 3, after M. Tran, Y. Yin and M. Soleymani (2023), Personalized Adaptation
with Pre-Trained Speech Encoders for Continuous Emotion Recognition. The width of e is not stated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.neural.networks import Mlp, Parameter, Pass
from models.neural.settings import NeuralSettings
from models.neural.stacks import product

SPREAD = 0.05
TABLE, KNOWN, MEANS = "speaker.table", "speaker.known", "speaker.means"
WEIGHT, BIAS = "speaker.weight", "speaker.bias"
MOST_CODE = 2**24
"""Whole numbers below this are exact in float32."""


@dataclass(frozen=True)
class PersonalMlp:
    """An MLP on embeddings that a vector of their speaker is added to.

    Attributes
    ----------
    base : Mlp
    kind : {"embedding", "mean-mfcc"}
    n_speakers : int
        Rows of the table.
    width : int
        Of a row.
    """

    base: Mlp
    kind: str
    n_speakers: int
    width: int

    @property
    def own_columns(self) -> int:
        """Columns of X that are no columns of the embedding."""
        return 1 + (self.width if self.kind == "mean-mfcc" else 0)

    def parameters(self, n_columns: int, n_outputs: int) -> dict[str, Parameter]:
        """The table of an `embedding`, the linear layer behind it, and those of the MLP."""
        n, spread = n_columns - self.own_columns, self.width**-0.5
        table = {TABLE: Parameter((self.n_speakers, self.width), SPREAD)}
        return {
            **(table if self.kind == "embedding" else {}),
            WEIGHT: Parameter((n, self.width), spread),
            BIAS: Parameter((n,), spread),
            **self.base.parameters(n, n_outputs),
        }

    def running(self) -> dict[str, Parameter]:
        """1 for each known speaker, of `mean-mfcc` their means, and what the MLP keeps."""
        means = {MEANS: Parameter((self.n_speakers, self.width))}
        return {
            **self.base.running(),
            KNOWN: Parameter((self.n_speakers,)),
            **(means if self.kind == "mean-mfcc" else {}),
        }

    def forward(self, p: Mapping[str, Tensor], x: Tensor, run: Pass) -> Tensor:
        """Outputs of rows."""
        codes = x[:, :, -1].long()
        codes = torch.where(codes < 0, self.n_speakers, codes).clamp_max(self.n_speakers)
        tables = self._tables(p, run)
        vectors = torch.stack([rows[at] for rows, at in zip(tables, codes, strict=True)])
        moved = x[:, :, : -self.own_columns] + product(vectors, p[WEIGHT], p[BIAS])
        return self.base.forward(p, moved, run)

    def _tables(self, p: Mapping[str, Tensor], run: Pass) -> Tensor:
        """A row a speaker and the mean row behind them; shape (n_models, n_speakers + 1, width)."""
        if self.kind == "mean-mfcc":
            rows = run.running[MEANS]
            return torch.cat([rows, torch.zeros_like(rows[:, :1])], dim=1)
        rows = p[TABLE]
        if run.weight is not None:  # all rows of a batch are of known speakers
            return torch.cat([rows, rows[:, :1].detach()], dim=1)
        known = run.running[KNOWN].unsqueeze(2)
        mean = (rows * known).sum(1, keepdim=True) / known.sum(1, keepdim=True)
        return torch.cat([torch.where(known > 0, rows, mean), mean], dim=1)


def with_speakers(base: Mlp, settings: NeuralSettings) -> PersonalMlp:
    """The network of settings that have a `speaker`."""
    return PersonalMlp(base, str(settings.speaker), settings.n_speakers, settings.speaker_width)


def speaker_statistics(
    settings: NeuralSettings, X: NDArray[np.float32], train: NDArray[np.int64]
) -> dict[str, NDArray[np.float32]]:
    """What the running statistics of speakers are throughout a training.

    Parameters
    ----------
    settings : NeuralSettings
    X : float32, shape (n, n_columns)
        All rows, of held-out speakers, too: with `unseen = "own"` their means are taken.
    train : int64, shape (n_train,)
        Positions of the rows to fit.

    Returns
    -------
    dict
        Of settings without a `speaker` nothing.
    """
    if settings.speaker is None:
        return {}
    codes, n = X[:, -1].astype(np.int64), settings.n_speakers
    counts = np.bincount(codes[train], minlength=n)
    known = counts > 0
    found = {KNOWN: known.astype(np.float32)}
    if settings.speaker == "embedding":
        return found
    columns = X[:, -1 - settings.speaker_width : -1].astype(np.float64)
    means = _means(columns[train], codes[train], counts)
    centre, scale = means[known].mean(axis=0), means[known].std(axis=0)
    scale[scale == 0] = 1
    if settings.unseen == "own":
        every = np.bincount(codes, minlength=n)
        has_row = every > 0
        means = np.where(known[:, None], means, _means(columns, codes, every))
    else:
        has_row = known
    rows = np.where(has_row[:, None], (means - centre) / scale, 0)
    return {**found, MEANS: rows.astype(np.float32)}


def _means(
    columns: NDArray[np.float64], codes: NDArray[np.int64], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The mean of the rows of each code; 0 where it has none."""
    sums = np.zeros((len(counts), columns.shape[1]))
    np.add.at(sums, codes, columns)
    return np.asarray(sums / np.maximum(counts, 1)[:, None])


def speaker_faults(settings: NeuralSettings, X: NDArray[np.float32]) -> list[str]:
    """What is wrong with the columns of speakers; empty of settings without a `speaker`."""
    if settings.speaker is None:
        return []
    own = 1 + (settings.speaker_width if settings.speaker == "mean-mfcc" else 0)
    if X.shape[1] <= own:
        return [f"speaker: {X.shape[1]} columns, the last {own} are of speakers: none is left"]
    codes = X[:, -1]
    if not ((codes >= 0) & (codes < settings.n_speakers) & (codes == np.floor(codes))).all():
        return [
            "speaker: the last column is the speaker's code, whole numbers from 0 to "
            f"{settings.n_speakers - 1} (n_speakers = {settings.n_speakers}); it has "
            f"{codes.min():g} to {codes.max():g}"
        ]
    return []
