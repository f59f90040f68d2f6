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
of their layers go to the host as they come, and so do the sums of segments; the means are what they
are without. Layer k < L is transformers' `hidden_states[k]`, layer L its `last_hidden_state`.

On CUDA `begin` only queues: audio goes over from pinned memory and vectors come back to it, both
without waiting (PyTorch's allocator gives pinned memory out again when its copy is done), and the
one thing waited for is the event behind a batch's vectors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from extract.encoders.description import Description
from extract.encoders.in_time import Excerpt, OwnFrames, Taken, joined, taken_of
from extract.encoders.loading import load_model
from extract.frames import Computed
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
    outputs : tuple of FrameOutput
        What `begin_framewise` gives beside the means.
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
        self.outputs = description.framewise
        in_time = (layer for output in self.outputs for layer in output.layers)
        self._reach = sorted({*self.layers, *in_time})
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
        wait = self._begin(audio, framewise=False)
        return lambda: wait().features

    def begin_framewise(self, audio: Sequence[np.ndarray]) -> Callable[[], Computed]:
        """Begin as `begin` does, and give frames or segments beside the means: of one forward.

        The frames of an utterance that goes in windows are those of all its windows, in order; its
        segments are of these.
        """
        return self._begin(audio, framewise=True)

    def _begin(self, audio: Sequence[np.ndarray], *, framewise: bool) -> Callable[[], Computed]:
        for position, samples in enumerate(audio):
            if samples.ndim != 1 or len(samples) < self.min_samples:
                raise ValueError(
                    f"utterance {position} of the batch: shape {samples.shape}, expected "
                    f"(n_samples,) with n_samples >= {self.min_samples}"
                )
        settings = self.description.preprocessor
        audio = [self._family.normalised(samples, settings) for samples in audio]
        whole = [i for i, samples in enumerate(audio) if len(samples) <= self.max_samples]
        first = self._queue([self._piece(audio[i]) for i in whole], framewise) if whole else None
        windows = [
            (i, piece.n_frames / piece.of, self._queue([piece], framewise))
            for i in sorted(set(range(len(audio))) - set(whole))
            for piece in self._windows(audio[i])
        ]
        outputs = self.outputs if framewise else ()

        def wait() -> Computed:
            total = np.zeros((len(self.layers), len(audio), self.hidden_size))
            pieces: list[list[list[Any]]] = [[[] for _ in audio] for _ in outputs]
            for i, share, window in windows:
                means, own = window()
                total[:, i] += means[:, 0] * np.float64(share)
                for of_output, (values,) in zip(pieces, own, strict=True):
                    of_output[i].append(values)
            mean = total.astype(np.float32)
            if first is not None:
                mean[:, whole], own = first()
                for of_output, each in zip(pieces, own, strict=True):
                    for i, values in zip(whole, each, strict=True):
                        of_output[i].append(values)
            in_time = {
                output.kind: [joined(output, values) for values in of_output]
                for output, of_output in zip(outputs, pieces, strict=True)
            }
            return Computed({"mean": mean}, in_time)

        return wait

    def _piece(self, samples: np.ndarray) -> Excerpt:
        """An utterance that goes as it is."""
        n_frames = self._count(len(samples))
        return Excerpt(samples, 0, n_frames, n_frames)

    def _count(self, n_samples: int) -> int:
        """Frames of so many samples."""
        return self._family.n_frames(n_samples, self.description.geometry)

    def _windows(self, samples: np.ndarray) -> Iterator[Excerpt]:
        """Cut a long utterance so that the windows' frames, taken together, are its own."""
        stride, overlap = self.description.stride, self.description.geometry.overlap
        most = (self.max_samples - overlap) // stride
        n_frames = self._count(len(samples))
        bounds = np.linspace(0, n_frames, math.ceil(n_frames / most) + 1).round().astype(int)
        for first, last in zip(bounds[:-1], bounds[1:], strict=True):
            window = samples[first * stride : last * stride + overlap]
            yield Excerpt(window, int(first), int(last - first), n_frames)

    def _queue(
        self, pieces: Sequence[Excerpt], framewise: bool
    ) -> Callable[[], tuple[np.ndarray, list[list[Any]]]]:
        """Begin one forward; what is given waits for float32 (n_layers, n_pieces, hidden_size).

        Beside these is, for each output where they are asked for, what came of each piece.
        """
        order = sorted(range(len(pieces)), key=lambda i: -pieces[i].n_frames)
        ordered = [pieces[i] for i in order]
        outputs = self.outputs if framewise else ()
        taken = [taken_of(output, ordered, self.device) for output in outputs]
        pooled = self._means(ordered, taken)
        event: torch.cuda.Event | None = None
        if self.device.type == "cuda":
            host = torch.empty(pooled.shape, dtype=pooled.dtype, pin_memory=True)
            host.copy_(pooled, non_blocking=True)
            event = torch.cuda.Event(blocking=True)
            event.record(torch.cuda.current_stream(self.device))
        else:
            host = pooled.cpu()

        def wait() -> tuple[np.ndarray, list[list[Any]]]:
            if event is not None:
                event.synchronize()
            values = np.empty(host.shape, np.float32)
            values[:, order] = host.numpy()
            back = np.argsort(order).tolist()
            found = [output.pieces() for output in taken]
            return values, [[of_pieces[i] for i in back] for of_pieces in found]

        return wait

    @torch.inference_mode()
    def _means(self, pieces: Sequence[Excerpt], taken: Sequence[Taken]) -> torch.Tensor:
        """Means on the device, float32, shape (n_layers_stored, n_pieces, hidden_size).

        The pieces are sorted by length, longest first; their frames go to each of `taken`.
        """
        n_frames = [piece.n_frames for piece in pieces]
        own = OwnFrames(n_frames, self.device)
        # TF32, PyTorch's default for convolutions on a GPU, keeps three digits.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            states, layout = self.forward.enter(
                [piece.samples for piece in pieces], n_frames,
                file_by_file=self.file_by_file, max_runs=self.max_runs,
            )  # fmt: skip
            biases = self.forward.position_biases(layout)
            pooled = []

            def take(layer: int, states: torch.Tensor) -> None:
                if layer in self.layers:
                    pooled.append(layout.means(states))
                wanting = [output for output in taken if layer in output.layers]
                if wanting:
                    frames = own.of(states, layout)
                    for output in wanting:
                        output.add(layer, frames)

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
