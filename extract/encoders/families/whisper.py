"""Whisper, its encoder alone: two convolutions over 30 s of log-mel spectra, then blocks.

Whatever comes is made 30 s long; only the positions that the audio covers are averaged. With
`context_s` it is made as long as that instead, and the first of the learned positions are added:
the blocks then see less silence behind the audio, which moves what they give.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from extract.audio import SAMPLING_RATE_HZ
from extract.encoders.families.family import ConfigSetting, Family, Geometry, Preparation, Values
from extract.encoders.sizes import Sizes
from extract.encoders.values import as_json, is_count, is_number
from features.common.errors import ModelError

if TYPE_CHECKING:
    import torch

    from extract.encoders.exact.packing import Packing

REDUCTION = 2
"""Spectra a position: the stride of the second convolution."""


def _computed(settings: Values) -> dict[str, Any]:
    """Samples and spectra of a forward, where the settings are of use."""
    numbers = [settings[name] for name in ("chunk_length", "sampling_rate", "hop_length")]
    if not all(is_count(number) for number in numbers):
        return {}
    n_samples = numbers[0] * numbers[1]
    return {"n_samples": n_samples, "nb_max_frames": n_samples // numbers[2]}


def _faults(settings: Values, whole: Values, config: Values) -> list[str]:
    """Settings of a spectrum that cannot be honoured."""
    counts = ("sampling_rate", "feature_size", "hop_length", "chunk_length", "n_fft")
    wrong = [name for name in counts if not is_count(whole[name])]
    faults = [f"{name} is {as_json(whole[name])}; expected a positive integer" for name in wrong]
    if not is_number(whole["padding_value"]):
        faults.append(f"padding_value is {as_json(whole['padding_value'])}; expected a number")
    if whole["padding_side"] != "right":
        faults.append(
            f"padding_side is {as_json(whole['padding_side'])}; the positions of the audio are "
            'taken to stand first: "right"'
        )
    n_mels = config.get("num_mel_bins", 80)
    # Where the file does not say it, the encoder does when it is loaded: a plan needs no spectrum.
    said = "feature_size" in settings and "feature_size" not in wrong
    if said and whole["feature_size"] != n_mels:
        faults.append(f"feature_size is {whole['feature_size']}; num_mel_bins in config.json is "
                      f"{as_json(n_mels)}")  # fmt: skip
    n_positions = config.get("max_source_positions", 1500)
    fits = is_count(n_positions) and whole.get("nb_max_frames") == REDUCTION * n_positions
    if not wrong and not fits:
        faults.append(
            f"chunk_length {whole['chunk_length']} and hop_length {whole['hop_length']} make "
            f"{whole['nb_max_frames']} frames; max_source_positions {as_json(n_positions)} in "
            f"config.json takes {REDUCTION} each"
        )
    return faults


SPECTRUM = Preparation(
    "WhisperFeatureExtractor",
    {
        "feature_size": 80,
        "sampling_rate": SAMPLING_RATE_HZ,
        "hop_length": 160,
        "chunk_length": 30,
        "n_fft": 400,
        "padding_value": 0.0,
        "padding_side": "right",
        "dither": 0.0,
        "return_attention_mask": False,
    },
    (
        "sampling_rate",
        "feature_size",
        "hop_length",
        "chunk_length",
        "n_fft",
        "padding_value",
        "padding_side",
        "dither",
    ),
    _computed,
    _faults,
)


class Whisper(Family):
    """The family."""

    preparation = SPECTRUM
    width = ConfigSetting("d_model", 384)
    depth = ConfigSetting("encoder_layers", 4)
    prefix = "encoder."

    def geometry(self, where: str, config: Values, settings: Values) -> Geometry:
        """Positions of so many spectra; a first one needs a window."""
        stride = REDUCTION * settings["hop_length"]
        return Geometry(settings["n_fft"], stride, overlap=0, padded_samples=settings["n_samples"])

    def shortened(self, where: str, settings: Values, context_s: float) -> dict[str, Any]:
        """Settings of a context of fewer seconds.

        Parameters
        ----------
        where : str
            What errors call the checkpoint.
        settings : mapping
            Of the extractor.
        context_s : float

        Returns
        -------
        dict
            The same with other `n_samples` and `nb_max_frames`.

        Raises
        ------
        ModelError
            It is longer than the model's own or no whole number of positions.
        """
        rate, hop = settings["sampling_rate"], settings["hop_length"]
        n_samples, own = round(context_s * rate), settings["n_samples"]
        if n_samples > own or abs(n_samples - context_s * rate) > 1e-6 * rate:
            raise ModelError(
                f"{where}: context_s = {context_s:g}; expected at most the model's own "
                f"{own / rate:g} s, in steps of {REDUCTION * hop / rate:g} s"
            )
        if n_samples % (REDUCTION * hop):
            raise ModelError(
                f"{where}: context_s = {context_s:g} is no whole number of positions of "
                f"{REDUCTION * hop / rate:g} s each"
            )
        return {**settings, "n_samples": n_samples, "nb_max_frames": n_samples // hop}

    def n_frames(self, n_samples: int, geometry: Geometry) -> int:
        """Positions that the audio covers, the last perhaps in part."""
        return -(-n_samples // geometry.stride)

    def normalisation(self, settings: Values) -> str:
        """Always the same."""
        return "log-mel (whisper)"

    def sizes(self, config: Values, hidden_size: int, n_layers: int) -> Sizes:
        """Sizes by the names of transformers' configuration.

        Parameters
        ----------
        config : mapping
            Of config.json; what it leaves out is as in transformers' configuration.
        hidden_size, n_layers : int
            As they were checked.

        Returns
        -------
        Sizes
            `fixed_s` is 30, the default of all of them: the encoder computes as much for every
            piece.
        """
        return Sizes(
            hidden_size=hidden_size,
            n_layers=n_layers,
            n_heads=config.get("encoder_attention_heads", 6),
            intermediate_size=config.get("encoder_ffn_dim", 1536),
            conv_dim=(hidden_size, hidden_size),
            conv_kernel=(3, 3),
            conv_stride=(1, 2),
            n_inputs=config.get("num_mel_bins", 80),
            inputs_hz=100,
            fixed_s=30.0,
            projected=False,
        )

    def bare(self, model: Any) -> Any:
        """The model without its decoder."""
        return model.get_encoder()

    def stack(self, model: Any) -> Any:
        """The encoder itself."""
        return model

    def misfit(self, model: Any, extractor: Any) -> str:
        """Spectra of other bands than the encoder takes.

        Parameters
        ----------
        model : transformers' encoder
        extractor : WhisperFeatureExtractor

        Returns
        -------
        str
            What does not go together; empty where all does.
        """
        if extractor.feature_size == model.config.num_mel_bins:
            return ""
        return (
            f"the settings of its feature extractor make {extractor.feature_size} bands "
            f"(feature_size), config.json takes {model.config.num_mel_bins} (num_mel_bins): they "
            "belong to another checkpoint"
        )

    def forward(
        self, model: Any, extractor: Any, layers: Sequence[int], device: torch.device
    ) -> WhisperForward:
        """Put exact blocks in the place of a loaded encoder's."""
        return WhisperForward(model, extractor, layers, device)


