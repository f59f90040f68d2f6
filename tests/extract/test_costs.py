"""Operations and bytes by hand, and against what a CPU really takes."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from extract.encoders.costs import MOST_S, WORKSPACE_BYTES, budget_s, read_sizes
from extract.encoders.description import Description, describe
from extract.encoders.registry import Model, find_model
from tests.checkpoints import FORMS, build, save

GIB = 2**30
BASE = dict(
    model_type="wav2vec2", hidden_size=768, num_hidden_layers=12, num_attention_heads=12,
    intermediate_size=3072,
)  # fmt: skip
XLSR_2B = dict(
    model_type="wav2vec2", hidden_size=1920, num_hidden_layers=48, num_attention_heads=16,
    intermediate_size=7680, feat_extract_norm="layer", do_stable_layer_norm=True,
)  # fmt: skip
WHISPER = dict(
    model_type="whisper", d_model=1280, encoder_layers=32, encoder_attention_heads=20,
    encoder_ffn_dim=5120, num_mel_bins=128,
)  # fmt: skip


def described(folder: Path, config: dict, precision: str = "bfloat16") -> Description:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    whisper = config["model_type"] == "whisper"
    kind = "Whisper" if whisper else "Wav2Vec2"
    preprocessor = {"feature_extractor_type": f"{kind}FeatureExtractor", "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    (folder / "model.safetensors").touch()
    return describe(Model("some", "transformers"), folder, precision=precision, max_seconds=60)


@pytest.mark.parametrize("form", ["wav2vec2-group-plain", "data2vec-audio", "whisper"])
def test_parameters_are_those_of_the_model(form: str, tmp_path: Path) -> None:
    save(tmp_path, form)
    description = describe(
        Model("some", "transformers"), tmp_path, precision="float32", max_seconds=60
    )
    model = build(form)
    encoder = model.get_encoder() if form == "whisper" else model
    # What is counted has more than one axis; weight norms' first factors and tables are left out.
    counted = sum(
        parameter.numel()
        for name, parameter in encoder.named_parameters()
        if parameter.ndim > 1 and "original0" not in name and "embed_positions" not in name
    )
    assert read_sizes(description).n_parameters == counted


def test_operations_of_wav2vec2_base_by_hand(tmp_path: Path) -> None:
    sizes = read_sizes(described(tmp_path, BASE))
    rates = [3200, 1600, 800, 400, 200, 100, 50]
    convolutions = 3200 * 10 * 512 + sum(
        rate * kernel * 512 * 512
        for rate, kernel in zip(rates[1:], [3, 3, 3, 3, 2, 2], strict=True)
    )
    frame = 512 * 768 + 128 * 48 * 768 + 12 * (4 * 768**2 + 2 * 768 * 3072)
    attention = 12 * 2 * 100 * 768  # 100 frames in two seconds
    assert sizes.operations(2.0) == pytest.approx(
        2 * (2 * convolutions + 100 * (frame + attention))
    )
    assert sizes.operations(2.9) / 2.9 == pytest.approx(14.2e9, rel=0.01)


def test_whisper_costs_30_seconds(tmp_path: Path) -> None:
    sizes = read_sizes(described(tmp_path, WHISPER))
    assert sizes.operations(1.0) == sizes.operations(30.0)
    assert sizes.n_parameters == pytest.approx(635e6, rel=0.01)
    assert sizes.frames_hz == 50


@pytest.mark.parametrize(("config", "gib"), [(BASE, 80), (XLSR_2B, 80), (WHISPER, 80)])
def test_a_large_device_gets_the_most(config: dict, gib: int, tmp_path: Path) -> None:
    assert budget_s(described(tmp_path, config), gib * GIB, 8.0) == MOST_S


def test_the_budget_follows_the_memory(tmp_path: Path) -> None:
    half = described(tmp_path / "half", XLSR_2B)
    whole = described(tmp_path / "whole", XLSR_2B, "float32")
    free = [gib * GIB for gib in (1, 7.6, 7.8, 8, 8.2, 8.5, 9, 24, 80)]
    budgets = [budget_s(half, n_bytes, 8.0) for n_bytes in free]
    assert budgets == sorted(budgets)
    assert budgets[0] == 8.0  # at least the longest utterance
    assert sum(8.0 < budget < MOST_S for budget in budgets) >= 2
    assert budgets[-1] == MOST_S
    assert all(
        budget_s(whole, n_bytes, 8.0) <= of_half
        for n_bytes, of_half in zip(free, budgets, strict=True)
    )
    sizes = read_sizes(half)
    for n_bytes, budget in zip(free, budgets, strict=True):
        if 8.0 < budget < MOST_S:
            room = 0.7 * n_bytes - 2 * sizes.n_parameters - WORKSPACE_BYTES
            assert sizes.batch_bytes(2, budget, 8.0) <= room < sizes.batch_bytes(2, budget + 2, 8.0)


def test_long_utterances_and_position_biases_cost_more(tmp_path: Path) -> None:
    sizes = read_sizes(described(tmp_path, BASE))
    assert sizes.batch_bytes(2, 960, 60) > sizes.batch_bytes(2, 960, 5)
    assert replace(sizes, position_bias=True).batch_bytes(2, 960, 60) > 2 * sizes.batch_bytes(
        2, 960, 60
    )
    # Of one utterance longer than the budget the windows count.
    assert budget_s(described(tmp_path, BASE), 0, 3600.0) == 60.0


HAS_BIAS = {"wavlm-group-plain": True, "wav2vec2-group-plain": False, "whisper": False}


def test_every_family_has_sizes(tmp_path: Path) -> None:
    for form in FORMS:
        save(tmp_path / form, form)
        description = describe(
            Model("some", "transformers"), tmp_path / form, precision="float32", max_seconds=60
        )
        sizes = read_sizes(description)
        assert sizes.operations(1.0) > 0
        if form in HAS_BIAS:
            assert sizes.position_bias == HAS_BIAS[form]
    tiny = describe(find_model("wav2vec2-tiny"), precision="float32", max_seconds=60)
    assert read_sizes(tiny).conv_dim == (32,) * 7


MEASURE = """
import re, sys
import numpy as np, torch
from pathlib import Path
from extract.encoders.encoder import Encoder
from extract.encoders.description import describe
from extract.encoders.registry import Model
torch.set_num_threads(1)
description = describe(
    Model("some", "transformers"), Path(sys.argv[1]), precision="float32", max_seconds=60
)
encoder = Encoder(description)
encoder.file_by_file, encoder.max_runs = False, 8
encoder.embed([np.random.default_rng(0).normal(size=8000).astype(np.float32)])

def kilobytes(name):
    return int(re.search(name + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

# The peak of a new process is at first that of the one that started it.
Path("/proc/self/clear_refs").write_text("5")
before = kilobytes("VmRSS")
lengths = [16000 * float(s) for s in sys.argv[2].split(",")]
encoder.embed([np.random.default_rng(1).normal(size=int(n)).astype(np.float32) for n in lengths])
print(kilobytes("VmHWM") - before)
"""


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_a_cpu_takes_about_the_estimated_memory(norm: str, tmp_path: Path) -> None:
    save(
        tmp_path, f"wav2vec2-{norm}-{'plain' if norm == 'group' else 'stable'}",
        conv_dim=[512] * 7, hidden_size=256, intermediate_size=1024,
    )  # fmt: skip
    description = describe(
        Model("some", "transformers"), tmp_path, precision="float32", max_seconds=60
    )
    lengths = [4.0] * 4
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path), ",".join(map(str, lengths))],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    found = int(done.stdout.split()[-1]) * 1024
    expected = read_sizes(description).batch_bytes(4, sum(lengths), max(lengths))
    print(f"{norm}: {found / 1e6:.0f} MB found, {expected / 1e6:.0f} MB estimated")
    assert expected / 2 < found < 2 * expected
