"""The registry, and what is read from a checkpoint's files without torch."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from extract.encoders.description import describe
from extract.encoders.registry import (
    MODELS,
    Model,
    _register,
    find_model,
)
from features.common.errors import ModelError
from tests.checkpoints import edit, save
from tests.hub import serve

TOP = Path(__file__).resolve().parents[2]
COMMIT = "35eaea9a0ed0f97592277d79208e40ab8917d1e3"
SETTINGS: dict[str, Any] = {"precision": "float32", "max_seconds": 60.0}


def spec(**given: str) -> SimpleNamespace:
    return SimpleNamespace(**{"hub": None, "revision": None, "path": None, **given})


def test_every_model_is_whole() -> None:
    for key, model in MODELS.items():
        assert key == model.key
        assert model.revision is None or re.fullmatch("[0-9a-f]{40}", model.revision)
        if model.kind == "acoustic":
            assert (model.hub, model.hidden_size) == (None, None)
        else:
            assert model.hidden_size
            assert model.n_layers


def test_a_key_registered_twice_raises() -> None:
    with pytest.raises(ValueError, match="'a' is registered twice"):
        _register(Model("a", "acoustic"), Model("b", "acoustic"), Model("a", "acoustic"))


def test_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(ModelError, match=r"unknown speech model 'xlsr-1B'; did you mean 'xlsr-1b'"):
        find_model("xlsr-1B")


def test_a_recipe_defines_and_overrides_models() -> None:
    assert find_model("xlsr-1b", spec()) is MODELS["xlsr-1b"]
    assert find_model("xlsr-1b", spec(path="/here")) == MODELS["xlsr-1b"]
    other = find_model("xlsr-1b", spec(revision="main"))
    assert (other.revision, other.hidden_size) == ("main", 1280)
    # Another repository: neither the registered revision nor its sizes hold.
    other = find_model("xlsr-1b", spec(hub="me/mine"))
    assert (other.hub, other.revision, other.hidden_size) == ("me/mine", None, None)
    assert find_model("mine", spec(path="/here")).kind == "transformers"
    with pytest.raises(ModelError, match="a revision alone"):
        find_model("mine", spec(revision="main"))
    for key in ("mfcc", "wav2vec2-tiny"):
        with pytest.raises(ModelError, match=f"{key} is built in"):
            find_model(key, spec(path="/here"))


def test_a_folder_is_described_by_its_files(checkpoint: Path) -> None:
    description = describe(Model("mine", "transformers"), checkpoint, **SETTINGS)
    source = description.key.pop("source")
    assert re.fullmatch("sha256:[0-9a-f]{64}", source)
    assert description.key == {
        "model": "mine",
        "family": "wav2vec2",
        "layers": [0, 1, 2, 3],
        "statistics": ["mean"],
        "precision": "float32",
        "sampling_rate": 16000,
        "max_seconds": 60.0,
        "input_normalisation": "zero-mean-unit-variance",
    }
    assert json.loads(json.dumps(description.key)) == description.key
    assert (description.hidden_size, description.n_layers) == (24, 3)
    # The usual seven convolutions: a frame is 400 samples wide and 320 from the next.
    assert (description.min_samples, description.stride) == (400, 320)
    assert (description.max_samples, description.padded_samples) == (960_000, 0)
    assert description.trained
    assert description.folder == checkpoint


def test_whisper_pads_to_30_seconds(tmp_path: Path) -> None:
    save(tmp_path, "whisper")
    description = describe(Model("mine", "transformers"), tmp_path, **SETTINGS)
    assert description.key["input_normalisation"] == "log-mel (whisper)"
    assert (description.max_samples, description.padded_samples) == (480_000, 480_000)
    assert (description.min_samples, description.stride) == (400, 320)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "preprocessor_config.json"])
def test_a_folder_is_known_by_its_bytes_not_its_name(
    name: str, checkpoint: Path, copy: Path
) -> None:
    (copy / "README.md").write_text("not part of the model")
    before, after = (
        describe(Model("m", "transformers"), folder, **SETTINGS).key
        for folder in (checkpoint, copy)
    )
    assert before == after
    with (copy / name).open("ab") as file:
        file.write(b" ")
    after = describe(Model("m", "transformers"), copy, **SETTINGS).key
    assert {key for key in before if before[key] != after[key]} == {"source"}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("preprocessor_config.json", "lacks preprocessor_config.json: .*not guessed"),
        ("config.json", "lacks config.json"),
        ("model.safetensors", "lacks weights"),
    ],
)
def test_a_missing_file_is_named(name: str, message: str, copy: Path) -> None:
    (copy / name).unlink()
    with pytest.raises(ModelError, match=f"m: .*{message}"):
        describe(Model("m", "transformers"), copy, **SETTINGS)


def test_a_missing_shard_and_a_missing_folder_are_named(copy: Path) -> None:
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (copy / "model.safetensors").rename(copy / shards["a"])
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(ModelError, match="lacks model-00002-of-00002.safetensors:"):
        describe(Model("m", "transformers"), copy, **SETTINGS)
    with pytest.raises(ModelError, match="no folder"):
        describe(Model("m", "transformers"), copy / "nowhere", **SETTINGS)


def test_sizes_that_are_not_the_registered_name_both(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match=r"hidden size 24 in config.json, 1280 in the registry"):
        describe(MODELS["xlsr-1b"], checkpoint, **SETTINGS)
    model = replace(MODELS["xlsr-1b"], hidden_size=24)
    with pytest.raises(ModelError, match=r"layers 3 in config.json, 48 in the registry"):
        describe(model, checkpoint, **SETTINGS)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("config.json", {"model_type": "bert"}, "model_type 'bert'; expected one of data2vec"),
        ("config.json", {"add_adapter": True}, "add_adapter is set"),
        ("preprocessor_config.json", {"sampling_rate": 8000}, "takes audio at 8000 Hz"),
        (
            "preprocessor_config.json",
            {"feature_extractor_type": "SpeechT5FeatureExtractor"},
            "'SpeechT5FeatureExtractor'; wav2vec2 models take Wav2Vec2FeatureExtractor",
        ),
    ],
)
def test_what_cannot_be_computed_exactly_is_refused(
    name: str, changes: dict[str, Any], message: str, copy: Path
) -> None:
    edit(copy / name, **changes)
    with pytest.raises(ModelError, match=message):
        describe(Model("m", "transformers"), copy, engine="exact", **SETTINGS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": "24"}, r'hidden_size is "24" in config.json; expected an integer from 1'),
        ({"num_hidden_layers": 10**30}, r"num_hidden_layers is 10+ in .* to 1000000"),
        ({"num_hidden_layers": None}, "num_hidden_layers is null"),
        ({"conv_kernel": None}, "conv_kernel is null in config.json; expected a list"),
        ({"conv_stride": [5, 2, 2, 2, 2, 2, 0]}, r"conv_stride\[6\] is 0 in config.json"),
        ({"conv_dim": [16] * 6}, "have 7, 7, 6 members; expected as many of each"),
    ],
)
def test_sizes_that_are_none_are_named(changes: dict[str, Any], message: str, copy: Path) -> None:
    edit(copy / "config.json", **changes)
    with pytest.raises(ModelError, match=f"^m: {copy}: .*{message}"):
        describe(Model("m", "transformers"), copy, **SETTINGS)


def test_a_broken_config_is_named(copy: Path) -> None:
    (copy / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json is not JSON"):
        describe(Model("m", "transformers"), copy, **SETTINGS)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": [1, 4]}, r"layers \[4\]: the model has 0 to 3"),
        ({"layers": []}, r"layers \[\]"),
        ({"precision": "float64"}, "precision 'float64': expected one of float32"),
        ({"max_seconds": 0.02}, r"320 samples; a frame needs 400"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str, checkpoint: Path) -> None:
    with pytest.raises(ModelError, match=message):
        describe(Model("m", "transformers"), checkpoint, **{**SETTINGS, **settings})


def test_layers_are_sorted_and_once(checkpoint: Path) -> None:
    chosen = describe(Model("m", "transformers"), checkpoint, **SETTINGS, layers=[3, 0, 3])
    assert chosen.key["layers"] == [0, 3]


def test_the_untrained_model_is_named_so() -> None:
    description = describe(MODELS["wav2vec2-tiny"], **SETTINGS)
    assert re.fullmatch("untrained:[0-9a-f]{64}:seed=0", description.key["source"])
    assert (description.trained, description.folder) == (False, None)


# A process of its own: the Hub's cache and address are read from the environment, and once.
CHILD = """
import json, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers"):
            raise ImportError(f"{name} is imported")