class WhisperForward:
    """The exact forward: on a CPU with the extractor's own spectra, elsewhere with ours."""

    def __init__(
        self, stack: Any, extractor: Any, layers: Sequence[int], device: torch.device
    ) -> None:
        from extract.encoders.exact.block import Block, BlockParts

        self._stack, self._extractor, self._device = stack, extractor, device
        self._dtype = next(stack.parameters()).dtype
        self.layers = stack.layers = stack.layers[: max(1, layers[-1])]
        for i, layer in enumerate(self.layers):
            norms = (layer.self_attn_layer_norm, layer.final_layer_norm)
            parts = BlockParts(
                layer.self_attn, norms, layer.fc1, layer.fc2, layer.activation_fn, clamped=True
            )
            self.layers[i] = Block(parts, norm_first=True)

    def enter(
        self,
        pieces: Sequence[np.ndarray],
        n_frames: Sequence[int],
        *,
        file_by_file: bool,
        max_runs: float,
    ) -> tuple[torch.Tensor, Packing]:
        """What enters the first block: as many positions for every piece, 1,500 by default.

        Parameters
        ----------
        pieces : sequence of float32 arrays, shape (n_samples,)
            At most as long as the extractor makes them.
        n_frames : sequence of int
            Positions of each piece that count for the mean.
        file_by_file : bool
        max_runs : float
            Of no effect: all pieces have one length.

        Returns
        -------
        states : Tensor, shape (n_pieces x n_positions, hidden)
        layout : Packing
            One run.
        """
        from torch.nn.functional import gelu

        from extract.encoders.exact.packing import EqualRows, Packing, uploaded

        stack = self._stack
        states = gelu(stack.conv2(gelu(stack.conv1(self.mel(pieces))))).transpose(1, 2)
        states = states + stack.embed_positions.weight[: states.shape[1]]
        run = EqualRows(0, *states.shape[:2])
        return states.flatten(0, 1), Packing((run,), uploaded(np.array(n_frames), self._device))

    def mel(self, pieces: Sequence[np.ndarray]) -> torch.Tensor:
        """Log-mel input, shape (n_pieces, n_mels, n_steps): 3,000 steps by default."""
        if self._device.type == "cpu":
            features = self._extractor(
                list(pieces), sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt"
            )["input_features"]
            return features.to(self._dtype)
        return self.device_mel(pieces).to(self._dtype)

    def device_mel(self, pieces: Sequence[np.ndarray]) -> torch.Tensor:
        """The extractor's spectrum on the device, float32: its own hands it back to the CPU.

        Parameters
        ----------
        pieces : sequence of float32 arrays, shape (n_samples,)

        Returns
        -------
        float32 Tensor, shape (n_pieces, n_mels, n_steps)
        """
        import torch

        from extract.encoders.exact.packing import waveforms

        extractor, filters = self._extractor, self._mel_filters
        waveform = waveforms(pieces, extractor.n_samples, self._device, extractor.padding_value)
        spectrum = torch.stft(
            waveform, extractor.n_fft, extractor.hop_length,
            window=torch.hann_window(extractor.n_fft, device=self._device), return_complex=True,
        )  # fmt: skip
        mel = (filters @ spectrum[..., :-1].abs().square()).clamp(min=1e-10).log10()
        return (torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0

    @functools.cached_property
    def _mel_filters(self) -> torch.Tensor:
        import torch

        filters = torch.from_numpy(np.ascontiguousarray(self._extractor.mel_filters.T))
        return filters.to(self._device, torch.float32)

    def position_biases(self, layout: Packing) -> list[torch.Tensor]:
        """None."""
        return []

    def leave(self, states: torch.Tensor) -> torch.Tensor:
        """The norm behind the last block."""
        normed: torch.Tensor = self._stack.layer_norm(states)
        return normed


FAMILY = Whisper
"""What `extract.encoders.families.table` finds here."""
