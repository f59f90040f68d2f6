"""Which files of a checkpoint count, what their hash is, and what of a repository is fetched."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from extract.encoders.description import Description, describe
from extract.encoders.encoder import Encoder
from extract.encoders.fetch import fetch
from extract.encoders.registry import Model
from extract.encoders.weights import checkpoint_files
from features.common.errors import ModelError
from tests.checkpoints import edit, save, speechlike
from tests.hub import serve

TOP = Path(__file__).resolve().parents[2]
COMMIT = "35eaea9a0ed0f97592277d79208e40ab8917d1e3"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
PLAIN = ["config.json", "model.safetensors", PREPROCESSOR]


def described(folder: Path) -> Description:
    return describe(Model("m", "transformers"), folder, precision="float32", max_seconds=60.0)


def by_hand(folder: Path, names: list[str]) -> str:
    """What `sha256sum NAMES | sha256sum` prints."""
    lines = [
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names
    ]
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def as_processor(folder: Path) -> None:
    """Say the settings as a processor does, beside the extractor's own file."""
    settings = json.loads((folder / PREPROCESSOR).read_text())
    (folder / PROCESSOR).write_text(json.dumps({"feature_extractor": settings}))


def test_the_hash_is_over_the_files_that_are_read(copy: Path) -> None:
    (copy / "generation_config.json").write_text("{}")
    (copy / "tokenizer_config.json").write_text("{}")
    # Without a processor's file it is what it was before such files were known.
    assert described(copy).key["source"] == by_hand(copy, PLAIN)
    as_processor(copy)
    assert described(copy).key["source"] == by_hand(copy, [*PLAIN, PROCESSOR])
    (copy / PREPROCESSOR).unlink()
    assert described(copy).key["source"] == by_hand(copy, [*PLAIN[:2], PROCESSOR])


OPENED = """
import sys
found = []

def hook(event, args):
    if event == "open" and str(args[0]).startswith(folder):
        found.append(str(args[0])[len(folder) + 1:])

from transformers import AutoFeatureExtractor, AutoModel
folder = sys.argv[1]
sys.addaudithook(hook)
for folder in sys.argv[1:]:
    found.clear()
    AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    AutoModel.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    print(*sorted(set(found)))
"""


