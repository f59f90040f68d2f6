"""Transformers speech models: one forward for all families and layers, exact under padding.

An utterance's embedding is the mean over time of what the model gives for the file alone; what
else lies in the batch does not change it beyond rounding. Weights, extractor and the order of the
operations are transformers'; the forward is `extract.encoders.forward`'s, which sees no padding:

- convolutions: on a CPU file by file; on a GPU in padded rows, where a row's own frames see its own
  samples alone, and the statistics of a group norm are taken over them;
- the transformer: frames lie packed, without padding. Attention goes run by run, a run being rows
  of equal length: a plan that sorts by length gives few, and none needs a mask, so that PyTorch
  may take its flash kernel. A GPU's batch of more than `MAX_RUNS` lengths is padded instead and
  has a mask (PyTorch then takes its memory-efficient kernel); wavlm has a position bias besides;
- the positional convolutions: padded frames, where there are any, are zeroed before each of them;
- whisper takes 30 s whatever comes: only the positions that the audio covers are averaged.

Layers are pooled as they come, so that no more than one is held. Layer k < L is transformers'
`hidden_states[k]`, layer L its `last_hidden_state`.

On CUDA `begin` only queues: audio goes over from pinned memory and vectors come back to it, both
without waiting (PyTorch's allocator gives pinned memory out again when its copy is done), and the
one thing waited for is the event behind a batch's vectors.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from extract.audio import SAMPLING_RATE_HZ
from extract.encoders.costs import CHUNK_S
from extract.encoders.description import Description
from extract.encoders.forward import (
    Block,
    FrontEnd,
    Layout,
    Run,
    equal_runs,
    plain_convolution,
    positional,
)
from extract.encoders.geometry import TINY_CONFIG, TINY_SEED
from extract.encoders.weights import sha256
from features.common.errors import ModelError

MAX_RUNS = 8
"""Lengths of a GPU's batch up to which attention goes run by run, without a mask."""
CPU_CHUNK = 200
"""Frames (4 s) that a CPU convolves at once."""
# SpecAugment's replacement for masked frames: used in training alone, left out of some checkpoints.
NOT_NEEDED = "masked_spec_embed"