sys.meta_path.insert(0, NoTorch())
from types import SimpleNamespace
from extract.encoders.description import describe
from extract.encoders.registry import find_model
from features.common.errors import ModelError

key, hub, revision = sys.argv[1:]
spec = SimpleNamespace(hub=hub, revision=revision or None, path=None) if hub else None
try:
    found = describe(find_model(key, spec), precision="float32", max_seconds=60)
    print(json.dumps([found.key["source"], str(found.folder), found.safetensors]))
except ModelError as error:
    print(json.dumps(str(error)))
"""


def describe_elsewhere(
    cache: Path, key: str, hub: str = "", revision: str = "", **environment: str
) -> Any:
    answer = subprocess.run(
        [sys.executable, "-c", CHILD, key, hub, revision],
        env={**os.environ, "HF_HUB_CACHE": str(cache), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def test_what_the_cache_lacks_is_said_in_one_line_offline(tmp_path: Path) -> None:
    message = describe_elsewhere(tmp_path, "xlsr-1b", HF_HUB_OFFLINE="1")
    assert message.startswith(
        f"xlsr-1b: no weights of facebook/wav2vec2-xls-r-1b at {COMMIT} in the Hub's cache, and "
        "the Hub cannot be reached"
    )
    assert message.endswith(
        "run once with a network, or give a local folder with [models.xlsr-1b] path = ..."
    )
    assert "\n" not in message


@pytest.mark.parametrize("revision", ["", COMMIT])
def test_a_cached_snapshot_is_used_offline(revision: str, checkpoint: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--me--mine"
    shutil.copytree(checkpoint, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(COMMIT)
    source, folder, _ = describe_elsewhere(
        tmp_path, "mine", "me/mine", revision, HF_HUB_OFFLINE="1"
    )
    assert source == f"me/mine@{COMMIT}"
    assert Path(folder) == repository / "snapshots" / COMMIT
    # A snapshot without its weights is none.
    (repository / "snapshots" / COMMIT / "model.safetensors").unlink()
    message = describe_elsewhere(tmp_path, "mine", "me/mine", revision, HF_HUB_OFFLINE="1")
    assert message.startswith("mine: no weights of me/mine at")


@pytest.fixture
def hub(checkpoint: Path) -> Iterator[tuple[str, list[str]]]:
    """A Hub on this machine that holds one repository, and the files asked of it."""
    files = {path.name: path.read_bytes() for path in checkpoint.iterdir()}
    files |= {"pytorch_model.bin": b"old", "README.md": b"card", "flax_model.msgpack": b"other"}
    with serve(files, COMMIT) as served:
        yield served


def test_a_download_takes_what_is_needed_and_is_found_again(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    endpoint, asked = hub
    source, folder, safetensors = describe_elsewhere(
        tmp_path, "mine", "me/mine", HF_ENDPOINT=endpoint
    )
    assert source == f"me/mine@{COMMIT}"
    assert safetensors
    assert sorted(asked) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    again = describe_elsewhere(tmp_path, "mine", "me/mine", HF_HUB_OFFLINE="1")
    assert again == [source, folder, safetensors]


@pytest.mark.parametrize("name", ["me/other", "no//name"])
def test_a_repository_that_is_not_there_is_said_in_one_line(
    name: str, hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    message = describe_elsewhere(tmp_path, "mine", name, HF_ENDPOINT=hub[0])
    assert message.startswith(f"mine: no weights of {name} at its newest revision")
    assert "\n" not in message


MINE = """
models = [{name = "mine", hub = "me/mine"}, "wav2vec2-tiny", "mfcc"]
target = "emotion"
[corpora.tones]
reader = "manifest"
[split]
outer = "leave-one-speaker-out"
inner = "speaker-k-fold"
[head]
kind = "linear-svc"
select = "uar"
[head.grid]
C = [1.0]
"""


def command(folder: Path, *argv: str, **environment: str) -> tuple[int, str]:
    (folder / "mine.toml").write_text(MINE)
    answer = subprocess.run(
        [sys.executable, "-m", "extract", "mine.toml", *argv],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(TOP),
            "HF_HUB_CACHE": str(folder / "hub"),
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    return answer.returncode, answer.stdout


@pytest.mark.process
def test_what_was_fetched_is_planned_and_extracted_with_the_network_off(
    hub: tuple[str, list[str]], make_corpus, tmp_path: Path
) -> None:
    make_corpus()
    code, text = command(tmp_path, "--plan", HF_HUB_OFFLINE="1")
    assert code == 0, text
    assert "weights not in the Hub's cache: mine (me/mine at its newest revision)" in text
    assert "tones/mfcc: 12 to do (" in text
    assert not list((tmp_path / "stores/tones").glob("*.h5"))
    code, text = command(tmp_path, "--fetch", HF_ENDPOINT=hub[0])
    assert code == 0, text
    assert f"mine: me/mine@{COMMIT}, " in text
    assert f'pin it with [models.mine] revision = "{COMMIT}"' in text
    assert "mfcc: nothing to fetch" in text
    record = json.loads((tmp_path / "stores/weights.json").read_text())
    assert list(record) == ["mine"]
    for name, file in record["mine"]["files"].items():
        content = (Path(record["mine"]["folder"]) / name).read_bytes()
        assert file == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    code, text = command(tmp_path, "--plan", HF_HUB_OFFLINE="1")
    assert code == 0, text
    assert re.search(
        r"tones/mine: 12 to do \(\d+ s of audio, [\d.]+ kB of disk\)\n"
        r" +1 batch on cpu, [\d.]+x padded; [\d,.]+ s of audio a second on 1 batch tried",
        text,
    )
    assert re.search(r"in all: \d+ s of audio to go through a model, about \d+ s; ", text)
    code, text = command(tmp_path, HF_HUB_OFFLINE="1")
    assert code == 0, text
    assert "tones/mine: 12 computed, 0 cached" in text
    code, text = command(tmp_path, "--plan", HF_HUB_OFFLINE="1")
    assert (code, text.count("nothing to do")) == (0, 3), text


@pytest.mark.process
def test_weights_that_changed_since_they_were_fetched_are_told(
    hub: tuple[str, list[str]], tmp_path: Path
) -> None:
    assert command(tmp_path, "--fetch", HF_ENDPOINT=hub[0])[0] == 0
    assert command(tmp_path, "--fetch", HF_HUB_OFFLINE="1")[0] == 0
    weights = tmp_path / f"hub/models--me--mine/snapshots/{COMMIT}/model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    code, text = command(tmp_path, "--fetch", HF_HUB_OFFLINE="1")
    assert code == 1
    assert "model.safetensors not as fetched on 20" in text
    (tmp_path / "stores/weights.json").write_text("[]")
    code, text = command(tmp_path, "--fetch", HF_HUB_OFFLINE="1")
    assert (code, "not a record of fetched weights" in text) == (1, True)