@pytest.mark.process
def test_transformers_opens_no_other_file(tmp_path: Path) -> None:
    folders = []
    others = ["generation_config.json", "tokenizer_config.json", "chat_template.json", "vocab.json",
              "video_preprocessor_config.json", "image_processor_config.json"]  # fmt: skip
    for form in ("wav2vec2-layer-stable", "data2vec-audio", "whisper"):
        for name in ("one", "both"):
            folders.append(folder := tmp_path / f"{form}-{name}")
            save(folder, form)
            for other in others:
                (folder / other).write_text("{}")
        as_processor(folder)
    answer = subprocess.run(
        [sys.executable, "-c", OPENED, *map(str, folders)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    # Weights are mapped, which Python does not see. Of two files with settings one is opened.
    assert (
        answer.stdout.splitlines()
        == [f"config.json {PREPROCESSOR}", f"config.json {PROCESSOR}"] * 3
    )
    for folder, both in zip(folders[::2], folders[1::2], strict=True):
        assert sorted(checkpoint_files("m", folder)) == PLAIN
        assert sorted(checkpoint_files("m", both)) == [*PLAIN, PROCESSOR]


@pytest.mark.parametrize("processor", [None, {"processor_class": "Wav2Vec2Processor"}])
def test_what_helps_where_no_file_has_the_settings(
    processor: dict[str, str] | None, copy: Path
) -> None:
    from transformers import AutoFeatureExtractor

    source = described(copy).key["source"]
    original = copy.with_name("original")
    shutil.copytree(copy, original)
    (copy / PREPROCESSOR).unlink()
    if processor:
        (copy / PROCESSOR).write_text(json.dumps(processor))
    with pytest.raises(ModelError, match=f"{copy} lacks {PREPROCESSOR}: .*not guessed") as caught:
        described(copy)
    assert (f"its {PROCESSOR} holds no feature_extractor" in str(caught.value)) == bool(processor)
    caught.match(r"AutoFeatureExtractor.from_pretrained\(.*\).save_pretrained\(")
    AutoFeatureExtractor.from_pretrained(original).save_pretrained(copy)
    if not processor:
        assert described(copy).key["source"] == source
    assert described(copy).key["input_normalisation"] == "zero-mean-unit-variance"


def test_safetensors_are_read_and_hashed_where_both_are_there(copy: Path) -> None:
    description = described(copy)
    audio = speechlike((0.5,))
    expected = Encoder(description).embed(audio)["mean"]
    zeros = {name: weight * 0 for name, weight in load_file(copy / "model.safetensors").items()}
    torch.save(zeros, copy / "pytorch_model.bin")
    both = described(copy)
    assert both.key == description.key
    np.testing.assert_array_equal(Encoder(both).embed(audio)["mean"], expected)
    (copy / "model.safetensors").unlink()
    assert described(copy).files[-1] == "pytorch_model.bin"
    assert described(copy).key["source"] != description.key["source"]


def test_every_shard_counts(tmp_path: Path) -> None:
    model = save(tmp_path, "wav2vec2-layer-stable")
    (tmp_path / "model.safetensors").unlink()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    files = described(tmp_path).files
    shards = [file for file in files if file.startswith("model-0")]
    assert len(shards) > 1
    assert set(files) == {*PLAIN[:1], PREPROCESSOR, "model.safetensors.index.json", *shards}
    seen = {described(tmp_path).key["source"]}
    for name in files:
        with (tmp_path / name).open("ab") as file:
            file.write(b" ")
        seen.add(described(tmp_path).key["source"])
    assert len(seen) == 1 + len(files)


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": 1}}', '{"weight_map": {"a": "../b"}}'],
)
def test_an_index_that_is_none_is_named(content: str, copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match=r"model.safetensors.index.json"):
        described(copy)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"auto_map": {"AutoModel": "mine.Model"}}, r"auto_map: AutoModel: mine.Model.*never run"),
        ({"configuration_files": ["config.4.0.0.json"]}, "configuration_files"),
        ({"transformers_weights": "other.safetensors"}, "transformers_weights: other.safetensors"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised weights"),
    ],
)
def test_a_config_that_points_elsewhere_is_refused(
    changes: dict[str, Any], message: str, copy: Path
) -> None:
    edit(copy / "config.json", **changes)
    with pytest.raises(ModelError, match=f"^m: .*config.json .*{message}"):
        described(copy)


def test_code_of_a_head_alone_is_let_be(copy: Path) -> None:
    edit(copy / "config.json", auto_map={"AutoModelForAudioClassification": "mine.Head"})
    edit(copy / "config.json", quantization_config=None)
    assert described(copy).trained


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adapter_config.json", "adapter_config.json: .*peft is installed.*merge it"),
        ("shard-00001-model-00001-of-00002.safetensors", "distributed checkpoint .*move them"),
    ],
)
def test_files_that_would_change_what_is_computed_are_refused(
    name: str, message: str, copy: Path
) -> None:
    (copy / name).write_text("{}")
    with pytest.raises(ModelError, match=f"^m: {copy} has .*{message}"):
        described(copy)


@pytest.mark.parametrize("name", PLAIN)
def test_a_folder_that_changes_after_the_plan_is_refused(name: str, copy: Path) -> None:
    description = described(copy)
    content = (copy / name).read_bytes()
    with (copy / name).open("ab") as file:
        file.write(b" " if name.endswith("json") else b"")
    if name == "model.safetensors":
        (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelError, match="is not what it was when the work was planned"):
        Encoder(description)
    (copy / name).write_bytes(content)
    Encoder(description)


def test_links_are_the_files_they_lead_to(checkpoint: Path, tmp_path: Path) -> None:
    for path in checkpoint.iterdir():
        (tmp_path / path.name).symlink_to(path)
    assert described(tmp_path).key == described(checkpoint).key
    (tmp_path / PREPROCESSOR).unlink()
    (tmp_path / PREPROCESSOR).symlink_to(tmp_path / "nowhere")
    with pytest.raises(ModelError, match=f"lacks {PREPROCESSOR}"):
        described(tmp_path)


