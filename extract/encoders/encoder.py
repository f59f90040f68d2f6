"""Transformers speech models: one forward for all families and layers, exact under padding.

An utterance's embedding is the mean over time of what the model gives for the file alone; what
else lies in the batch does not change it beyond rounding. Weights, extractor and the order of the
operations are transformers'; the forward is that of the family's module, which sees no padding:

- the transformer: frames lie packed, without padding. Attention goes run by run, a run being rows
  of equal length: a plan that sorts by length gives few, and none needs a mask, so that PyTorch
  may take its flash kernel. A GPU's batch of more than `MAX_RUNS` lengths is padded instead and
  has a mask (PyTorch then takes its memory-efficient kernel); wavlm has a position bias besides;
- what comes before it, the family's module says: `extract.encoders.families`.

Layers are pooled as they come, so that no more than one is held. Layer k < L is transformers'
`hidden_states[k]`, layer L its `last_hidden_state`.

On CUDA `begin` only queues: audio goes over from pinned memory and vectors come back to it, both
without waiting (PyTorch's allocator gives pinned memory out again when its copy is done), and the
one thing waited for is the event behind a batch's vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from extract.encoders.description import Description
from extract.encoders.loading import load_model
from features.common.errors import ModelError

MAX_RUNS = 8
"""Lengths of a GPU's batch up to which attention goes run by run, without a mask."""


class Encoder:
    """A speech model on a device.

    Parameters
    ----------
    description : Description
        What `extract.encoders.description.describe` found.
    device : str or torch.device

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
    forward : Forward
        The family's, with the weights.
    max_runs : float
        Lengths of a batch up to which it goes without padding; by default any number on a CPU.

    Raises
    ------
    ModelError
        Weights of the encoder are missing from the checkpoint or have another shape.
    """

    statistics = ("mean",)

    def __init__(self, description: Description, device: str | torch.device = "cpu") -> None:
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
        self._family = description.family

        model, extractor = load_model(description, self.dtype)
        # The encoder's own switches; what a checkpoint's config.json asks for is not ours.
        model.config.output_hidden_states = model.config.output_attentions = False
        model = model.to(self.device).eval()
        n_layers = len(self._family.stack(model).layers)
        if (model.config.hidden_size, n_layers) != (self.hidden_size, description.n_layers):
            raise ModelError(
                f"{self.key['model']}: loaded {n_layers} layers of {model.config.hidden_size}, "
                f"described were {description.n_layers} of {self.hidden_size}"
            )
        self.forward = self._family.forward(model, extractor, self.layers, self.device)

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
        settings = self.description.preprocessor
        audio = [self._family.normalised(samples, settings) for samples in audio]
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
        return self._family.n_frames(n_samples, self.description.geometry)

    def _windows(self, samples: np.ndarray) -> Iterator[tuple[np.ndarray, int]]:
        """Cut a long utterance so that the windows' frames, taken together, are its own."""
        stride, overlap = self.description.stride, self.description.geometry.overlap
        most = (self.max_samples - overlap) // stride
        n_frames = self._count(len(samples))
        bounds = np.linspace(0, n_frames, math.ceil(n_frames / most) + 1).round().astype(int)
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            yield samples[first * stride : last * stride + overlap], int(last - first)

    def _queue(self, pieces: Sequence[np.ndarray]) -> Callable[[], np.ndarray]:
        """Begin one forward; what is given waits for float32 (n_layers, n_pieces, hidden_size)."""
        n_frames = [self._count(len(piece)) for piece in pieces]
        order = sorted(range(len(pieces)), key=lambda i: -n_frames[i])
        pooled = self._means([pieces[i] for i in order], [n_frames[i] for i in order])
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

    @torch.inference_mode()
    def _means(self, pieces: Sequence[np.ndarray], n_frames: Sequence[int]) -> torch.Tensor:
        """Means on the device, float32, shape (n_layers_stored, n_pieces, hidden_size).

        The pieces are sorted by length, longest first.
        """
        # TF32, PyTorch's default for convolutions on a GPU, keeps three digits.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            states, layout = self.forward.enter(
                pieces, n_frames, file_by_file=self.file_by_file, max_runs=self.max_runs
            )
            biases = self.forward.position_biases(layout)
            pooled = []
            for k, block in enumerate(self.forward.layers):
                if k in self.layers:
                    pooled.append(layout.means(states))
                if k < self.layers[-1]:
                    states = block(states, layout, biases)
            if self.layers[-1] == self.description.n_layers:
                pooled.append(layout.means(self.forward.leave(states)))
            elif self.layers[-1] == len(self.forward.layers):
                pooled.append(layout.means(states))
        return torch.stack(pooled)