class Encoder:
    """A speech model on a device.

    Parameters
    ----------
    description : Description
        What `extract.encoders.description.describe` found.
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
    asynchronous : bool
        Whether `begin` returns before a batch is computed: on CUDA.
    max_runs : float
        Lengths of a batch up to which it goes without padding; by default any number on a CPU.

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
        self.max_runs = math.inf if self.device.type == "cpu" else MAX_RUNS
        self.asynchronous = self.device.type == "cuda"
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
        self._mask: torch.Tensor | None = None  # valid frames of a padded forward under way
        self._prepare()

    def embed(self, audio: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Embed utterances, each as if it were alone: `begin`, and wait for it."""
        return self.begin(audio)()

    def begin(self, audio: Sequence[np.ndarray]) -> Callable[[], dict[str, np.ndarray]]:
        """Begin to embed utterances, each as if it were alone.

        All that fit in `max_samples` go through one forward: the caller chooses how many. Longer
        ones go in windows of equal numbers of frames, one forward each, whose frames tile those of
        the utterance; the mean is over all of them.

        On CUDA this returns when the work is queued, elsewhere when it is done. One more batch may
        begin before the last is asked for; each further one holds its memory, too.

        Parameters
        ----------
        audio : sequence of float32 arrays, shape (n_samples,)
            Mono at 16 kHz, at least `min_samples` each. May be written to when this returns.

        Returns
        -------
        callable
            Waits for this batch alone and gives `mean`: float32, shape (n_layers_stored,
            n_utterances, hidden_size). May be called again.

        Raises
        ------
        ValueError
            An utterance is too short for a frame.
        torch.OutOfMemoryError
            The batch is too large for the device; from here or from the call. What began before
            is not touched.
        """
        for position, samples in enumerate(audio):
            if samples.ndim != 1 or len(samples) < self.min_samples:
                raise ValueError(
                    f"utterance {position} of the batch: shape {samples.shape}, expected "
                    f"(n_samples,) with n_samples >= {self.min_samples}"
                )
        audio = [self._normalised(samples) for samples in audio]
        whole = [i for i, samples in enumerate(audio) if len(samples) <= self.max_samples]
        first = self._queue([audio[i] for i in whole]) if whole else None
        windows = [
            (i, n / self._count(len(audio[i])), self._queue([window]))
            for i in sorted(set(range(len(audio))) - set(whole))
            for window, n in self._windows(audio[i])
        ]

        def wait() -> dict[str, np.ndarray]:
            mean = np.zeros((len(self.layers), len(audio), self.hidden_size))
            for i, share, window in windows:
                mean[:, i] += window()[:, 0] * np.float64(share)
            mean = mean.astype(np.float32)
            if first is not None:
                mean[:, whole] = first()
            return {"mean": mean}

        return wait

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
        if self._whisper or not self.description.preprocessor["do_normalize"]:
            return samples
        scaled: np.ndarray = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        return scaled

    def _queue(self, pieces: Sequence[np.ndarray]) -> Callable[[], np.ndarray]:
        """Begin one forward; what is given waits for float32 (n_layers, n_pieces, hidden_size)."""
        n_frames = [self._count(len(piece)) for piece in pieces]
        order = sorted(range(len(pieces)), key=lambda i: -n_frames[i])
        pooled = self._forward([pieces[i] for i in order], [n_frames[i] for i in order])
        event: torch.cuda.Event | None = None
        if self.device.type == "cuda":
            host = torch.empty(pooled.shape, dtype=pooled.dtype, pin_memory=True)
            host.copy_(pooled, non_blocking=True)
            event = torch.cuda.Event(blocking=True)
            event.record(torch.cuda.current_stream(self.device))
        else:
            host = pooled.cpu()

        def wait() -> np.ndarray:
            if event is not None:
                event.synchronize()
            values = np.empty(host.shape, np.float32)
            values[:, order] = host.numpy()
            return values

        return wait

    def _uploaded(self, values: np.ndarray) -> torch.Tensor:
        """Copy to the device, from pinned memory and without waiting on CUDA."""
        tensor = torch.from_numpy(values)
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def _waveform(
        self, pieces: Sequence[np.ndarray], length: int, padding: float = 0
    ) -> torch.Tensor:
        """Rows with zeros, or `padding`, behind their samples, float32, (n_pieces, length)."""
        on_cuda = self.device.type == "cuda"
        rows = torch.empty(len(pieces), length, dtype=torch.float32, pin_memory=on_cuda)
        for row, piece in zip(rows.numpy(), pieces, strict=True):
            row[: len(piece)] = piece
            row[len(piece) :] = padding
        return rows.to(self.device, non_blocking=on_cuda)

    @torch.inference_mode()
    def _forward(self, pieces: Sequence[np.ndarray], n_frames: Sequence[int]) -> torch.Tensor:
        """Means on the device, float32, shape (n_layers_stored, n_pieces, hidden_size).

        The pieces are sorted by length, longest first.
        """
        # TF32, PyTorch's default for convolutions on a GPU, keeps three digits.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            if self._whisper:
                states, layout = self._whisper_frames(pieces, n_frames)
            else:
                states, layout = self._frames(pieces, n_frames)
                states = self._positioned(states, layout)
            bias = [self._position_bias(run.n_frames) for run in layout.runs]
            pooled = []
            for k, block in enumerate(self._stack.layers):
                if k in self.layers:
                    pooled.append(layout.means(states))
                if k < self.layers[-1]:
                    states = block(states, layout, bias)
            if self.layers[-1] == self.description.n_layers:
                pooled.append(layout.means(self._last_norm(states)))
            elif self.layers[-1] == len(self._stack.layers):
                pooled.append(layout.means(states))
        return torch.stack(pooled)

    def _whisper_frames(
        self, pieces: Sequence[np.ndarray], n_frames: Sequence[int]
    ) -> tuple[torch.Tensor, Layout]:
        """Input of whisper's first block: 1,500 positions a piece."""
        stack = self._stack
        gelu = torch.nn.functional.gelu
        states = gelu(stack.conv2(gelu(stack.conv1(self._mel(pieces))))).transpose(1, 2)
        states = states + stack.embed_positions.weight
        run = Run(0, *states.shape[:2])
        return states.flatten(0, 1), Layout((run,), self._uploaded(np.array(n_frames)))

    def _mel(self, pieces: Sequence[np.ndarray]) -> torch.Tensor:
        """Log-mel input of whisper, shape (n_pieces, n_mels, 3000)."""
        if self.device.type == "cpu":
            features = self._extractor(
                list(pieces), sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt"
            )["input_features"]
            return features.to(self.dtype)
        return self._device_mel(pieces).to(self.dtype)

    def _device_mel(self, pieces: Sequence[np.ndarray]) -> torch.Tensor:
        """The extractor's spectrum on the device, float32: its own hands it back to the CPU."""
        extractor, filters = self._extractor, self._mel_filters
        waveform = self._waveform(pieces, extractor.n_samples, extractor.padding_value)
        spectrum = torch.stft(
            waveform, extractor.n_fft, extractor.hop_length,
            window=torch.hann_window(extractor.n_fft, device=self.device), return_complex=True,
        )  # fmt: skip
        mel = (filters @ spectrum[..., :-1].abs().square()).clamp(min=1e-10).log10()
        return (torch.maximum(mel, mel.amax(dim=(1, 2), keepdim=True) - 8.0) + 4.0) / 4.0

    @functools.cached_property
    def _mel_filters(self) -> torch.Tensor:
        filters = torch.from_numpy(np.ascontiguousarray(self._extractor.mel_filters.T))
        return filters.to(self.device, torch.float32)

    def _frames(
        self, pieces: Sequence[np.ndarray], n_frames: Sequence[int]
    ) -> tuple[torch.Tensor, Layout]:
        """Projected output of the convolutions, packed or padded."""
        front_end = self._front_end
        runs = equal_runs(n_frames)
        self._mask = None
        if self.file_by_file:
            alone = [
                front_end.alone(self._waveform([piece], len(piece))[0], n, CPU_CHUNK)
                for piece, n in zip(pieces, n_frames, strict=True)
            ]
        else:
            length = max(
                max(len(piece) for piece in pieces),
                n_frames[0] * front_end.stride + self.min_samples - front_end.stride,
            )
            length = -(-length // front_end.stride) * front_end.stride
            at_once = max(1, int(CHUNK_S * SAMPLING_RATE_HZ / length))
            grouped = front_end.group_norm is not None
            alone = []
            for first in range(0, len(pieces), at_once):
                some = pieces[first : first + at_once]
                counts = np.array([len(piece) for piece in some]) if grouped else None
                rows = front_end.rows(
                    self._waveform(some, length),
                    None if counts is None else self._uploaded(counts),
                )
                alone += [row[:n] for row, n in zip(rows, n_frames[first:], strict=False)]
        if len(runs) <= self.max_runs:
            features, layout = torch.cat(alone), Layout(runs)
        else:
            features = torch.nn.utils.rnn.pad_sequence(alone, batch_first=True).flatten(0, 1)
            counted = self._uploaded(np.array(n_frames))
            frames = torch.arange(n_frames[0], device=self.device)
            self._mask = frames < counted[:, None]
            layout = Layout((Run(0, len(pieces), n_frames[0]),), counted, self._mask)
        projected = self._model.feature_projection(features)
        return projected[0] if isinstance(projected, tuple) else projected, layout

    def _positioned(self, states: torch.Tensor, layout: Layout) -> torch.Tensor:
        """Add the positional convolution: what enters the first block."""
        embed = self._stack.pos_conv_embed
        positions = [embed(run.of(states)).flatten(0, 1) for run in layout.runs]
        states = states + (positions[0] if len(positions) == 1 else torch.cat(positions))
        return states if self._norm_first else self._stack.layer_norm(states)

    def _last_norm(self, states: torch.Tensor) -> torch.Tensor:
        return self._stack.layer_norm(states) if self._norm_first else states

    def _position_bias(self, n_frames: int) -> torch.Tensor:
        """Wavlm's, shape (n_heads, n_frames, n_frames); empty for the other families."""
        if self._relative is None:
            return torch.empty(0)
        bias: torch.Tensor = self._relative.compute_bias(n_frames, n_frames)
        return bias

    def _prepare(self) -> None:
        """Put our parts in the place of transformers', whose weights they take over."""
        stack, config = self._stack, self._model.config
        # The blocks of data2vec-audio have their norms behind, whatever its config.json asks for.
        stable = self.key["family"] != "data2vec-audio"
        stable = stable and bool(getattr(config, "do_stable_layer_norm", False))
        self._norm_first = self._whisper or stable
        self._relative: Any = None
        if self.layers[-1] < len(stack.layers):
            stack.layers = stack.layers[: max(1, self.layers[-1])]
        if hasattr(getattr(stack.layers[0], "attention", None), "rel_attn_embed"):
            self._relative = stack.layers[0].attention
        for i, layer in enumerate(stack.layers):
            stack.layers[i] = Block(layer, self._norm_first)
        if self._whisper:
            return
        if self._relative is not None:  # of its projections the block has a copy
            self._relative.q_proj = self._relative.k_proj = self._relative.v_proj = None
        self._front_end = FrontEnd(self._model.feature_extractor, self.dtype)
        self._model.feature_extractor = None

        def zero_padding(module: torch.nn.Module, args: tuple[torch.Tensor]) -> Any:
            if self._mask is None:
                return None
            return (args[0].masked_fill(~self._mask[:, None, :], 0),)

        for parent in list(stack.pos_conv_embed.modules()):
            if isinstance(getattr(parent, "conv", None), torch.nn.Conv1d):
                parent.conv = positional(plain_convolution(parent.conv), self.device)
                parent.conv.register_forward_pre_hook(zero_padding)


def _load(description: Description, dtype: torch.dtype) -> tuple[Any, Any]:
    """Bare encoder, on the CPU, and the extractor that prepares its input."""
    import transformers

    # Of the settings that the key was made of, not of files read once more.
    settings = dict(description.preprocessor)
    make_extractor = getattr(transformers, settings.pop("feature_extractor_type"))
    folder = description.folder
    if folder is None:
        return _tiny().to(dtype), make_extractor(**settings)
    name = description.key["model"]
    with _refused_in_one_line(f"{name}: {folder}"), _quiet_transformers():
        extractor = make_extractor(**settings)
        # Without `dtype` the weights come in the precision that the config names.
        model, loading = transformers.AutoModel.from_pretrained(
            folder,
            dtype=dtype,
            use_safetensors=description.safetensors,
            trust_remote_code=False,
            weights_only=True,  # of a .bin file; a safetensors file can hold nothing else
            local_files_only=True,
            ignore_mismatched_sizes=True,  # so that they are named below
            output_loading_info=True,
        )
    source = description.key["source"]
    if source.startswith("sha256:"):
        # Between planning and now a training may have written the folder anew.
        now = f"sha256:{sha256(name, folder, description.files)}"
        if now != source:
            raise ModelError(
                f"{name}: {folder} is not what it was when the work was planned ({source[:19]}..., "
                f"now {now[:19]}...): let nothing write to it, and extract again"
            )
    prefix = ""
    if description.key["family"] == "whisper":
        model, prefix = model.get_encoder(), "encoder."
        if extractor.feature_size != model.config.num_mel_bins:
            raise ModelError(
                f"{name}: {folder}: the settings of its feature extractor make "
                f"{extractor.feature_size} bands (feature_size), config.json takes "
                f"{model.config.num_mel_bins} (num_mel_bins): they belong to another checkpoint"
            )
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
def _refused_in_one_line(where: str) -> Iterator[None]:
    """Turn what a checkpoint's files make transformers raise into a ModelError."""
    try:
        yield
    except MemoryError:
        raise
    # From safetensors, torch's unpickler, JSON and transformers itself: no common type.
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # torch's first line is advice to load the file with everything that it executes.
        refused = [line for line in lines if "nsupported" in line]
        if type(error).__name__ == "UnpicklingError":
            raise ModelError(
                f"{where}: its weights file is not read, nor executed: it holds more than weights "
                f"({(refused or ['no tensors alone'])[0]}); get a checkpoint in safetensors"
            ) from None
        reason = (lines or [type(error).__name__])[0]
        raise ModelError(
            f"{where}: cannot be loaded: {reason}; get the checkpoint's files anew"
        ) from error


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
