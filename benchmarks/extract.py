"""Audio seconds a second of an extraction, beside the usual loops, in one run on one machine.

Three ways to embed the same files, all from WAV files on disk to vectors in memory, loading of the
weights left out:

- `single`: one file at a time through transformers' own classes, mean over the last layer's states.
  The loop of published scripts; exact, one layer.
- `batched`: batches of 8 in file order, padded, with attention mask and masked mean. One layer.
- `ours`: `extract`'s own plan, decoding process and encoder. All layers.

The weights are random, of the true size: speed and rounding do not depend on training. The audio
is noise in the shape of syllables, with lengths as in Hume-Prosody (1.2 to 7.98 s, mean 2.9 s).
Nothing is fetched. Repeats are interleaved; what is printed are medians and their ratios.

The exit code is 1 where the last layer of `ours` differs from `single` by more than a relative
1e-4; speed decides nothing.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

if not __package__:  # run as a file: this folder would hide the package `extract`
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import soundfile as sf

from benchmarks.common import fresh, peak_bytes, speechlike
from extract.ahead import load_ahead
from extract.audio import SAMPLING_RATE_HZ, Clip, load, seconds
from extract.batches import Job, make_batches, padded_seconds
from extract.compute import BATCH_SECONDS, Machine
from extract.registry import MODELS, Description, describe

XLSR: dict[str, Any] = {
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
}
CONFIGS: dict[str, dict[str, Any]] = {  # Wav2Vec2Config; its defaults are wav2vec2-base
    "wav2vec2-base": {},
    "xlsr-300m": {
        **XLSR,
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
    },
    "xlsr-1b": {
        **XLSR,
        "hidden_size": 1280,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "intermediate_size": 5120,
    },
}
DEFAULT = ("wav2vec2-base", "xlsr-300m")
SHORTEST_S, LONGEST_S, MEAN_S = 1.2, 7.98, 2.9
CORPUS_FILES = 500
USUAL_BATCH = 8  # files
MAX_SECONDS = 60.0
TOLERANCE = 1e-4
WAYS = ("single", "batched", "ours")
SMALL_SECONDS, SMALL_FILES = 12.0, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Measure the models that are asked for, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(CONFIGS)}")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:N or mps")
    parser.add_argument("--seconds", type=float, default=60.0, help="audio to embed")
    parser.add_argument("--repeats", type=int, default=3)
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
        clips = make_audio(Path(folder) / "audio", args.seconds, args.device, n_files)
        lengths = [seconds(clip) for clip in clips]
        print(
            f"{len(clips)} files, {sum(lengths):.1f} s of audio: {min(lengths):.2f} to "
            f"{max(lengths):.2f} s, mean {np.mean(lengths):.2f} s; decoded at "
            f"{fresh(decode_rate, clips):,.0f} files a second by one process"
        )
        for key in models:
            checkpoint = Path(folder) / key
            fresh(make_checkpoint, key, checkpoint)
            memory = {
                way: fresh(peak_memory, way, key, checkpoint, clips, args.device)
                for way in ("single", "ours")
            }
            found = fresh(measure, key, checkpoint, clips, args.device, args.repeats)
            report(key, clips, memory, **found)
            exact &= found["errors"]["ours"] <= TOLERANCE
    return 0 if exact else 1


def make_audio(folder: Path, total_s: float, device: str, n_files: int) -> list[Clip]:
    """Write WAV files, 16 kHz and 16 bit, of about `total_s` seconds together.

    They are whole batches, evenly spaced, of the plan of a corpus of `n_files`, in random order: a
    large corpus has files of nearly equal length for every batch, a handful of files has not.
    """
    folder.mkdir()
    rng = np.random.default_rng(0)
    # A beta distribution over the range, with the mean; its median is 2.7 s.
    mean = (MEAN_S - SHORTEST_S) / (LONGEST_S - SHORTEST_S)
    drawn = SHORTEST_S + (LONGEST_S - SHORTEST_S) * rng.beta(6 * mean / (1 - mean), 6, n_files)
    whole = make_batches([Job("", "", length) for length in drawn], budget_s(device))
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


def make_checkpoint(key: str, folder: Path) -> None:
    """Save random weights of a model's true size as the Hub would have them."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(0)
    model = Wav2Vec2Model(Wav2Vec2Config(**CONFIGS[key]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # As initialised, every frame attends to all others alike.
            if name.endswith(("q_proj.weight", "k_proj.weight")):
                parameter.mul_(3)
    model.save_pretrained(folder)
    # Group-norm checkpoints are published without the mask; `batched` is given its best.
    Wav2Vec2FeatureExtractor(return_attention_mask=True).save_pretrained(folder)


def describe_checkpoint(key: str, folder: Path) -> Description:
    """What the project makes of the files, the registered sizes compared."""
    return describe(MODELS[key], folder, precision="float32", max_seconds=MAX_SECONDS)


def budget_s(device: str) -> float:
    """Padded seconds a batch, as an extraction takes them by default."""
    return BATCH_SECONDS[device.split(":")[0]]


Embed = Callable[[Sequence[Clip]], np.ndarray]


def usual(folder: Path, device: str) -> tuple[Embed, Embed]:
    """`single` and `batched`: clips -> last layer's means, float32, shape (n_clips, hidden)."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).to(device).eval()

    @torch.inference_mode()
    def single(clips: Sequence[Clip]) -> np.ndarray:
        vectors = []
        for clip in clips:
            inputs = extractor(load(clip), sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt")
            states = model(inputs["input_values"].to(device)).last_hidden_state
            vectors.append(states[0].mean(0).cpu().numpy())
        return np.stack(vectors)

    @torch.inference_mode()
    def batched(clips: Sequence[Clip]) -> np.ndarray:
        vectors = []
        for first in range(0, len(clips), USUAL_BATCH):
            audio = [load(clip) for clip in clips[first : first + USUAL_BATCH]]
            inputs = extractor(
                audio, sampling_rate=SAMPLING_RATE_HZ, padding=True, return_tensors="pt"
            )
            states = model(**inputs.to(device)).last_hidden_state
            n_frames = model._get_feat_extract_output_lengths(inputs["attention_mask"].sum(1))
            valid = torch.arange(states.shape[1], device=device) < n_frames[:, None]
            means = (states * valid[..., None]).sum(1) / n_frames[:, None]
            vectors.append(means.cpu().numpy())
        return np.concatenate(vectors)

    return single, batched


def plan(clips: Sequence[Clip], description: Description, device: str) -> list[list[Job]]:
    """Batches as an extraction makes them by default."""
    jobs = [Job(clip.utterance, "", seconds(clip)) for clip in clips]
    least_s = description.padded_samples / SAMPLING_RATE_HZ
    return make_batches(jobs, budget_s(device), least_s)


def ours(key: str, folder: Path, device: str) -> Embed:
    """Embed by the project's code: clips -> float32, shape (n_layers + 1, n_clips, hidden)."""
    from extract.encoder import Encoder

    encoder = Encoder(describe_checkpoint(key, folder), device)

    def embed(clips: Sequence[Clip]) -> np.ndarray:
        batches = plan(clips, encoder.description, device)
        row_of = {clip.utterance: row for row, clip in enumerate(clips)}
        rows = [[row_of[job.utterance] for job in batch] for batch in batches]
        result = np.empty((len(encoder.layers), len(clips), encoder.hidden_size), np.float32)
        loaded = load_ahead(
            [[clips[row] for row in batch] for batch in rows],
            min_samples=encoder.min_samples,
            feature_set=None,
            workers=Machine(device).n_workers(device != "cpu", is_acoustic=False),
        )
        for batch, results in zip(rows, loaded, strict=True):
            audio = [one for one in results if isinstance(one, np.ndarray)]
            result[:, batch] = encoder.embed(audio)["mean"]
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


def measure(key: str, folder: Path, clips: list[Clip], device: str, repeats: int) -> dict[str, Any]:
    """Time the three ways in turn, and compare what they give.

    Returns
    -------
    dict
        `took`: way -> seconds by the clock, one a repeat; `errors`: way -> largest relative error
        of an utterance's last layer against `single`; `padded`: way -> seconds computed for a
        second of audio.
    """
    single, batched = usual(folder, device)
    ways = dict(zip(WAYS, (single, batched, ours(key, folder, device)), strict=True))
    for embed in ways.values():
        embed(clips[:2])
    took: dict[str, list[float]] = {way: [] for way in WAYS}
    last: dict[str, np.ndarray] = {}
    for repeat in range(repeats):
        for way in (*WAYS[repeat % 3 :], *WAYS[: repeat % 3]):
            elapsed_s, result = timed(ways[way], clips, device)
            took[way].append(elapsed_s)
            last[way] = result[-1] if way == "ours" else result
    errors = {way: relative_error(last[way], last["single"]) for way in WAYS[1:]}
    lengths = [seconds(clip) for clip in clips]
    as_they_come = [lengths[i : i + USUAL_BATCH] for i in range(0, len(lengths), USUAL_BATCH)]
    padded = {
        "single": sum(lengths),
        "batched": sum(len(batch) * max(batch) for batch in as_they_come),
        "ours": padded_seconds(plan(clips, describe_checkpoint(key, folder), device)),
    }
    return {
        "took": took,
        "errors": errors,
        "padded": {way: value / sum(lengths) for way, value in padded.items()},
    }


def relative_error(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest over the utterances; both of shape (n_utterances, hidden)."""
    error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected, axis=1)
    return float(error.max())


def peak_memory(way: str, key: str, folder: Path, clips: list[Clip], device: str) -> int:
    """Most resident bytes of this process from its start to the last vector, torch included.

    The decoding process that `ours` may have beside it is not counted.
    """
    embed = usual(folder, device)[0] if way == "single" else ours(key, folder, device)
    embed(clips)
    return peak_bytes()


def report(
    key: str,
    clips: Sequence[Clip],
    memory: dict[str, int],
    took: dict[str, list[float]],
    errors: dict[str, float],
    padded: dict[str, float],
) -> None:
    """Print one model's table."""
    audio_s = sum(seconds(clip) for clip in clips)
    median = {way: statistics.median(times) for way, times in took.items()}
    print(f"\n{key}: random weights, medians of {len(took['single'])} interleaved repeats")
    print("way      layers  audio s/s  (least-most)   x single  padding  rel. error  peak memory")
    for way in WAYS:
        rates = sorted(audio_s / one for one in took[way])
        n_layers = "all" if way == "ours" else "last"
        error = f"{errors[way]:.1e}" if way in errors else "-"
        peak = f"{memory[way] / 1e9:.2f} GB" if way in memory else "-"
        spread = f"({rates[0]:.2f}-{rates[-1]:.2f})"
        print(
            f"{way:8} {n_layers:>6}  {audio_s / median[way]:9.2f}  {spread:>14}"
            f"  {median['single'] / median[way]:8.2f}  {padded[way]:6.2f}x  {error:>10}  {peak:>11}"
        )
    print(f"ours is {median['batched'] / median['ours']:.2f} x batched", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
