"""What a training of a network is set to, and what is wrong with it. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from features.common.errors import nearest
from features.recipe.known.personalisation import OWN_ROWS, SPEAKERS, UNSEEN
from features.recipe.known.training import (
    CLASS_LOSSES,
    NETWORK_SETTINGS,
    ON_FRAMES,
    OPTIMISERS,
    VALUE_LOSSES,
)

PRECISIONS = ("float32", "bfloat16")

# mlp: the base model on CREMA-D; its rate of dropout is not stated, 0.2 is ours. superb: s3prl's
# configuration: batches of 4 gathered to 32, the norm of the gradient at most 1, scored every 1,000
# steps. hgfm, cnn-lstm: AdamW from 2e-4 is the paper's. fcn, cnn-attention: widths, dropout and
# Adam's rate are s3prl's. Everything else of networks on frames is ours.
_MLP: dict[str, Any] = {
    "hidden": (256, 64),
    "optimiser": "adam",
    "learning_rate": 1.1e-3,
    "batch_size": 150,
    "epochs": 20,
    "dropout": 0.2,
    "clip_norm": 0.0,
}
_SUPERB: dict[str, Any] = {
    "projection": 256,
    "optimiser": "adam",
    "learning_rate": 1e-4,
    "batch_size": 32,
    "steps": 30_000,
    "evaluate_every": 1_000,
    "dropout": 0.0,
    "clip_norm": 1.0,
}
_FRAMES: dict[str, Any] = {
    "optimiser": "adamw",
    "learning_rate": 1e-3,
    "batch_size": 32,
    "epochs": 20,
    "dropout": 0.0,
    "clip_norm": 1.0,
}
DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "mlp": _MLP,
        "superb": _SUPERB,
        "emobox": {**_FRAMES, "hidden": (256,)},
        "attention": {**_FRAMES, "projection": 256, "hidden": (128,)},
        "fcn": {
            **_FRAMES, "projection": 256, "optimiser": "adam", "learning_rate": 1e-4,
            "dropout": 0.4,
        },
        "cnn-attention": {
            **_FRAMES, "projection": 256, "hidden": (80,), "optimiser": "adam",
            "learning_rate": 1e-4, "dropout": 0.4,
        },
        "hgfm": {**_FRAMES, "projection": 128, "hidden": (128,), "learning_rate": 2e-4},
        "cnn-lstm": {**_FRAMES, "projection": 128, "hidden": (128,), "learning_rate": 2e-4},
    }
)  # fmt: skip
"""What each network is trained by where nothing is said."""


@dataclass(frozen=True)
class NeuralSettings:
    """A network and its training.

    Attributes
    ----------
    network : str
        A key of `DEFAULTS`.
    loss : str
        Of `CLASS_LOSSES` or `VALUE_LOSSES`.
    hidden : tuple of int
        Widths of the hidden layers of an `mlp`; of networks on frames that have it, the one of
        what is behind the projection.
    batch_norm : bool
        Of an `mlp`.
    n_layers : int
        Of `superb`: how many layers lie side by side in the columns.
    projection : int
        The width of the first linear layer, of networks that have one.
    dropout : float
        Its rate, in [0, 1).
    focal_gamma : float
        Of the loss `focal`.
    optimiser : {"adam", "adamw", "sgd"}
    learning_rate, weight_decay, momentum : float
        `momentum` is that of `sgd`.
    batch_size : int
        From 2. A rest of the epoch's rows is a smaller batch; a rest of one row is left out.
    epochs, steps : int or None
        How long; one of both.
    evaluate_every : int or None
        Steps between two rows of the curve; None: at the end of each epoch.
    patience : int or None
        Rows of the curve without a better score on the inner rows before it stops; what had the
        best is kept. None: as long as is said, and the last is kept.
    clip_norm : float
        Longest gradient, over all parameters; 0 is any.
    mixup_alpha : float
        Of the beta distribution of mixup; 0 is without.
    speaker : {"embedding", "mean-mfcc"} or None
        Of an `mlp`: what of the speaker is added to the embedding (`models.neural.speakers`).
    speaker_width : int
        Of the vector of a speaker; of `mean-mfcc`, columns of its means.
    n_speakers : int
        Whose codes stand in the last column.
    unseen : {"mean", "own"} or None
        What a speaker without a fitted row gets: the mean row, or the mean of its own rows.
    """

    network: str
    loss: str
    hidden: tuple[int, ...] = (256, 64)
    batch_norm: bool = True
    n_layers: int = 1
    projection: int = 256
    dropout: float = 0.0
    focal_gamma: float = 2.0
    optimiser: str = "adam"
    learning_rate: float = 1e-3
    weight_decay: float = 0.0
    momentum: float = 0.9
    batch_size: int = 32
    epochs: int | None = None
    steps: int | None = None
    evaluate_every: int | None = None
    patience: int | None = None
    clip_norm: float = 0.0
    mixup_alpha: float = 0.0
    speaker: str | None = None
    speaker_width: int = 32
    n_speakers: int = 1
    unseen: str | None = None

    @property
    def on_frames(self) -> bool:
        """Whether its rows are frames of utterances."""
        return self.network in ON_FRAMES

    @property
    def shape(self) -> tuple[Any, ...]:
        """What models that are trained in one stack share; the rest each may have of its own."""
        network = (self.network, self.hidden, self.batch_norm, self.n_layers, self.projection)
        mixes = self.mixup_alpha > 0
        speaker = (self.speaker, self.speaker_width, self.n_speakers, self.unseen)
        return (*network, *speaker, self.loss, self.optimiser, self.batch_size, mixes)

    def record(self) -> dict[str, Any]:
        """As JSON-able values."""
        return {**asdict(self), "hidden": list(self.hidden)}

    def text(self) -> str:
        """As JSON, keys in order."""
        return json.dumps(self.record(), sort_keys=True)

    def faults(self) -> list[str]:
        """What is wrong, a line each; empty where nothing is.

        Examples
        --------
        >>> NeuralSettings("mlp", "focus", epochs=3).faults()
        ["loss: got 'focus', allowed: cross-entropy, focal, kl, mse, ccc; did you mean 'focal'?"]
        >>> NeuralSettings("mlp", "mse", dropout=1.0).faults()
        ['dropout: got 1.0, allowed: 0 or more, below 1', 'epochs, steps: give one of both']
        """
        faults = []
        for name, allowed in (
            ("network", tuple(DEFAULTS)),
            ("loss", CLASS_LOSSES + VALUE_LOSSES),
            ("optimiser", OPTIMISERS),
        ):
            value = getattr(self, name)
            if value not in allowed:
                near = nearest(str(value), allowed)
                faults.append(f"{name}: got {value!r}, allowed: {', '.join(allowed)}{near}")
        for name, least in (
            ("n_layers", 1),
            ("projection", 1),
            ("speaker_width", 1),
            ("n_speakers", 1),
            ("batch_size", 2),
            ("epochs", 1),
            ("steps", 1),
            ("evaluate_every", 1),
            ("patience", 1),
        ):
            value = getattr(self, name)
            if value is not None and not (_whole(value) and value >= least):
                faults.append(f"{name}: got {value!r}, allowed: whole numbers from {least}")
        if not all(_whole(width) and width >= 1 for width in self.hidden):
            faults.append(f"hidden: got {self.hidden}, allowed: whole numbers from 1")
        has_width = self.on_frames and "hidden" in NETWORK_SETTINGS[self.network]
        if has_width and len(self.hidden) != 1:
            faults.append(f"hidden: got {self.hidden}, of {self.network} one width")
        if self.on_frames and self.mixup_alpha:
            faults.append("mixup_alpha: frames of two utterances are not mixed; leave it out")
        for name in ("weight_decay", "focal_gamma", "clip_norm", "mixup_alpha"):
            if not 0 <= getattr(self, name) < float("inf"):
                faults.append(f"{name}: got {getattr(self, name)}, allowed: 0 or more")
        for name in ("dropout", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                faults.append(f"{name}: got {getattr(self, name)}, allowed: 0 or more, below 1")
        if not 0 < self.learning_rate < float("inf"):
            faults.append(f"learning_rate: got {self.learning_rate}, allowed: more than 0")
        if (self.epochs is None) == (self.steps is None):
            faults.append("epochs, steps: give one of both")
        return faults + self._speaker_faults()

    def _speaker_faults(self) -> list[str]:
        """What is wrong with what is known of speakers."""
        faults = []
        for name, allowed in (("speaker", SPEAKERS), ("unseen", UNSEEN)):
            value = getattr(self, name)
            if value is not None and value not in allowed:
                near = nearest(str(value), allowed)
                faults.append(f"{name}: got {value!r}, allowed: {', '.join(allowed)}{near}")
        if self.speaker is None:
            return faults
        if self.network != "mlp":
            faults.append(f"speaker: goes with mlp, the network is {self.network}")
        if self.mixup_alpha > 0:
            faults.append("mixup_alpha: a mixture of rows has no speaker; leave mixup or speaker")
        if self.unseen == OWN_ROWS and self.speaker == "embedding":
            faults.append("unseen: 'own' goes with mean-mfcc; the table has no row of others")
        return faults


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def settings_for(network: str, loss: str, **given: Any) -> NeuralSettings:
    """Settings of a network, its defaults where nothing (or None) is given.

    Parameters
    ----------
    network : str
    loss : str
    given
        Fields of `NeuralSettings`.

    Returns
    -------
    NeuralSettings

    Raises
    ------
    ValueError
        Naming every fault in one line.
    """
    values = {name: value for name, value in given.items() if value is not None}
    default = dict(DEFAULTS.get(network, {}))
    if {"epochs", "steps"} & set(values):
        default = {name: v for name, v in default.items() if name not in ("epochs", "steps")}
    settings = NeuralSettings(network=network, loss=loss, **{**default, **values})
    faults = settings.faults()
    if faults:
        raise ValueError("; ".join(faults))
    return settings
