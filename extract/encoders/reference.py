"""Any speech encoder of transformers by its own forward, file by file: the reference path.

Exact by construction: what is averaged is what transformers gives for the file alone. It is slower
than `extract.encoders.encoder`, which packs the files of a batch and knows the families' forwards.

Conventions
-----------
- Layer k < L is `hidden_states[k]`, layer L `last_hidden_state`.
- The mean goes over the frames that the model's own mask calls valid, in float64: the mask that the
  feature extractor gives, or the one that the forward gives back, or as many frames as the model
  says that so much input makes. A model that says none of these, of input that was padded, is
  refused.
- The mask goes into the forward where the feature extractor hands it out unasked, unless its input
  has one length always, as Whisper's: those forwards take none.
- An utterance longer than `max_samples` goes in pieces of equal length, weighted by their frames.
- Code of a checkpoint is never run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from extract.audio import SAMPLING_RATE_HZ
from extract.encoders.description import Description
from extract.encoders.loading import load_any
from extract.frames import Computed, FrameOutput, UtteranceFrames, segment_means
from features.common.errors import AudioError, ModelError

AUDIO_INPUTS = ("input_values", "input_features")
PROBE_SAMPLES = (SAMPLING_RATE_HZ, SAMPLING_RATE_HZ + 1_234)
"""Lengths of the noise that a model is tried on when it is loaded."""

_Pieces = dict[int, list[torch.Tensor]]
"""Layer -> its valid frames of each piece of an utterance, shape (n_frames, hidden_size)."""


class ReferenceEncoder:
    """A speech encoder on a device, behind the interface of `extract.encoders.encoder.Encoder`.

    Parameters
    ----------
    description : Description
        Of engine "reference".
    device : str or torch.device

    Attributes
    ----------
    model : Module
        transformers' own, in evaluation mode.
    layers : list of int
        The layers that `embed` gives.

    Raises
    ------
    ModelError
        The checkpoint cannot be loaded, or the model lacks what is needed; in one line.
    """

    asynchronous = False

    def __init__(self, description: Description, device: str | torch.device = "cpu") -> None:
        self.description = description
        self.key = description.key
        self.layers: list[int] = description.key["layers"]
        self.device = torch.device(device)
        self.dtype: torch.dtype = getattr(torch, description.key["precision"])
        self._where = f"{self.key['model']}: {description.folder}"
        model, self._extractor = load_any(description, self.dtype)
        self.model = model.to(self.device).eval()
        self._input: str = model.main_input_name
        if self._input not in AUDIO_INPUTS:
            raise ModelError(
                f"{self._where}: transformers' {type(model).__name__} takes {self._input}, no audio"
            )
        self._try()

    def embed(self, audio: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Embed utterances, each alone."""
        return self.begin(audio)()

    def begin(self, audio: Sequence[np.ndarray]) -> Callable[[], dict[str, np.ndarray]]:
        """Embed utterances, each alone; what is given hands the vectors out.

        Parameters
        ----------
        audio : sequence of float32 arrays, shape (n_samples,)
            Mono at 16 kHz.

        Returns
        -------
        callable
            Gives `mean`: float32, shape (n_layers_stored, n_utterances, hidden_size).

        Raises
        ------
        AudioError
            The forward makes no frame of an utterance.
        """
        vectors = [self._vectors(samples) for samples in audio]
        mean = np.stack(vectors, axis=1).astype(np.float32)
        return lambda: {"mean": mean}

    def begin_framewise(self, audio: Sequence[np.ndarray]) -> Callable[[], Computed]:
        """Embed as `begin` does, and give frames or segments beside the means: of one forward.

        They are of the valid frames.
        """
        outputs = self.description.framewise
        in_time: dict[str, list[UtteranceFrames]] = {output.kind: [] for output in outputs}
        vectors = []
        for samples in audio:
            pieces: _Pieces = {layer: [] for output in outputs for layer in output.layers}
            vectors.append(self._vectors(samples, pieces))
            frames = {layer: torch.cat(states) for layer, states in pieces.items()}
            for output in outputs:
                of = self._frames if output.n_segments is None else _segments
                in_time[output.kind].append(of(output, [frames[layer] for layer in output.layers]))
        mean = np.stack(vectors, axis=1).astype(np.float32)
        return lambda: Computed({"mean": mean}, in_time)

    def _frames(self, output: FrameOutput, layers: list[torch.Tensor]) -> UtteranceFrames:
        """Frames of one utterance as they are stored, of states (n_frames, width) of each layer."""
        counts = [len(states) for states in layers]
        if len(set(counts)) > 1:
            raise ModelError(
                f"{self._where}: [extract] frames: layers {', '.join(map(str, output.layers))} "
                f"have {', '.join(map(str, counts))} frames of one file; store one of them"
            )
        states, dtype = torch.stack(layers), getattr(torch, output.dtype)
        peaks = torch.maximum(states.amax(dim=(1, 2)), -states.amin(dim=(1, 2)))
        return UtteranceFrames(states.to(dtype).cpu().numpy(), peaks.float().cpu().numpy())

    def _vectors(self, samples: np.ndarray, frames: _Pieces | None = None) -> np.ndarray:
        """Means of one utterance, float64, shape (n_layers_stored, hidden_size).

        To each layer of `frames` are added those of each piece, shape (n_frames, hidden_size).
        """
        n_pieces = math.ceil(len(samples) / self.description.max_samples)
        total = np.zeros((len(self.layers), self.description.hidden_size))
        count = np.zeros((len(self.layers), 1))
        for piece in np.array_split(samples, n_pieces):
            try:
                sums, n_frames = self._sums(piece, frames)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, ValueError, IndexError) as error:
                reason = (str(error).splitlines() or [""])[0]
                raise AudioError(
                    f"transformers' {type(self.model).__name__} makes nothing of {len(piece)} "
                    f"samples: {reason}"
                ) from error
            total, count = total + sums, count + n_frames
        none = frames and not all(sum(map(len, states)) for states in frames.values())
        if none or not count.all():
            raise AudioError(f"no frame of {len(samples)} samples is valid by the model's own mask")
        return np.asarray(total / count)

    @torch.inference_mode()
    def _sums(self, samples: np.ndarray, frames: _Pieces | None) -> tuple[np.ndarray, np.ndarray]:
        """Sums over valid frames, (n_layers_stored, hidden_size), and counts, (..., 1)."""
        states, masks = self._states(samples)
        for layer, pieces in (frames or {}).items():
            pieces.append(states[layer][masks[layer].to(states[layer].device)])
        sums, counts = [], []
        for layer in self.layers:
            # In float64; not all devices have it.
            state = states[layer].cpu() if self.device.type == "mps" else states[layer]
            kept = state[masks[layer].to(state.device)].double()
            sums.append(kept.sum(dim=0).cpu().numpy())
            counts.append([len(kept)])
        return np.stack(sums), np.array(counts)

    def _states(self, samples: np.ndarray) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """States of every layer, (n_frames, hidden_size), and which of their frames are valid."""
        inputs, mask, handed = self._prepared(samples)
        given: dict[str, Any] = {self._input: inputs}
        if mask is not None and handed:
            given["attention_mask"] = mask
        # TF32, PyTorch's default for convolutions on a GPU, keeps three digits.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            output = self.model(**given, output_hidden_states=True, return_dict=True)
        hidden = getattr(output, "hidden_states", None) or ()
        states = [state[0] for state in (*hidden[:-1], output.last_hidden_state)]
        if mask is not None and bool(mask.all()):  # nothing was padded
            return states, [torch.ones(len(state), dtype=torch.bool) for state in states]
        own = getattr(output, "attention_mask", None)
        return states, [self._valid(len(state), mask, own) for state in states]

    def _prepared(self, samples: np.ndarray) -> tuple[torch.Tensor, torch.Tensor | None, bool]:
        """Input of one file, its mask if there is one, and whether the forward is handed it."""
        # Asked for, as Whisper's class counts samples instead of spectra where it is not.
        prepared = self._extractor(
            samples,
            sampling_rate=SAMPLING_RATE_HZ,
            return_tensors="pt",
            return_attention_mask=True,
        )
        unasked = bool(getattr(self._extractor, "return_attention_mask", False))
        handed = unasked and not self.description.padded_samples
        mask = prepared.get("attention_mask")
        inputs = prepared[self._input].to(self.device, self.dtype)
        return inputs, None if mask is None else mask.to(self.device), handed

    def _valid(
        self, n_frames: int, mask: torch.Tensor | None, own: torch.Tensor | None
    ) -> torch.Tensor:
        """Which frames of a state are valid, bool, shape (n_frames,)."""
        for candidate in (own, mask):
            if candidate is not None and candidate.shape[-1] == n_frames:
                return candidate[0].bool()
        lengths = getattr(self.model, "_get_feat_extract_output_lengths", None)
        if mask is not None and lengths is not None:
            whole = _counts(lengths(torch.tensor([mask.shape[-1]])))
            valid = _counts(lengths(mask.sum(-1).cpu()))
            for all_frames, n_valid in zip(whole, valid, strict=True):
                if all_frames == n_frames:
                    return torch.arange(n_frames) < n_valid
        raise ModelError(
            f"{self._where}: which of the {n_frames} frames of transformers' "
            f"{type(self.model).__name__} are the audio's is not known: "
            + (
                f"its {type(self._extractor).__name__} gives no attention_mask"
                if mask is None
                else "it has no _get_feat_extract_output_lengths that fits"
            )
        )

    def _try(self) -> None:
        """Refuse in one line, before any work, a model that lacks something."""
        noise = np.random.default_rng(0).normal(0, 0.1, max(PROBE_SAMPLES)).astype(np.float32)
        for n_samples in PROBE_SAMPLES:
            try:
                with torch.inference_mode():
                    states, masks = self._states(noise[:n_samples])
            except (ModelError, torch.OutOfMemoryError):
                raise
            # What a model's own code raises has no common type.
            except Exception as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise ModelError(
                    f"{self._where}: transformers' {type(self.model).__name__} does not run "
                    f"on what its {type(self._extractor).__name__} makes of a file: {reason}"
                ) from error
            expected = (self.description.n_layers + 1, self.description.hidden_size)
            found = (len(states), states[-1].shape[-1])
            if found != expected or len({state.shape[-1] for state in states}) > 1:
                raise ModelError(
                    f"{self._where}: transformers' {type(self.model).__name__} gives {found[0]} "
                    f"states of width {found[1]}; config.json says {expected[0]} of {expected[1]}"
                )


def _segments(output: FrameOutput, layers: list[torch.Tensor]) -> UtteranceFrames:
    """Segments of one utterance as they are stored, of states (n_frames, width) of each layer."""
    if output.n_segments is None:
        raise ValueError("frames are wanted, no segments")
    states = [layer.float().cpu().numpy() for layer in layers]
    return segment_means(states, output.n_segments, output.dtype)


def _counts(lengths: Any) -> list[int]:
    """Frames behind each stage that a model tells of."""
    stages = lengths if isinstance(lengths, tuple) else (lengths,)
    return [int(stage) for stage in stages]
