"""Audio seconds a second of an extraction, beside the usual loops, in one run on one machine.

Three ways to embed the same files, all from WAV files on disk to vectors in memory, loading of the
weights left out:

- `single`: one file at a time through transformers' own classes, mean over the last layer's states.
  The loop of published scripts; exact, one layer.
- `batched`: batches of 8 in file order, padded, with attention mask and masked mean. One layer.
- `ours`: `extract`'s own plan, decoding processes and encoder, a batch begun while another is
  computed. All layers.

All three in the precision that is asked for. Beside them: the operations that the configuration
counts (`extract.encoders.costs.Sizes.operations`) a second of `ours`, as a share of what the same
device does in plain matrix products in the same run.

The weights are random, of the true size: speed and rounding do not depend on training. The audio
is noise in the shape of syllables, with lengths as in Hume-Prosody (1.2 to 7.98 s, mean 2.9 s).
Nothing is fetched. Repeats are interleaved; what is printed are medians and their ratios.

The exit code is 1 where the last layer of `ours` differs from `single` by more than a relative
1e-4 in float32 (0.1 in bfloat16, 0.02 in float16); speed decides nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: this folder would hide the package `extract`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import soundfile as sf

from benchmarks.common import fresh, peak_bytes, speechlike
from extract.audio import SAMPLING_RATE_HZ, Clip, load, seconds
from extract.encoders.costs import budget_s, read_sizes
from extract.encoders.description import Description, describe
from extract.encoders.registry import MODELS
from extract.job.ahead import load_ahead
from extract.job.device import BATCH_SECONDS, Machine
from extract.plan.batches import Pending, make_batches, padded_seconds
from features.recipe.known.precisions import PRECISIONS

XLSR: dict[str, Any] = {
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
}
LARGE = ("xlsr-300m", "xlsr-1b", "xlsr-2b")
CONFIGS: dict[str, dict[str, Any]] = {  # Wav2Vec2Config; its defaults are wav2vec2-base
    "wav2vec2-base": {}
} | {
    key: {
        **XLSR,
        "hidden_size": MODELS[key].hidden_size,
        "num_hidden_layers": MODELS[key].n_layers,
        "num_attention_heads": 16,
        "intermediate_size": 4 * (MODELS[key].hidden_size or 0),
    }
    for key in LARGE
}
DEFAULT = ("wav2vec2-base", "xlsr-300m")
SHORTEST_S, LONGEST_S, MEAN_S = 1.2, 7.98, 2.9
CORPUS_FILES = 500
USUAL_BATCH = 8  # files
MAX_SECONDS = 60.0
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.1, "float16": 0.02}
WAYS = ("single", "batched", "ours")
SMALL_SECONDS, SMALL_FILES = 12.0, 4
SQUARES = {"cpu": (512, 1024, 2048), "cuda": (2048, 4096, 8192), "mps": (1024, 2048, 4096)}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the models that are asked for, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(CONFIGS)}")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--seconds", type=float, default=60.0, help="audio to embed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="torch.compile beside eager")
    parser.add_argument("--parts", action="store_true", help="where the time of `ours` goes")
    parser.add_argument(
        "--small", action="store_true", help=f"one repeat of {DEFAULT[0]} on {SMALL_SECONDS:g} s"
    )
    args = parser.parse_args(argv)
    unknown = sorted(set(args.models) - set(CONFIGS))
    if unknown:
        parser.error(f"no model of a known size: {', '.join(unknown)}; have {', '.join(CONFIGS)}")
    models = args.models or list(DEFAULT)
    if args.small:
        models, args.seconds, args.repeats = [DEFAULT[0]], SMALL_SECONDS, 1
    # A handful of files gives a ragged batch: --small is about the agreement, not the speed.
    n_files = SMALL_FILES if args.small else CORPUS_FILES
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    print(
        f"{args.device} of {os.cpu_count()} cores; Python {platform.python_version()}, {packages}"
    )
    exact = True
    with tempfile.TemporaryDirectory() as folder:
        rate, size = fresh(matrix_rate, args.device, args.precision)
        print(
            f"{args.precision}: {rate / 1e12:.3g} TFLOP/s in products of {size} x {size} matrices"
        )
        for key in models:
            on = On(args.device, args.precision, Path(folder) / key)
            fresh(make_checkpoint, key, on)
            budget = fresh(choose_budget, key, on)
            clips = make_audio(Path(folder) / f"audio-{key}", args.seconds, budget, n_files)
            lengths = [seconds(clip) for clip in clips]
            print(
                f"\n{key}, random weights: {len(clips)} files, {sum(lengths):.1f} s of audio: "
                f"{min(lengths):.2f} to {max(lengths):.2f} s, mean {np.mean(lengths):.2f} s; "
                f"{budget:.0f} padded seconds a batch; decoded at "
                f"{fresh(decode_rate, clips):,.0f} files a second by one process"
            )
            memory = {
                way: fresh(peak_memory, way, key, on, clips, budget) for way in ("single", "ours")
            }
            found = fresh(measure, key, on, clips, budget, args.repeats)
            report(clips, memory, rate, **found)
            exact &= found["errors"]["ours"] <= TOLERANCE[args.precision]
            if args.parts:
                report_parts(**fresh(parts, key, on, clips, budget))
            if args.compile:
                for mode in ("default", "reduce-overhead")[: 2 if on.cuda else 1]:
                    report_compiled(mode, **fresh(compiled, key, on, clips, budget, mode))
    return 0 if exact else 1


@dataclass(frozen=True)
class On:
    """Where a model is measured, and where its files are."""

    device: str
    precision: str
    folder: Path

    @property
    def cuda(self) -> bool:
        """Whether the device counts its own memory and works on its own."""
        return self.device.startswith("cuda")


def make_audio(folder: Path, total_s: float, budget: float, n_files: int) -> list[Clip]:
    """Write WAV files, 16 kHz and 16 bit, of about `total_s` seconds together.

    They are whole batches, evenly spaced, of the plan of a corpus of `n_files`, in random order: a
    large corpus has files of nearly equal length for every batch, a handful of files has not.
    """
    folder.mkdir()
    rng = np.random.default_rng(0)
    # A beta distribution over the range, with the mean; its median is 2.7 s.
    mean = (MEAN_S - SHORTEST_S) / (LONGEST_S - SHORTEST_S)
    drawn = SHORTEST_S + (LONGEST_S - SHORTEST_S) * rng.beta(6 * mean / (1 - mean), 6, n_files)
    whole = make_batches([Pending("", "", length) for length in drawn], budget)
    n_batches = min(len(whole), max(1, round(total_s * len(whole) / drawn.sum())))
    chosen = ((np.arange(n_batches) + 0.5) * len(whole) / n_batches).astype(int)
    lengths = rng.permutation([job.seconds for batch in chosen for job in whole[batch]])
    clips = []
    for number, length in enumerate(lengths):
        samples = speechlike(rng, round(length * SAMPLING_RATE_HZ), SAMPLING_RATE_HZ)
        clip = Clip(f"{number:05d}", str(folder / f"{number:05d}.wav"))
        sf.write(clip.path, samples, SAMPLING_RATE_HZ, subtype="PCM_16")
        clips.append(clip)
    return clips


def decode_rate(clips: list[Clip]) -> float:
    """Files a second through `extract.audio.load`, over half a second or more."""
    load(clips[0])
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < 0.5:
        for clip in clips:
            load(clip)
        done += len(clips)
    return done / (time.perf_counter() - began)


def matrix_rate(device: str, precision: str) -> tuple[float, int]:
    """Best floating-point operations a second of square matrix products, and their size.

    On a CPU by the faster of PyTorch's two libraries.
    """
    import torch

    from extract.encoders.exact.products import linear

    best, size = 0.0, 0
    for n in SQUARES[device.split(":")[0]]:
        a, b = (torch.randn(n, n, device=device).to(getattr(torch, precision)) for _ in "ab")
        for product in (lambda a=a, b=b: a @ b, lambda a=a, b=b: linear(a, b, None)):
            times = []
            for _ in range(8):
                wait(device)
                began = time.perf_counter()
                product()
                wait(device)
                times.append(time.perf_counter() - began)
            rate = 2 * n**3 / min(times[1:])
            best, size = max((best, size), (rate, n))
    return best, size


def make_checkpoint(key: str, on: On) -> None:
    """Save random weights of a model's true size as the Hub would have them."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    with torch.device(on.device if on.cuda else "cpu"):
        model = Wav2Vec2Model(Wav2Vec2Config(**CONFIGS[key]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # As initialised, every frame attends to all others alike.
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                parameter.mul_(3)
    model.to(getattr(torch, on.precision)).save_pretrained(on.folder)
    # Group-norm checkpoints are published without the mask; `batched` is given its best.
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(on.folder)


def describe_checkpoint(key: str, on: On) -> Description:
    """What the project makes of the files, the registered sizes compared."""
    return describe(MODELS[key], on.folder, precision=on.precision, max_seconds=MAX_SECONDS)


def choose_budget(key: str, on: On) -> float:
    """Padded seconds a batch: from the free memory on CUDA, else an extraction's default."""
    if not on.cuda:
        return BATCH_SECONDS[on.device.split(":")[0]]
    import torch

    free_bytes, _ = torch.cuda.mem_get_info(on.device)
    return budget_s(describe_checkpoint(key, on), free_bytes, LONGEST_S)


Embed = Callable[[Sequence[Clip]], np.ndarray]


def usual(on: On) -> tuple[Embed, Embed]:
    """`single` and `batched`: clips -> last layer's means, float32, shape (n_clips, hidden)."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    device, dtype = on.device, getattr(torch, on.precision)
    extractor = AutoFeatureExtractor.from_pretrained(on.folder)
    model = AutoModel.from_pretrained(on.folder, dtype=dtype).to(device).eval()

    @torch.inference_mode()
    def single(clips: Sequence[Clip]) -> np.ndarray:
        vectors = []
        for clip in clips:
            inputs = extractor(load(clip), sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt")
            states = model(inputs["input_values"].to(device, dtype)).last_hidden_state
            vectors.append(states[0].float().mean(0).cpu().numpy())
        return np.stack(vectors)

    @torch.inference_mode()
    def batched(clips: Sequence[Clip]) -> np.ndarray:
        vectors = []
        for first in range(0, len(clips), USUAL_BATCH):
            audio = [load(clip) for clip in clips[first : first + USUAL_BATCH]]
            inputs = extractor(
                audio, sampling_rate=SAMPLING_RATE_HZ, padding=True, return_tensors="pt"
            )
            mask = inputs["attention_mask"].to(device)
            states = model(inputs["input_values"].to(device, dtype), mask).last_hidden_state
            n_frames = model._get_feat_extract_output_lengths(mask.sum(1))
            valid = torch.arange(states.shape[1], device=device) < n_frames[:, None]
            means = (states.float() * valid[..., None]).sum(1) / n_frames[:, None]
            vectors.append(means.cpu().numpy())
        return np.concatenate(vectors)

    return single, batched


def plan(clips: Sequence[Clip], description: Description, budget: float) -> list[list[Pending]]:
    """Batches as an extraction makes them by default."""
    jobs = [Pending(clip.utterance, "", seconds(clip)) for clip in clips]
    least_s = description.padded_samples / SAMPLING_RATE_HZ
    return make_batches(jobs, budget, least_s)


def ours(key: str, on: On, budget: float) -> Embed:
    """Embed by the project's code: clips -> float32, shape (n_layers + 1, n_clips, hidden)."""
    from extract.encoders.encoder import Encoder

    encoder = Encoder(describe_checkpoint(key, on), on.device)
    workers = Machine(on.device).n_workers(on.device != "cpu", in_decoders=False)

    def embed(clips: Sequence[Clip]) -> np.ndarray:
        batches = plan(clips, encoder.description, budget)
        row_of = {clip.utterance: row for row, clip in enumerate(clips)}
        rows = [[row_of[job.utterance] for job in batch] for batch in batches]
        result = np.empty((len(encoder.layers), len(clips), encoder.hidden_size), np.float32)
        loaded = load_ahead(
            [[clips[row] for row in batch] for batch in rows],
            min_samples=encoder.min_samples,
            feature_set=None,
            workers=workers,
        )
        begun: deque[tuple[list[int], Callable[[], dict[str, np.ndarray]]]] = deque()
        for batch, results in zip(rows, loaded, strict=True):
            audio = [one for one in results if isinstance(one, np.ndarray)]
            begun.append((batch, encoder.begin(audio)))
            if len(begun) > 1:
                before, finish = begun.popleft()
                result[:, before] = finish()["mean"]
        for before, finish in begun:
            result[:, before] = finish()["mean"]
        return result

    return embed


def timed(embed: Embed, clips: Sequence[Clip], device: str) -> tuple[float, np.ndarray]:
    """Seconds by the clock, and what came of them."""
    wait(device)
    began = time.perf_counter()
    result = embed(clips)
    wait(device)
    return time.perf_counter() - began, result


def wait(device: str) -> None:
    """Let the device finish what it was given."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def measure(key: str, on: On, clips: list[Clip], budget: float, repeats: int) -> dict[str, Any]:
    """Time the three ways in turn, and compare what they give.

    Returns
    -------
    dict
        `took`: way -> seconds by the clock, one a repeat; `errors`: way -> largest relative error
        of an utterance's last layer against `single`; `padded`: way -> seconds computed for a
        second of audio (on a GPU by the convolutions: blocks see less padding); `operations`: that
        the configuration counts for all clips.
    """
    single, batched = usual(on)
    ways = dict(zip(WAYS, (single, batched, ours(key, on, budget)), strict=True))
    # Lengths that were not seen before cost a library's choice of kernels: not in an extraction.
    for embed in ways.values():
        embed(clips if on.cuda else clips[:2])
    took: dict[str, list[float]] = {way: [] for way in WAYS}
    last: dict[str, np.ndarray] = {}
    for repeat in range(repeats):
        for way in (*WAYS[repeat % 3 :], *WAYS[: repeat % 3]):
            elapsed_s, result = timed(ways[way], clips, on.device)
            took[way].append(elapsed_s)
            last[way] = result[-1] if way == "ours" else result
    errors = {way: relative_error(last[way], last["single"]) for way in WAYS[1:]}
    lengths = [seconds(clip) for clip in clips]
    as_they_come = [lengths[i : i + USUAL_BATCH] for i in range(0, len(lengths), USUAL_BATCH)]
    description = describe_checkpoint(key, on)
    sizes = read_sizes(description)
    padded = {
        "single": sum(lengths),
        "batched": sum(len(batch) * max(batch) for batch in as_they_come),
        # Files go alone through a CPU's convolutions, and their frames packed through its blocks.
        "ours": padded_seconds(plan(clips, description, budget))
        if on.device != "cpu"
        else sum(lengths),
    }
    return {
        "took": took,
        "errors": errors,
        "padded": {way: value / sum(lengths) for way, value in padded.items()},
        "operations": sum(sizes.operations(length) for length in lengths),
    }


def parts(key: str, on: On, clips: list[Clip], budget: float) -> dict[str, Any]:
    """Seconds of the parts of `ours` over one pass, the device waited for around each.

    Returns
    -------
    dict
        `spent`: part -> seconds; `total_s`: of the same pass, decoding left out.
    """
    from extract.encoders.encoder import Encoder
    from extract.encoders.exact import packing

    encoder = Encoder(describe_checkpoint(key, on), on.device)
    forward: Any = encoder.forward
    audio = [
        [load(clip_of[job.utterance]) for job in batch]
        for clip_of in [{clip.utterance: clip for clip in clips}]
        for batch in plan(clips, encoder.description, budget)
    ]
    places: dict[str, list[tuple[Any, str]]] = {
        "front end": [(forward.front_end, "alone"), (forward.front_end, "rows")],
        "positional convolution": [(forward, "positioned")],
        "transformer": [(block, "forward") for block in forward.layers],
        "pooling": [(packing.Packing, "means")],
        "copies to the device": [(packing, "waveforms"), (packing, "uploaded")],
        "normalisation": [(encoder.description.family, "normalised")],
    }
    encoder.embed(audio[0])
    spent = dict.fromkeys(places, 0.0)
    with contextlib.ExitStack() as stack:
        for part, owners in places.items():
            for owner, name in owners:
                stack.enter_context(clocked(owner, name, spent, part, on.device))
        wait(on.device)
        began = time.perf_counter()
        for batch in audio:
            encoder.embed(batch)
        total_s = time.perf_counter() - began
    return {"spent": spent, "total_s": total_s}


@contextlib.contextmanager
def clocked(
    owner: Any, name: str, spent: dict[str, float], part: str, device: str
) -> Iterator[None]:
    """Add the seconds of an owner's method to a part while this lasts."""
    original, own = getattr(owner, name), name in vars(owner)

    def call(*args: Any, **kwargs: Any) -> Any:
        wait(device)
        began = time.perf_counter()
        try:
            return original(*args, **kwargs)
        finally:
            wait(device)
            spent[part] += time.perf_counter() - began

    setattr(owner, name, call)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, original)
        else:
            delattr(owner, name)


def compiled(key: str, on: On, clips: list[Clip], budget: float, mode: str) -> dict[str, Any]:
    """Time one batch of the plan as an extraction runs it, and through `torch.compile`.

    Compiled are the convolutions and each block, for this batch's shapes alone: other shapes
    compile anew.

    Returns
    -------
    dict
        `eager_s`, `compiled_s`: medians of five; `first_s`: of the first call, which compiles;
        `error`: relative, of the worst vector of any layer.
    """
    import torch

    from extract.encoders.encoder import Encoder

    encoder = Encoder(describe_checkpoint(key, on), on.device)
    clip_of = {clip.utterance: clip for clip in clips}
    batches = plan(clips, encoder.description, budget)
    audio = [load(clip_of[job.utterance]) for job in batches[len(batches) // 2]]

    def median_s() -> float:
        times = [timed(lambda _: encoder.embed(audio)["mean"], [], on.device)[0] for _ in range(5)]
        return statistics.median(times)

    expected = encoder.embed(audio)["mean"]
    eager_s = median_s()
    convolve = "alone" if encoder.file_by_file else "rows"
    forward: Any = encoder.forward
    front_end = forward.front_end
    setattr(front_end, convolve, torch.compile(getattr(front_end, convolve), mode=mode))
    for block in forward.layers:
        block.compile(mode=mode)
    first_s, _ = timed(lambda _: encoder.embed(audio)["mean"], [], on.device)
    found = encoder.embed(audio)["mean"]
    compiled_s = median_s()
    error = max(relative_error(*pair) for pair in zip(found, expected, strict=True))
    return {"eager_s": eager_s, "compiled_s": compiled_s, "first_s": first_s, "error": error}


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest over the utterances; both of shape (n_utterances, hidden)."""
    error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    return float(error.max())


def peak_memory(way: str, key: str, on: On, clips: list[Clip], budget: float) -> int:
    """Most bytes to the last vector, weights included: of the device's memory on CUDA.

    Elsewhere resident bytes of this process, torch included; the decoding processes that `ours`
    may have beside it are not counted.
    """
    embed = usual(on)[0] if way == "single" else ours(key, on, budget)
    embed(clips)
    if on.cuda:
        import torch

        return torch.cuda.max_memory_allocated(on.device)
    return peak_bytes()


def report(
    clips: Sequence[Clip],
    memory: dict[str, int],
    rate: float,
    took: dict[str, list[float]],
    errors: dict[str, float],
    padded: dict[str, float],
    operations: float,
) -> None:
    """Print one model's table."""
    audio_s = sum(seconds(clip) for clip in clips)
    median = {way: statistics.median(times) for way, times in took.items()}
    print(f"medians of {len(took['single'])} interleaved repeats")
    print(
        "way      layers  audio s/s  (least-most)   x single  padding  of the rate  rel. error"
        "  peak memory"
    )
    for way in WAYS:
        rates = sorted(audio_s / one for one in took[way])
        n_layers = "all" if way == "ours" else "last"
        error = f"{errors[way]:.1e}" if way in errors else "-"
        peak = f"{memory[way] / 1e9:.2f} GB" if way in memory else "-"
        spread = f"({rates[0]:.2f}-{rates[-1]:.2f})"
        share = operations / median[way] / rate
        print(
            f"{way:8} {n_layers:>6}  {audio_s / median[way]:9.2f}  {spread:>14}"
            f"  {median['single'] / median[way]:8.2f}  {padded[way]:6.2f}x  {share:11.0%}"
            f"  {error:>10}  {peak:>11}"
        )
    print(
        f"ours is {median['batched'] / median['ours']:.2f} x batched; "
        f"{operations / audio_s / 1e9:.1f} GFLOP a second of audio",
        flush=True,
    )


def report_parts(spent: dict[str, float], total_s: float) -> None:
    """Print where the time of a pass goes."""
    rest = {"the rest (copies back, packing, Python)": total_s - sum(spent.values())}
    print("parts of `ours`, waited for one by one:")
    for part, part_s in {**spent, **rest}.items():
        print(f"  {part:40} {part_s / total_s:6.1%}")


def report_compiled(
    mode: str, eager_s: float, compiled_s: float, first_s: float, error: float
) -> None:
    """Print what compiling gained for one batch."""
    print(
        f"torch.compile, mode {mode}, one batch: {compiled_s:.3f} s, eager {eager_s:.3f} s = "
        f"{eager_s / compiled_s:.2f} x; first call {first_s:.0f} s; off by {error:.1e}",
        flush=True,
    )


if __name__ == "__main__":
    raise SystemExit(main())
