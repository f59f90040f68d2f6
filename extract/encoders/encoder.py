"""Transformers speech models: one forward for all families and layers, exact under padding.

An utterance's embedding is the mean over time of what the model gives for the file alone; what
else lies in the batch does not change it beyond rounding. Weights, extractor and the order of the
operations are transformers'; the forward is that of the family's module, which sees no padding:

- the transformer: frames lie packed, without padding. Attention goes run by run, a run being rows
  of equal length: a plan that sorts by length gives few, and none needs a mask, so that PyTorch
  may take its flash kernel. A GPU's batch of more than `MAX_RUNS` lengths is padded instead and
  has a mask (PyTorch then takes its memory-efficient kernel); wavlm has a position bias besides;
- what comes before it, the family's module says: `extract.encoders.families`.

Layers are pooled as they come, so that no more than one is held; where frames are asked for, those
of their layers go to the host as they come, and the means are what they are without. Layer k < L is
transformers' `hidden_states[k]`, layer L its `last_hidden_state`.

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
from extract.encoders.exact.packing import Packing, uploaded
from extract.encoders.loading import load_model
from extract.frames import Computed, UtteranceFrames
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
    frame_layers : tuple of int
        The layers whose frames `begin_frames` gives.
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
        self.frame_layers = description.frames.layers if description.frames else ()
        self._reach = sorted({*self.layers, *self.frame_layers})
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
        self.forward = self._family.forward(model, extractor, self._reach, self.device)

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
        wait = self._begin(audio, frames=False)
        return lambda: wait().features

    def begin_frames(self, audio: Sequence[np.ndarray]) -> Callable[[], Computed]:
        """Begin as `begin` does, and give the frames beside the means: of one forward.

        The frames of an utterance that goes in windows are those of all its windows, in order.
        """
        return self._begin(audio, frames=True)

    def _begin(self, audio: Sequence[np.ndarray], *, frames: bool) -> Callable[[], Computed]:
        for position, samples in enumerate(audio):
            if samples.ndim != 1 or len(samples) < self.min_samples:
                raise ValueError(
                    f"utterance {position} of the batch: shape {samples.shape}, expected "
                    f"(n_samples,) with n_samples >= {self.min_samples}"
                )
        settings = self.description.preprocessor
        audio = [self._family.normalised(samples, settings) for samples in audio]
        whole = [i for i, samples in enumerate(audio) if len(samples) <= self.max_samples]
        first = self._queue([audio[i] for i in whole], frames) if whole else None
        windows = [
            (i, n / self._count(len(audio[i])), self._queue([window], frames))
            for i in sorted(set(range(len(audio))) - set(whole))
            for window, n in self._windows(audio[i])
        ]

        def wait() -> Computed:
            total = np.zeros((len(self.layers), len(audio), self.hidden_size))
            pieces: dict[int, list[UtteranceFrames]] = {}
            for i, share, window in windows:
                means, own = window()
                total[:, i] += means[:, 0] * np.float64(share)
                pieces.setdefault(i, []).extend(own)
            mean = total.astype(np.float32)
            if first is not None:
                mean[:, whole], own = first()
                pieces |= {i: [one] for i, one in zip(whole, own, strict=False)}
            if not frames:
                return Computed({"mean": mean}, None)
            return Computed({"mean": mean}, [_joined(pieces[i]) for i in range(len(audio))])

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

    def _queue(
        self, pieces: Sequence[np.ndarray], frames: bool
    ) -> Callable[[], tuple[np.ndarray, list[UtteranceFrames]]]:
        """Begin one forward; what is given waits for float32 (n_layers, n_pieces, hidden_size).

        Beside these are the frames of each piece, or none where they are not asked for.
        """
        n_frames = [self._count(len(piece)) for piece in pieces]
        order = sorted(range(len(pieces)), key=lambda i: -n_frames[i])
        counts = [n_frames[i] for i in order]
        taken = _Taken(self, counts) if frames else None
        pooled = self._means([pieces[i] for i in order], counts, taken)
        event: torch.cuda.Event | None = None
        if self.device.type == "cuda":
            host = torch.empty(pooled.shape, dtype=pooled.dtype, pin_memory=True)
            host.copy_(pooled, non_blocking=True)
            event = torch.cuda.Event(blocking=True)
            event.record(torch.cuda.current_stream(self.device))
        else:
            host = pooled.cpu()

        def wait() -> tuple[np.ndarray, list[UtteranceFrames]]:
            if event is not None:
                event.synchronize()
            values = np.empty(host.shape, np.float32)
            values[:, order] = host.numpy()
            if taken is None:
                return values, []
            sorted_frames = taken.pieces()
            return values, [sorted_frames[order.index(i)] for i in range(len(order))]

        return wait

    @torch.inference_mode()
    def _means(
        self, pieces: Sequence[np.ndarray], n_frames: Sequence[int], taken: _Taken | None
    ) -> torch.Tensor:
        """Means on the device, float32, shape (n_layers_stored, n_pieces, hidden_size).

        The pieces are sorted by length, longest first; their frames go to `taken`.
        """
        # TF32, PyTorch's default for convolutions on a GPU, keeps three digits.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            states, layout = self.forward.enter(
                pieces, n_frames, file_by_file=self.file_by_file, max_runs=self.max_runs
            )
            biases = self.forward.position_biases(layout)
            pooled = []

            def take(layer: int, states: torch.Tensor) -> None:
                if layer in self.layers:
                    pooled.append(layout.means(states))
                if taken is not None and layer in self.frame_layers:
                    taken.add(self.frame_layers.index(layer), states, layout)

            last = self._reach[-1]
            for k, block in enumerate(self.forward.layers):
                take(k, states)
                if k < last:
                    states = block(states, layout, biases)
            if last == self.description.n_layers:
                take(last, self.forward.leave(states))
            elif last == len(self.forward.layers):
                take(last, states)
        return torch.stack(pooled)


class _Taken:
    """The frames of one forward on their way to the host, pieces sorted by length.

    Parameters
    ----------
    encoder : Encoder
    n_frames : sequence of int
        Of each piece, longest first.
    """

    def __init__(self, encoder: Encoder, n_frames: Sequence[int]) -> None:
        output = encoder.description.frames
        if output is None:
            raise ValueError("the model was described without frames")
        self._n_frames, self._device = n_frames, encoder.device
        self._index: torch.Tensor | None = None
        shape, on_cuda = (len(output.layers), sum(n_frames)), encoder.device.type == "cuda"
        self._values = torch.empty(
            (*shape, output.width), dtype=getattr(torch, output.dtype), pin_memory=on_cuda
        )
        self._peaks = torch.empty(shape, dtype=torch.float32, pin_memory=on_cuda)

    def add(self, position: int, states: torch.Tensor, layout: Packing) -> None:
        """Queue the copy of a layer's frames, and of the largest absolute value of each."""
        if len(states) != sum(self._n_frames):
            states = states.index_select(0, self._own(layout))
        peaks = torch.maximum(states.amax(dim=1), -states.amin(dim=1))
        # A copy even where the type is the same: the next block may write into the states.
        self._values[position].copy_(states.to(self._values.dtype), non_blocking=True)
        self._peaks[position].copy_(peaks.to(torch.float32), non_blocking=True)

    def _own(self, layout: Packing) -> torch.Tensor:
        """Where the pieces' own frames stand in padded states."""
        if self._index is None:
            (run,) = layout.runs
            own = [row * run.n_frames + np.arange(n) for row, n in enumerate(self._n_frames)]
            self._index = uploaded(np.concatenate(own), self._device)
        return self._index

    def pieces(self) -> list[UtteranceFrames]:
        """The frames of each piece, once the copies are done, in memory of their own."""
        values, peaks, start, found = self._values.numpy(), self._peaks.numpy(), 0, []
        for n in self._n_frames:
            own = slice(start, start + n)
            found.append(UtteranceFrames(values[:, own].copy(), peaks[:, own].max(axis=1)))
            start += n
        return found


def _joined(pieces: Sequence[UtteranceFrames]) -> UtteranceFrames:
    """The frames of an utterance's windows, one behind the other."""
    if len(pieces) == 1:
        return pieces[0]
    return UtteranceFrames(
        np.concatenate([piece.values for piece in pieces], axis=1),
        np.max([piece.peaks for piece in pieces], axis=0),
    )
