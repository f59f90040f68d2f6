"""What the describer, the encoder and the costs ask of a family of speech models.

A family is one of transformers' `model_type`s whose forward is known here: its frames, the
preparation of its input, its exact forward and its cost stand in one module each, and are looked up
in `extract.encoders.families.table`. Planning asks them: torch is imported inside functions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from extract.encoders.sizes import Sizes
from features.common.errors import ModelError

if TYPE_CHECKING:
    import torch

    from extract.encoders.exact.packing import Packing

Values = Mapping[str, Any]
"""Members of a JSON object."""


@dataclass(frozen=True)
class Preparation:
    """A class of transformers that prepares audio, and which of its settings count.

    Attributes
    ----------
    name : str
        Of the class.
    defaults : mapping
        Of the class, for settings that a file leaves out.
    matters : tuple of str
        What two files have to agree on; `dither` is of every class that may come to have one.
    computed : callable
        Settings -> those that the class computes of them.
    faults : callable
        Settings as written, settings as completed, config.json -> what cannot be honoured.
    """

    name: str
    defaults: Values
    matters: tuple[str, ...]
    computed: Callable[[Values], dict[str, Any]]
    faults: Callable[[Values, Values, Values], list[str]]


class ConfigSetting(NamedTuple):
    """A setting of config.json by its name, with transformers' default."""

    name: str
    default: int


class Geometry(NamedTuple):
    """How frames lie on the samples, all in samples at 16 kHz.

    Attributes
    ----------
    min_samples : int
        Fewest that give a frame.
    stride : int
        From one frame to the next.
    overlap : int
        What a piece needs beyond `stride` for each of its frames.
    padded_samples : int
        What a forward computes however short its audio is; 0: the audio alone.
    """

    min_samples: int
    stride: int
    overlap: int
    padded_samples: int = 0


class Forward(Protocol):
    """The exact forward of a loaded model, block by block, over packed frames."""

    layers: Any

    def enter(
        self,
        pieces: Sequence[np.ndarray],
        n_frames: Sequence[int],
        *,
        file_by_file: bool,
        max_runs: float,
    ) -> tuple[torch.Tensor, Packing]:
        """What enters the first block; pieces are sorted by length, longest first.

        Parameters
        ----------
        pieces : sequence of float32 arrays, shape (n_samples,)
            Sorted by length, longest first.
        n_frames : sequence of int
            Of each piece.
        file_by_file : bool
            Whether what comes before the blocks runs on each piece alone.
        max_runs : float
            Different lengths up to which frames are packed; more are padded.

        Returns
        -------
        states : Tensor, shape (n_frames of all rows, hidden)
        layout : Packing
            Where each piece's frames lie in them.
        """

    def position_biases(self, layout: Packing) -> list[torch.Tensor]:
        """One a run; none for most families."""

    def leave(self, states: torch.Tensor) -> torch.Tensor:
        """What the last block's states become."""


class Family(ABC):
    """A family of speech models; see the module.

    Parameters
    ----------
    name : str
        transformers' `model_type`.
    """

    preparation: Preparation
    width: ConfigSetting
    depth: ConfigSetting
    prefix: str = ""
    """Of the encoder's weights among those of the whole model."""

    def __init__(self, name: str) -> None:
        self.name = name

    def key_members(self, config: Values, settings: Values) -> dict[str, Any]:
        """What a store's key says of the family beside its name."""
        normalisation = {"input_normalisation": self.normalisation(settings)}
        return {**normalisation, **self.more_key(config)}

    @abstractmethod
    def geometry(self, where: str, config: Values, settings: Values) -> Geometry:
        """Frames of a checkpoint; ModelError where config.json says none."""

    @abstractmethod
    def normalisation(self, settings: Values) -> str:
        """What a store's key calls the preparation of the input."""

    @abstractmethod
    def sizes(self, config: Values, hidden_size: int, n_layers: int) -> Sizes:
        """Sizes for costs; what config.json leaves out is transformers' default."""

    @abstractmethod
    def forward(
        self, model: Any, extractor: Any, layers: Sequence[int], device: torch.device
    ) -> Forward:
        """Put exact parts in the place of a loaded model's, whose weights they take over."""

    def more_key(self, config: Values) -> dict[str, Any]:
        """Further members of a store's key."""
        return {}

    def n_frames(self, n_samples: int, geometry: Geometry) -> int:
        """Frames of so many samples."""
        return (n_samples - geometry.min_samples) // geometry.stride + 1

    def shortened(self, where: str, settings: Values, context_s: float) -> dict[str, Any]:
        """Settings that pad audio to `context_s` seconds; ModelError where a family pads none."""
        raise ModelError(
            f"{where}: context_s = {context_s:g} shortens what a model pads all audio to; "
            f"{self.name} models take audio as long as it is: leave it out"
        )

    def normalised(self, samples: np.ndarray, settings: Values) -> np.ndarray:
        """Scale one utterance, whole and before any padding, as its extractor does."""
        return samples

    def bare(self, model: Any) -> Any:
        """The encoder of a loaded model."""
        return model

    def stack(self, model: Any) -> Any:
        """The module of a bare encoder that holds the blocks, as `layers`."""
        return model.encoder

    def misfit(self, model: Any, extractor: Any) -> str:
        """How a loaded encoder and its extractor do not fit; "" where they do."""
        return ""
