"""Transformers speech models: one forward for all families and layers, exact under padding.

An utterance's embedding is the mean over time of what the model gives for the file alone; what
else lies in the batch does not change it beyond rounding. Four things see padding in the usual
forward, and are kept from it here:

- a group norm in the first convolution takes its statistics over the padded row: each row is
  normalised over its own frames, or (on a CPU, where it is also faster) the convolutions run file
  by file;
- attention: a mask is passed to every family, whatever `return_attention_mask` says;
- the positional convolutions: padded frames are zeroed before each of them, which matters where
  they are stacked (data2vec) or stand behind a batch norm (some hubert models);
- whisper takes 30 s whatever comes: only the positions that the audio covers are averaged.

Layers are pooled by hooks as they come, so that no more than one is held. Layer k < L is
transformers' `hidden_states[k]`, layer L its `last_hidden_state`.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from extract.audio import SAMPLING_RATE_HZ
from extract.pooling import masked_mean
from extract.registry import TINY_CONFIG, TINY_SEED, Description
from features.errors import ModelError

# SpecAugment's replacement for masked frames: used in training alone, left out of some checkpoints.
NOT_NEEDED = "masked_spec_embed"


class Encoder:
    """A speech model on a device.

    Parameters
    ----------
    description : Description
        What `extract.registry.describe` found.
    device : str or torch.device
    precision : {"float32", "bfloat16", "float16"}, optional
        Of weights and activations; must be the description's, which is the default.

    Attributes
    ----------
    key : dict
        All that changes an embedding; the store's key.
    layers : list of int
        The layers that `embed` gives.
    statistics : tuple of str
        The arrays that `embed` gives.
    hidden_size, min_samples, max_samples : int
        Width of an embedding, fewest samples of an utterance, longest piece of one forward.
    file_by_file : bool
        Whether the convolutions run on each file alone; by default on a CPU.

    Raises
    ------
    ModelError
        Weights of the encoder are missing from the checkpoint or have another shape.
    """

    statistics = ("mean",)

    def __init__(
        self,
        description: Description,
        device: str | torch.device = "cpu",
        precision: str | None = None,
    ) -> None:
        if precision not in (None, description.key["precision"]):
            raise ValueError(f"precision {precision}: described as {description.key['precision']}")
        self.description = description
        self.key = description.key
        self.layers: list[int] = description.key["layers"]
        self.hidden_size = description.hidden_size
        self.min_samples = description.min_samples
        self.max_samples = description.max_samples
        self.device = torch.device(device)
        self.dtype: torch.dtype = getattr(torch, description.key["precision"])
        self.file_by_file = self.device.type == "cpu"
        self._whisper = description.key["family"] == "whisper"

        model, self._extractor = _load(description, self.dtype)
        # The encoder's own switches; what a checkpoint's config.json asks for is not ours.
        model.config.output_hidden_states = model.config.output_attentions = False
        self._model = model.to(self.device).eval()
        self._stack = model if self._whisper else model.encoder
        n_layers = len(self._stack.layers)
        if (model.config.hidden_size, n_layers) != (self.hidden_size, description.n_layers):
            raise ModelError(
                f"{self.key['model']}: loaded {n_layers} layers of {model.config.hidden_size}, "
                f"described were {description.n_layers} of {self.hidden_size}"
            )
        self._n_frames = torch.empty(0, dtype=torch.int64)  # of the rows of the forward under way
        self._mask: torch.Tensor | None = None  # its valid frames; None where nothing is padded
        self._pooled: list[torch.Tensor] = []
        self._group_norm: _OwnFrames | None = None
        self._keep_padding_out()
        self._pool_as_layers_come()

    def embed(self, audio: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Embed utterances, each as if it were alone.

        All that fit in `max_samples` go through one forward: the caller chooses how many. Longer
        ones go in windows of equal numbers of frames, one forward each, whose frames tile those of
        the utterance; the mean is over all of them.

        Parameters
        ----------
        audio : sequence of float32 arrays, shape (n_samples,)
            Mono at 16 kHz, at least `min_samples` each.

        Returns
        -------
        dict
            `mean`: float32, shape (n_layers_stored, n_utterances, hidden_size).

        Raises
        ------
        ValueError
            An utterance is too short for a frame.
        torch.OutOfMemoryError
            The batch is too large for the device.
        """
        for position, samples in enumerate(audio):
            if samples.ndim != 1 or len(samples) < self.min_samples:
                raise ValueError(
                    f"utterance {position} of the batch: shape {samples.shape}, expected "
                    f"(n_samples,) with n_samples >= {self.min_samples}"
                )
        mean = np.empty((len(self.layers), len(audio), self.hidden_size), np.float32)
        audio = [self._normalised(samples) for samples in audio]
        whole = [i for i, samples in enumerate(audio) if len(samples) <= self.max_samples]
        if whole:
            mean[:, whole] = self._forward([audio[i] for i in whole])
        for i in sorted(set(range(len(audio))) - set(whole)):
            total = np.zeros((len(self.layers), self.hidden_size))
            n_frames = self._count(len(audio[i]))
            for window, n in self._windows(audio[i]):
                total += self._forward([window])[:, 0].astype(np.float64) * (n / n_frames)
            mean[:, i] = total
        return {"mean": mean}

    def _count(self, n_samples: int) -> int:
        """Frames of so many samples."""
        if self._whisper:
            return -(-n_samples // self.description.stride)
        return (n_samples - self.min_samples) // self.description.stride + 1

    def _windows(self, samples: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """Cut a long utterance so that the windows' frames, taken together, are its own."""
        stride = self.description.stride
        # Neighbouring frames share samples (400 a frame at a stride of 320); whisper's do not.
        shared = 0 if self._whisper else self.min_samples - stride
        most = (self.max_samples - shared) // stride
        n_frames = self._count(len(samples))
        bounds = np.linspace(0, n_frames, math.ceil(n_frames / most) + 1).round().astype(int)
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            yield samples[first * stride : last * stride + shared], int(last - first)

    def _normalised(self, samples: np.ndarray) -> np.ndarray:
        """Scale one utterance, whole and before any padding, as its extractor does."""
        if self._whisper:
            return samples
        values = self._extractor(samples, sampling_rate=SAMPLING_RATE_HZ, return_tensors="np")
        return values["input_values"][0]

    @torch.inference_mode()
    def _forward(self, pieces: Sequence[np.ndarray]) -> np.ndarray:
        """Give float32 means, shape (n_layers_stored, n_pieces, hidden_size)."""
        n_frames = [self._count(len(piece)) for piece in pieces]
        self._n_frames = torch.tensor(n_frames, device=self.device)
        self._pooled = []
        # TF32, PyTorch's default for convolutions on a GPU, keeps three digits.
        with _quiet_masks(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            if self._whisper:
                last = self._stack(self._mel(pieces))[0]
            else:
                states = self._frames(pieces, n_frames)
                ragged = min(n_frames) < max(n_frames)
                frames = torch.arange(max(n_frames), device=self.device)
                self._mask = frames < self._n_frames[:, None] if ragged else None
                last = self._stack(states, attention_mask=self._mask)[0]
            if self.description.n_layers in self.layers:
                self._pool(last)
        pooled = torch.stack(self._pooled).cpu().numpy()
        self._pooled = []
        return pooled

    def _mel(self, pieces: Sequence[np.ndarray]) -> torch.Tensor:
        """Log-mel input of whisper, shape (n_pieces, n_mels, 3000)."""
        # The extractor's spectrum can be computed on a GPU, though it hands it back to the CPU.
        device = "cuda" if self.device.type == "cuda" else "cpu"
        features = self._extractor(
            list(pieces), sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt", device=device
        )
        return features["input_features"].to(self.device, self.dtype)

    def _frames(self, pieces: Sequence[np.ndarray], n_frames: Sequence[int]) -> torch.Tensor:
        """Projected output of the convolutions, shape (n_pieces, max(n_frames), hidden_size)."""
        inputs = [torch.tensor(piece, dtype=self.dtype, device=self.device) for piece in pieces]
        convolve = self._model.feature_extractor
        if self.file_by_file:
            alone = [convolve(one[None])[0].T for one in inputs]
            features = pad_sequence(alone, batch_first=True)
        else:
            if self._group_norm is not None:
                self._group_norm.n_samples = [len(piece) for piece in pieces]
            features = convolve(pad_sequence(inputs, batch_first=True)).transpose(1, 2)
        projected = self._model.feature_projection(features[:, : max(n_frames)])
        return projected[0] if isinstance(projected, tuple) else projected

    def _pool(self, states: torch.Tensor) -> None:
        self._pooled.append(masked_mean(states, self._n_frames))

    def _pool_as_layers_come(self) -> None:
        """Hook the stored layers; drop the blocks above the last that is needed."""
        stack, n_layers = self._stack, self.description.n_layers
        if self.layers[-1] < n_layers:
            stack.layers = stack.layers[: max(1, self.layers[-1])]

        def entering(module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
            self._pool(args[0] if args else kwargs["hidden_states"])

        def leaving(module: torch.nn.Module, args: Any, output: Any) -> None:
            self._pool(output[0] if isinstance(output, tuple) else output)

        for layer in self.layers:
            if layer == 0:
                stack.layers[0].register_forward_pre_hook(entering, with_kwargs=True)
            elif layer < n_layers:
                stack.layers[layer - 1].register_forward_hook(leaving)

    def _keep_padding_out(self) -> None:
        """Guard what would see padded frames: the group norm and the positional convolutions."""
        if self._whisper:
            return

        def zero_padding(module: torch.nn.Module, args: tuple[torch.Tensor]) -> Any:
            if self._mask is None:
                return None
            return (args[0].masked_fill(~self._mask[:, None, :], 0),)

        for module in self._stack.pos_conv_embed.modules():
            if isinstance(module, torch.nn.Conv1d):
                module.register_forward_pre_hook(zero_padding)
        first = self._model.feature_extractor.conv_layers[0]
        if isinstance(getattr(first, "layer_norm", None), torch.nn.GroupNorm):
            first.layer_norm = self._group_norm = _OwnFrames(first.layer_norm, first.conv)


class _OwnFrames(torch.nn.Module):
    """A group norm whose statistics, in a padded batch, are over each row's own frames."""

    def __init__(self, norm: torch.nn.GroupNorm, conv: torch.nn.Conv1d) -> None:
        super().__init__()
        self.norm = norm
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        self.n_samples: list[int] = []  # of each row of a padded batch; empty for a file alone

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        n_samples, self.n_samples = self.n_samples, []
        if not n_samples:
            return self.norm(states)
        for row, n in zip(states, n_samples, strict=True):
            own = row[:, : (n - self.kernel) // self.stride + 1]
            own.copy_(self.norm(own[None])[0])
        return states


def _load(description: Description, dtype: torch.dtype) -> tuple[Any, Any]:
    """Bare encoder, on the CPU, and the extractor that prepares its input."""
    from transformers import AutoFeatureExtractor, AutoModel, Wav2Vec2FeatureExtractor

    folder = description.folder
    if folder is None:
        return _tiny().to(dtype), Wav2Vec2FeatureExtractor(do_normalize=True)
    name = description.key["model"]
    with _quiet_transformers():
        extractor = AutoFeatureExtractor.from_pretrained(folder, local_files_only=True)
        # Without `dtype` the weights come in the precision that the config names.
        model, loading = AutoModel.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=description.safetensors,
            trust_remote_code=False,
            local_files_only=True,
            ignore_mismatched_sizes=True,  # so that they are named below
            output_loading_info=True,
        )
    prefix = ""
    if description.key["family"] == "whisper":
        model, prefix = model.get_encoder(), "encoder."
    wrong = sorted(
        [key for key in loading["missing_keys"] if key.split(".")[-1] != NOT_NEEDED]
        + [entry[0] for entry in loading["mismatched_keys"]]
    )
    wrong = [key for key in wrong if key.startswith(prefix)]
    if wrong:
        raise ModelError(
            f"{name}: {folder} lacks, or has in another shape, {len(wrong)} of the encoder's "
            f"weights, which would stay random: {', '.join(wrong[:5])}"
            f"{', ...' if len(wrong) > 5 else ''}: the checkpoint is incomplete or its config.json "
            "belongs to another"
        )
    return model, extractor


def _tiny() -> torch.nn.Module:
    """Build the untrained model; its weights depend on the seed alone, on no library's version."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    settings = {name: value for name, value in TINY_CONFIG.items() if name != "model_type"}
    model = Wav2Vec2Model(Wav2Vec2Config(**settings))
    # A weight norm's two factors are named differently from version to version.
    torch.nn.utils.parametrize.remove_parametrizations(model.encoder.pos_conv_embed.conv, "weight")
    random = np.random.Generator(np.random.PCG64(TINY_SEED))
    for name, parameter in sorted(model.named_parameters()):
        if parameter.ndim > 1:
            # Uniform with variance 2 / fan-in: half of it goes in the nonlinearities.
            bound = math.sqrt(6 / math.prod(parameter.shape[1:]))
            values = random.uniform(-bound, bound, tuple(parameter.shape)).astype(np.float32)
            parameter.data = torch.from_numpy(values)
        else:
            parameter.data.fill_(float(name.endswith("norm.weight")))
    return model


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep its loading bar and report away: heads are dropped, and what lacks is an error here."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def _quiet_masks() -> Iterator[None]:
    """WavLM gives attention a boolean mask beside a float bias, which PyTorch warns of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Support for mismatched key_padding_mask")
        yield