# A process of its own: the Hub's cache and address are read from the environment, and once.
FETCH = """
import json, sys
from pathlib import Path
from extract.encoders.fetch import fetch
from extract.encoders.description import describe
from extract.encoders.registry import Model
from features.common.errors import ModelError
model = Model("mine", "transformers", "me/mine")
try:
    for line in fetch([model], Path(sys.argv[1])):
        print(line)
    found = describe(model, precision="float32", max_seconds=60)
    print(json.dumps([*found.files, found.key["input_normalisation"]]))
except ModelError as error:
    print(json.dumps(str(error)))
"""


def fetched(stores: Path, **environment: str) -> Any:
    stores.mkdir(exist_ok=True)
    answer = subprocess.run(
        [sys.executable, "-c", FETCH, str(stores)],
        env={**os.environ, "PYTHONPATH": str(TOP), "HF_HUB_CACHE": str(stores / "hub"),
             **environment},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])


def repository(folder: Path, *, without: str = "", **changes: Any) -> dict[str, bytes]:
    """The files of a folder with a processor's file beside them."""
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != without}
    settings = {**json.loads((folder / PREPROCESSOR).read_text()), **changes}
    return {**files, PROCESSOR: json.dumps({"feature_extractor": settings}).encode()}


@pytest.mark.process
def test_the_settings_of_a_processor_are_fetched_and_compared(
    checkpoint: Path, tmp_path: Path
) -> None:
    files = repository(checkpoint, without=PREPROCESSOR, do_normalize=False)
    with serve(files, COMMIT) as (endpoint, asked):
        found = fetched(tmp_path, HF_ENDPOINT=endpoint)
    assert found == ["config.json", PROCESSOR, "model.safetensors", "none"]
    assert sorted(asked) == ["config.json", "model.safetensors", PROCESSOR]
    record = json.loads((tmp_path / "weights.json").read_text())["mine"]
    assert record["files"][PROCESSOR]["sha256"] == hashlib.sha256(files[PROCESSOR]).hexdigest()
    assert record["absent"] == [PREPROCESSOR, "adapter_config.json"]
    assert fetched(tmp_path, HF_HUB_OFFLINE="1") == found
    folder = Path(record["folder"])
    # Neither a file that changed, nor one that came beside them, nor one that went.
    content = json.loads((folder / PROCESSOR).read_text())
    (folder / PROCESSOR).write_text(json.dumps({**content, "more": 1}))
    assert f"{PROCESSOR} not as fetched" in fetched(tmp_path, HF_HUB_OFFLINE="1")
    (folder / PROCESSOR).write_bytes(files[PROCESSOR])
    shutil.copy(checkpoint / PREPROCESSOR, folder)
    assert f"{PREPROCESSOR} not as fetched" in fetched(tmp_path, HF_HUB_OFFLINE="1")
    (folder / PROCESSOR).unlink()
    assert f"{PROCESSOR}, {PREPROCESSOR} not as" in fetched(tmp_path, HF_HUB_OFFLINE="1")


@pytest.mark.process
def test_a_cache_that_another_program_filled_is_completed(checkpoint: Path, tmp_path: Path) -> None:
    """What an earlier version fetched lacks the processor's file, and so does its record."""
    files = repository(checkpoint, do_normalize=False)
    place = tmp_path / "hub/models--me--mine"
    shutil.copytree(checkpoint, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(COMMIT)
    # Without a network the cache is what there is.
    usual = ["config.json", PREPROCESSOR, "model.safetensors", "zero-mean-unit-variance"]
    assert fetched(tmp_path, HF_HUB_OFFLINE="1") == usual
    record = json.loads((tmp_path / "weights.json").read_text())["mine"]
    assert "absent" not in record
    with serve(files, COMMIT) as (endpoint, asked):
        message = fetched(tmp_path, HF_ENDPOINT=endpoint)
    assert asked == [PROCESSOR]
    assert "do_normalize is false in processor_config.json" in message
    assert "in a copy of the folder that [models.mine] path = ... names" in message
    record = json.loads((tmp_path / "weights.json").read_text())["mine"]
    assert PROCESSOR in record["files"]
    assert record["absent"] == ["adapter_config.json"]


def test_a_model_of_no_repository_has_nothing_to_fetch(tmp_path: Path) -> None:
    assert list(fetch([Model("mfcc", "acoustic")], tmp_path)) == ["mfcc: nothing to fetch"]
    assert not list(tmp_path.iterdir())
