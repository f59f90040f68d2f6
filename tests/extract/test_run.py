"""The extraction as a cache: what is computed, what is kept, what is refused, what fails."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from transformers import AutoModel

from extract import acoustic
from extract.__main__ import main, parser
from extract.arguments import models_of
from extract.audio import Clip
from extract.encoders.families.table import FAMILIES
from extract.encoders.registry import find_model
from extract.job import compute as compute_module
from extract.job import parts
from extract.job import run as run_module
from extract.job.device import Machine
from extract.plan.batches import Pending
from extract.plan.work import Item, make_target, plan_work
from features.__main__ import parser as features_parser
from features.common.command import run_chosen, run_command
from features.common.errors import CorpusError, ModelError, RecipeError, StoreError
from features.corpora import read_corpus
from features.recipe.load import load_recipe
from features.stores.failures import FAILURE_COLUMNS, read_failures
from features.stores.key import file_digest
from features.stores.read import Store
from features.stores.write import write_store
from features.survey import survey
from features.utterances import read_table
from tests.checkpoints import save
from tests.extract.test_reference import by_transformers, made


@pytest.fixture
def extract(tmp_path: Path, make_corpus, tones_recipe, capsys: pytest.CaptureFixture[str]):
    """Run the command over the corpus `tones`; gives exit code and output."""
    if not (tmp_path / "data").exists():
        make_corpus()

    def call(*more: str, models: str = '["mfcc"]', extra: str = "") -> tuple[int, str]:
        recipe = tones_recipe(models, extra)
        argv = [str(recipe), "--data", str(tmp_path / "data"), "--stores", str(tmp_path / "stores")]
        capsys.readouterr()
        code = main(parser().parse_args([*argv, "--jobs", "1", *more]))
        return code, "".join(capsys.readouterr())

    return call


def contents(tmp_path: Path, model: str = "mfcc") -> dict[str, np.ndarray]:
    with Store(tmp_path / "stores" / "tones" / f"{model}.h5") as store:
        assert store.verify() == []
        matrix = store.read("last", "mean")
        return dict(zip(store.index["utterance"], matrix, strict=True))


def overwrite(tmp_path: Path, name: str, seed: int = 1) -> None:
    samples = np.random.default_rng(seed).normal(0, 0.1, 9_000)
    sf.write(tmp_path / "data" / "tones" / f"{name}.wav", samples, 16_000)


def manifest(tmp_path: Path, change) -> None:
    path = tmp_path / "data" / "tones" / "manifest.csv"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(change(lines)) + "\n", encoding="utf-8")


def test_a_first_extraction_and_a_second_that_has_nothing_to_do(extract, tmp_path: Path) -> None:
    code, text = extract()
    assert code == 0
    assert "tones/mfcc: 12 to do (" in text
    assert "tones/mfcc: 12 computed, 0 cached" in text
    before = (tmp_path / "stores/tones/mfcc.h5").stat().st_mtime_ns
    code, text = extract()
    assert (code, "tones/mfcc: 12 of 12 cached, nothing to do" in text) == (0, True)
    assert (tmp_path / "stores/tones/mfcc.h5").stat().st_mtime_ns == before
    assert sorted(p.name for p in (tmp_path / "stores/tones").iterdir()) == [
        "files.json", "mfcc.h5", "utterances.csv", "utterances.json",
    ]  # fmt: skip


def test_without_the_demo_corpus_the_command_that_makes_it_is_named(tmp_path: Path) -> None:
    recipe = Path(__file__).resolve().parents[2] / "recipes/demo-fusion.toml"
    words = ["--data", str(tmp_path), "--stores", str(tmp_path), "--members", "mfcc"]
    with pytest.raises(CorpusError, match=f"no such folder: .*`make demo RECIPE={recipe}` makes"):
        main(parser().parse_args([str(recipe), *words]))


def test_the_table_has_lengths_and_hashes_of_the_audio(extract, tmp_path: Path) -> None:
    extract()
    frame = read_table(tmp_path / "stores" / "tones").rows
    for row in frame.itertuples():
        info = sf.info(tmp_path / "data" / "tones" / row.path)
        assert row.seconds == info.frames / info.samplerate
        assert len(row.audio_hash) == 32


def test_edit_one_add_two_delete_one_computes_three(extract, tmp_path: Path) -> None:
    extract()
    before = contents(tmp_path)
    overwrite(tmp_path, "u03")
    overwrite(tmp_path, "new1", 2)
    overwrite(tmp_path, "new2", 3)
    (tmp_path / "data/tones/u05.wav").unlink()
    manifest(
        tmp_path,
        lambda lines: (
            [x for x in lines if "u05" not in x] + ["new1.wav,s1,low", "new2.wav,s2,high"]
        ),
    )
    code, text = extract()
    assert code == 0
    assert "tones/mfcc: 10 of 13 cached, 1 to be removed, 3 to do" in text
    assert "tones/mfcc: 3 computed, 10 cached" in text
    after = contents(tmp_path)
    assert sorted(after) == sorted((set(before) - {"u05"}) | {"new1", "new2"})
    for name in set(before) - {"u03", "u05"}:
        np.testing.assert_array_equal(after[name], before[name])
    assert not np.allclose(after["u03"], before["u03"])


def test_a_deleted_utterance_leaves_without_any_computing(extract, tmp_path: Path) -> None:
    extract()
    manifest(tmp_path, lambda lines: [x for x in lines if "u05" not in x])
    code, text = extract()
    assert (code, "0 computed, 11 cached, 1 removed" in text) == (0, True)
    assert "u05" not in contents(tmp_path)


def test_a_file_that_was_only_touched_is_hashed_again_but_not_computed(
    extract, tmp_path: Path
) -> None:
    extract()
    os.utime(tmp_path / "data/tones/u03.wav", ns=(1, 1))
    _, text = extract()
    assert "12 of 12 cached, nothing to do" in text


def test_another_precision_on_the_same_store_is_refused_with_both_values(
    extract, tmp_path: Path
) -> None:
    extract(models='["wav2vec2-tiny"]')
    with pytest.raises(StoreError) as caught:
        extract("--precision", "bfloat16", models='["wav2vec2-tiny"]')
    for part in ("wav2vec2-tiny.h5", "precision: stored 'float32', asked 'bfloat16'", "FORCE=1"):
        assert part in str(caught.value)
    code, _ = extract("--precision", "bfloat16", "--force", models='["wav2vec2-tiny"]')
    assert code == 0
    with Store(tmp_path / "stores/tones/wav2vec2-tiny.h5") as store:
        assert store.key["precision"] == "bfloat16"
        assert store.title == "wav2vec2-tiny (untrained)"


def test_layers_of_the_recipe_are_those_stored(extract, tmp_path: Path) -> None:
    extract(models='["wav2vec2-tiny"]')
    with Store(tmp_path / "stores/tones/wav2vec2-tiny.h5") as store:
        all_layers = {layer: store.read(layer, "mean") for layer in store.layers}
    assert sorted(all_layers) == [0, 1, 2, 3, 4]
    extract("--force", models='["wav2vec2-tiny"]', extra="[extract]\nlayers = [2, 4]")
    with Store(tmp_path / "stores/tones/wav2vec2-tiny.h5") as store:
        assert store.layers == [2, 4]
        for layer in (2, 4):
            np.testing.assert_allclose(store.read(layer, "mean"), all_layers[layer], rtol=1e-5)


def test_force_computes_everything_again(extract) -> None:
    extract()
    _, text = extract("--force")
    assert "tones/mfcc: 12 computed, 0 cached" in text


def test_a_truncated_store_is_replaced_by_force_as_its_error_says(extract, tmp_path: Path) -> None:
    extract()
    store = tmp_path / "stores/tones/mfcc.h5"
    whole = store.read_bytes()
    store.write_bytes(whole[:3000])
    for more in ((), ("--verify",)):
        with pytest.raises(StoreError, match=r"truncated.*make extract MODEL=mfcc FORCE=1 replac"):
            extract(*more)
    assert extract("--force")[0] == 0
    assert store.read_bytes() == whole


def test_what_is_odd_in_a_corpus_is_said_once_and_shortly(extract, tmp_path: Path) -> None:
    lost = [f"a-file-that-is-not-there-{i}.wav,s0,low" for i in range(8)]
    manifest(tmp_path, lambda lines: [*lines, *lost])
    _, text = extract()
    remarks = [line for line in text.splitlines() if line.startswith("tones: ")]
    assert len(remarks) == 2
    assert remarks[0].endswith(" ...")
    assert len(remarks[0]) <= 80
    assert remarks[1] == "tones: `python -m features table tones` says all of it"
    assert "tones: " not in extract()[1]


def spoil(tmp_path: Path) -> dict[str, str]:
    """Make five utterances unusable; gives their reasons."""
    root = tmp_path / "data" / "tones"
    (root / "u00.wav").unlink()
    (root / "u01.wav").write_bytes(b"no audio")
    sf.write(root / "u02.wav", np.zeros(100), 16_000)
    sf.write(root / "u03.wav", np.array([0.0, np.nan] * 4_000), 16_000, subtype="FLOAT")
    sf.write(root / "u04.wav", np.zeros(0), 16_000)
    return {
        "u00": "no such file",
        "u01": "cannot be read as audio",
        "u02": "no frame: 100 samples",
        "u03": "4000 samples are NaN",
        "u04": "empty: no samples",
    }


def test_bad_utterances_are_left_out_listed_and_counted(extract, tmp_path: Path) -> None:
    reasons = spoil(tmp_path)
    code, text = extract()
    assert code == 1
    n_unreadable, n_to_do = 4, 8  # what is too short for the model shows when it is decoded
    assert "odd: tones: 1 row is silent (all samples alike, or channels that cancel out)" in text
    assert f"0 of 12 cached, {n_unreadable} without features (unreadable), {n_to_do} to do" in text
    assert "7 computed, 0 cached, 5 failed (see" in text
    assert "5 utterances lack features" in text
    assert "ALLOW_FAILURES=5" in text
    lines = (tmp_path / "stores/tones/mfcc.failures.csv").read_text().splitlines()
    assert lines[0] == "corpus,utterance,path,reason,audio_hash,key"
    for line, (name, reason) in zip(lines[1:], reasons.items(), strict=True):
        assert line.startswith(f"tones,{name},")
        assert f"{name}.wav" in line
        assert reason in line
    assert sorted(contents(tmp_path)) == [f"u{i:02}" for i in range(5, 12)]
    assert extract("--allow-failures", "5")[0] == 0
    assert extract("--allow-failures", "4")[0] == 1


def test_what_failed_is_not_tried_again_until_its_audio_changes(extract, tmp_path: Path) -> None:
    spoil(tmp_path)
    extract()
    _, text = extract()
    listed = tmp_path / "stores/tones/mfcc.failures.csv"
    assert f"7 of 12 cached, 5 without features (see {listed}), nothing to do" in text
    for name in ("u00", "u01", "u02", "u03"):
        overwrite(tmp_path, name)
    code, text = extract()
    assert code == 1
    assert "4 computed, 7 cached, 1 failed" in text
    overwrite(tmp_path, "u04")
    code, text = extract()
    assert (code, "1 computed, 11 cached" in text) == (0, True)
    assert not (tmp_path / "stores/tones/mfcc.failures.csv").exists()


@pytest.fixture
def seventy(make_corpus) -> None:
    """More utterances than a checksum covers."""
    make_corpus(70)


def flip(path: Path, row: np.ndarray) -> None:
    """Flip a bit of the first stored value of a row."""
    raw = bytearray(path.read_bytes())
    raw[raw.index(row.tobytes())] ^= 1
    path.write_bytes(raw)


def test_damage_is_healed_by_computing_the_rows_of_the_damaged_block_again(
    seventy, extract, tmp_path: Path
) -> None:
    extract()
    store = tmp_path / "stores/tones/mfcc.h5"
    undisturbed = store.read_bytes()
    with Store(store) as before:
        row = before.read("last", "mean")[before.index["utterance"].tolist().index("u65")]
    flip(store, row)
    code, text = extract()
    assert (code, "70 of 70 cached, nothing to do" in text) == (0, True)
    code, text = extract("--verify")
    assert code == 0, text
    assert "mfcc.h5: damaged: /mean, layer 0, utterances u64, u65, u66 and 3 more" in text
    assert "64 of 70 cached, 6 damaged, 6 to do" in text
    assert "6 computed, 64 cached" in text
    assert store.read_bytes() == undisturbed
    code, text = extract("--verify")
    assert (code, "nothing to do" in text) == (0, True)


@pytest.mark.slow
def test_values_that_are_not_finite_are_named_and_computed_again(
    seventy, extract, tmp_path: Path
) -> None:
    """Their checksums are right: they are what was written."""
    extract()
    path = tmp_path / "stores/tones/mfcc.h5"
    undisturbed = path.read_bytes()
    with Store(path) as store:
        values = {statistic: store.read("last", statistic) for statistic in store.statistics}
        values["mean"][[5, 65], 3] = np.inf, np.nan
        write_store(
            path, store.key, store.index, store.layers,
            lambda statistic, _, start, stop: values[statistic][start:stop],
            default=store.default, names=store.names,
            columns={statistic: store.columns(statistic) for statistic in store.statistics},
        )  # fmt: skip
    code, text = extract("--verify")
    assert code == 0, text
    for name in ("u05", "u65"):
        assert f"damaged: /mean, layer 0, utterances {name}: values that are not finite" in text
    assert "68 of 70 cached, 2 damaged, 2 to do" in text
    assert path.read_bytes() == undisturbed


def test_damage_that_a_merge_meets_stops_it_and_is_healed_with_what_is_sealed(
    seventy, extract, tmp_path: Path
) -> None:
    extract()
    store = tmp_path / "stores/tones/mfcc.h5"
    overwrite(tmp_path, "u03")
    with Store(store) as before:
        flip(store, before.read("last", "std")[65])
    damaged = store.read_bytes()
    with pytest.raises(StoreError, match=r"/std, layer 0, utterances u64.* VERIFY=1"):
        extract()
    assert store.read_bytes() == damaged
    code, text = extract("--verify")
    assert code == 0, text
    assert "1 sealed before" in text
    assert "6 computed, 63 cached" in text
    assert len(contents(tmp_path)) == 70


def test_all_bad_writes_no_store(extract, tmp_path: Path) -> None:
    for i in range(12):
        (tmp_path / "data" / "tones" / f"u{i:02}.wav").write_bytes(b"")
    code, text = extract()
    assert code == 1
    assert "no utterance could be computed; no store is written" in text
    assert not (tmp_path / "stores/tones/mfcc.h5").exists()


def stop_after(monkeypatch: pytest.MonkeyPatch, n_batches: int) -> None:
    """Let the extraction be interrupted when the given number of batches is finished."""
    embed, count = compute_module.begin_batch, [0]

    def interrupted(*args):
        if count[0] == n_batches:
            raise KeyboardInterrupt
        count[0] += 1
        return embed(*args)

    monkeypatch.setattr(compute_module, "begin_batch", interrupted)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["mfcc", "wav2vec2-tiny"])
def test_an_interrupted_extraction_goes_on_and_equals_an_undisturbed_one(
    extract, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"models": f'["{model}"]', "extra": "[extract]\nbatch_seconds = 2.0"}
    extract(**settings)
    store = tmp_path / f"stores/tones/{model}.h5"
    undisturbed = store.read_bytes()
    store.unlink()
    monkeypatch.setattr(parts, "SEAL_AFTER_S", 0.0)
    sealed = 0
    for n_batches in (1, 2):
        with monkeypatch.context() as patch:
            stop_after(patch, n_batches)
            with pytest.raises(KeyboardInterrupt):
                extract(**settings)
        kept = list((tmp_path / f"stores/tones/{model}.parts").glob("part-*.h5"))
        assert len(kept) == sealed + n_batches  # what was sealed stayed
        sealed = len(kept)
        assert not (tmp_path / f"stores/tones/{model}.lock").exists()
    times = {path: path.stat().st_mtime_ns for path in kept}
    stop_after(monkeypatch, 99)
    _, text = extract(**settings)
    assert "sealed before" in text
    assert len(times) == 3
    assert store.read_bytes() == undisturbed
    assert not store.with_suffix(".parts").exists()


@pytest.mark.slow
def test_a_damaged_part_is_redone(extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {"extra": "[extract]\nbatch_seconds = 2.0"}
    extract(**settings)
    store = tmp_path / "stores/tones/mfcc.h5"
    undisturbed = store.read_bytes()
    store.unlink()
    monkeypatch.setattr(parts, "SEAL_AFTER_S", 0.0)
    with monkeypatch.context() as patch:
        stop_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            extract(**settings)
    first, second = sorted((tmp_path / "stores/tones/mfcc.parts").glob("part-*.h5"))
    first.write_bytes(first.read_bytes()[:2_000])
    _, text = extract(**settings)
    assert f"{first}: damaged; its batches are computed again" in text
    assert store.read_bytes() == undisturbed


def test_an_extraction_under_way_with_another_key_is_refused(
    extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"models": '["wav2vec2-tiny"]', "extra": "[extract]\nbatch_seconds = 2.0"}
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        with pytest.raises(KeyboardInterrupt):
            extract(**settings)
    with pytest.raises(StoreError, match=r"under way \(precision: stored 'float32', asked 'bfl"):
        extract("--precision", "bfloat16", **settings)


def test_the_embedding_does_not_depend_on_batches_or_workers(extract, tmp_path: Path) -> None:
    extract(models='["wav2vec2-tiny"]', extra="[extract]\nbatch_seconds = 0.1\nworkers = 0")
    alone = contents(tmp_path, "wav2vec2-tiny")
    extract(
        "--force", models='["wav2vec2-tiny"]', extra="[extract]\nbatch_seconds = 8.0\nworkers = 2"
    )
    for name, value in contents(tmp_path, "wav2vec2-tiny").items():
        np.testing.assert_allclose(value, alone[name], rtol=1e-4, atol=1e-5)


class OutOfMemoryError(RuntimeError):
    """Named as torch's; a device cannot be filled up here."""


class Small:
    """An extractor with room for `room` utterances, which shows late or at once."""

    def __init__(self, room: int, late: bool = False) -> None:
        self.room, self.late, self.sizes = room, late, []
        self.asynchronous = late

    def begin(self, audio):
        self.sizes.append(len(audio))
        if len(audio) > self.room and not self.late:
            raise OutOfMemoryError

        def wait():
            if len(audio) > self.room:
                raise OutOfMemoryError
            return {"mean": np.array([[[samples.sum()] for samples in audio]], dtype=np.float32)}

        return wait


def items(names: str) -> list[Item]:
    return [Item(Pending(name, "0", 1.0), Clip(name, ""), 0, 0) for name in names]


@pytest.mark.parametrize("late", [False, True])
def test_out_of_memory_halves_the_batch_and_warns(late: bool) -> None:
    told: list[str] = []
    audio = [np.full(10, i, dtype=np.float32) for i in range(7)]
    extractor = Small(2, late)
    features, good, bad, _ = compute_module.begin_batch(
        extractor, items("abcdefg"), audio, told.append
    )()
    warnings = "\n".join(told)
    assert "out of memory with 7 utterances at once, trying 3" in warnings
    assert "out of memory with 4 utterances at once, trying 2" in warnings
    np.testing.assert_array_equal(features["mean"][0, :, 0], np.arange(7) * 10)
    assert ([item.job.utterance for item in good], bad) == (list("abcdefg"), [])
    assert extractor.sizes == [7, 3, 1, 2, 4, 2, 2]
    with pytest.raises(ModelError, match="not enough memory for one utterance of 0.0 s"):
        compute_module.begin_batch(Small(0, late), items("a"), audio[:1])()


def test_another_error_of_the_device_is_no_lack_of_memory() -> None:
    class Broken:
        def begin(self, audio):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        compute_module.begin_batch(Broken(), items("a"), [np.ones(5, np.float32)])


def test_rows_that_are_not_finite_fail() -> None:
    class Overflows:
        def begin(self, audio):
            values = np.ones((2, len(audio), 3), dtype=np.float32)
            values[1, 0, 2] = np.inf
            return lambda: {"mean": values}

    audio = [np.ones(5, np.float32)] * 2
    features, good, bad, _ = compute_module.begin_batch(Overflows(), items("ab"), audio)()
    assert [item.job.utterance for item in good] == ["b"]
    assert features["mean"].shape == (2, 1, 3)
    assert bad[0][0].job.utterance == "a"
    assert "not finite" in bad[0][1]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_on_a_device_that_works_by_itself_one_batch_is_queued_behind_the_one_waited_for(
    extract, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asynchronous: bool
) -> None:
    extract(extra="[extract]\nbatch_seconds = 2.0")
    undisturbed = contents(tmp_path)
    order: list[str] = []

    class Device(compute_module._Stack):
        def __init__(self) -> None:
            self.asynchronous = asynchronous

        def begin(self, audio):
            number = sum(step.startswith("begin") for step in order)
            order.append(f"begin {number}")
            wait = super().begin(audio)

            def waited():
                order.append(f"wait {number}")
                return wait()

            return waited

    monkeypatch.setattr(compute_module, "_Stack", Device)
    code, _ = extract("--force", extra="[extract]\nbatch_seconds = 2.0")
    assert code == 0
    n = len(order) // 2
    assert n > 3
    if asynchronous:
        expected = ["begin 0"]
        for i in range(1, n):
            expected += [f"begin {i}", f"wait {i - 1}"]
        assert order == [*expected, f"wait {n - 1}"]
    else:
        assert order == [step for i in range(n) for step in (f"begin {i}", f"wait {i}")]
    for name, row in contents(tmp_path).items():
        np.testing.assert_array_equal(row, undisturbed[name])


def test_a_store_that_another_finished_while_we_waited_is_not_computed_again(
    extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = run_module.WriterLock.__enter__
    text = []

    def after_another(self):
        monkeypatch.setattr(run_module.WriterLock, "__enter__", lock)
        text.append(extract()[1])
        return lock(self)

    monkeypatch.setattr(run_module.WriterLock, "__enter__", after_another)
    _, ours = extract("--wait")
    assert "12 computed, 0 cached" in text[0]
    assert "0 computed, 12 cached" in ours


def test_a_disk_that_is_too_small_is_refused_before_any_work(
    extract, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shutil

    monkeypatch.setattr(
        shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 900)
    )
    with pytest.raises(StoreError, match=r"the stores need 2.5 kB, the disk has 900 B free"):
        extract()
    assert not (tmp_path / "stores/tones/mfcc.h5").exists()


def test_what_is_missing_is_said_in_one_message(extract, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    with pytest.raises(CorpusError) as caught:
        extract(models='["mfcc", "xlsr-1b"]')
    text = str(caught.value)
    assert "tones" in text
    assert "facebook/wav2vec2-xls-r-1b" in text
    assert "fetches them from https://huggingface.co" in text


def test_unknown_models_and_members(extract) -> None:
    with pytest.raises(ModelError, match=r"'xlsr-1B'; did you mean 'xlsr-1b'"):
        extract("--model", "xlsr-1B")
    with pytest.raises(RecipeError, match="MODEL=log-mel: not in the recipe's list"):
        extract("--members", "log-mel")
    with pytest.raises(RecipeError, match=r"python -m extract fetch \S+ --model log-mel takes"):
        extract("--members", "log-mel", "--fetch")
    with pytest.raises(RecipeError) as caught:
        extract("--members", "log-mle")
    assert "takes it" not in str(caught.value)
    assert extract("--model", "log-mel")[0] == 0


@pytest.mark.parametrize("device", ["cuda", "cuda:77", "cuda:x", "tpu"])
def test_a_device_that_is_not_there_is_named(extract, device: str, tmp_path: Path) -> None:
    import torch

    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(ModelError, match=f"DEVICE={device}"):
        extract("--device", device, models='["mfcc", "wav2vec2-tiny"]')
    assert not list((tmp_path / "stores/tones").glob("mfcc.*"))  # it is looked for first
    assert extract("--device", device)[0] == 0  # which needs none


def test_labels_that_look_like_numbers_are_read_as_the_recipe_asks(extract, tmp_path: Path) -> None:
    manifest(tmp_path, lambda lines: [x.replace("low", "0").replace("high", "1") for x in lines])
    assert extract()[0] == 0
    table = read_table(tmp_path / "stores" / "tones")
    assert table.labels == {"emotion": ("0", "1")}
    assert table.targets == ()


def test_a_bad_file_counts_once_for_several_models(extract, tmp_path: Path) -> None:
    (tmp_path / "data/tones/u00.wav").unlink()
    code, text = extract(models='["mfcc", "log-mel"]')
    assert (code, "1 utterance lacks features" in text) == (1, True)
    assert extract("--allow-failures", "1", models='["mfcc", "log-mel"]')[0] == 0


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\0", b"utterance\na,b\n", b'corpus\n"', None])
def test_a_failures_file_that_cannot_be_read_counts_as_none(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "toy.failures.csv"
    path.mkdir() if content is None else path.write_bytes(content)
    frame = read_failures(tmp_path / "toy.h5")
    assert list(frame.columns) == FAILURE_COLUMNS
    assert frame.empty


# -- what a vector is looked up by ---------------------------------------------------------------


def test_a_row_that_moves_inside_files_of_equal_size_and_time_is_computed_again(
    extract, tmp_path: Path
) -> None:
    """What a second extraction makes of each place is what a first one makes of it."""
    root = tmp_path / "data/tones"
    rng = np.random.default_rng(0)
    quiet, loud = rng.normal(0, 0.01, 8_000), rng.normal(0, 0.3, 8_000)
    sf.write(root / "a.wav", np.r_[quiet, loud], 16_000)
    sf.write(root / "b.wav", np.r_[loud, quiet], 16_000)
    for name in "ab":
        os.utime(root / f"{name}.wav", (1.6e9, 1.6e9))

    def write(row: str) -> None:
        header = "utterance,path,start,end,speaker,emotion"
        (root / "manifest.csv").write_text(f"{header}\nu,{row},s,low\n")

    places = ("a.wav,0,0.5", "a.wav,0.5,1", "b.wav,0,1", "b.wav,,", "a.wav,,", "b.wav,0.5,1")
    seen = []
    for row in places:
        write(row)
        assert extract()[0] == 0
        seen.append(contents(tmp_path)["u"])
    for row, found in zip(places, seen, strict=True):
        write(row)
        (tmp_path / "stores/tones/mfcc.h5").unlink()
        assert extract("--force")[0] == 0
        np.testing.assert_array_equal(contents(tmp_path)["u"], found)
    # Of two pairs the samples are the same.
    assert len({samples.tobytes() for samples in seen}) == 4


def test_vectors_of_a_file_that_was_decoded_short_are_made_again_and_no_others(
    extract, tmp_path: Path
) -> None:
    root = tmp_path / "data/tones"
    once = tmp_path / "once.ogg"
    sf.write(once, np.random.default_rng(0).normal(0, 0.1, 8_000), 16_000)
    (root / "u03.ogg").write_bytes(once.read_bytes() * 2)
    manifest(tmp_path, lambda lines: [line.replace("u03.wav", "u03.ogg") for line in lines])
    assert extract()[0] == 0
    right = contents(tmp_path)
    # A store as it was written when the second half was dropped, and nothing was remembered.
    path = tmp_path / "stores/tones/mfcc.h5"
    with Store(path) as store:
        index = store.index.copy()
        values = store.read_rows(0, "mean", np.arange(12))
        std = store.read_rows(0, "std", np.arange(12))
        index.loc[3, "audio_hash"] = file_digest(root / "u03.ogg").hexdigest()
        values[3] = 0
        write_store(
            path, store.key, index, store.layers,
            lambda name, _, start, stop: {"mean": values, "std": std}[name][start:stop],
            default=store.default, names=store.names,
            columns={statistic: store.columns(statistic) for statistic in store.statistics},
        )  # fmt: skip
    (tmp_path / "stores/tones/files.json").unlink()
    code, text = extract()
    assert (code, "11 of 12 cached, 1 to do" in text) == (0, True)
    for name, found in contents(tmp_path).items():
        np.testing.assert_array_equal(found, right[name])
    assert "12 of 12 cached, nothing to do" in extract()[1]


def test_a_failure_is_one_of_its_settings(extract, tmp_path: Path) -> None:
    sf.write(tmp_path / "data/tones/u02.wav", np.ones(100) / 2, 16_000)
    assert "11 computed, 0 cached, 1 failed" in extract()[1]
    assert "11 of 12 cached, 1 without features" in extract()[1]
    path = tmp_path / "stores/tones/mfcc.failures.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][:-32] + "0" * 32]) + "\n")
    assert "11 of 12 cached, 1 to do" in extract()[1]
    assert path.read_text().splitlines() == lines


def test_a_file_that_changes_while_it_is_extracted_fails_and_is_tried_again(
    extract, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = compute_module.load_items

    def changing(target, batches, *more):
        # Someone writes over a file after it was hashed and planned.
        overwrite(tmp_path, "u05")
        os.utime(tmp_path / "data/tones/u05.wav", (1.6e9, 1.6e9))
        return load(target, batches, *more)

    monkeypatch.setattr(compute_module, "load_items", changing)
    code, text = extract()
    assert (code, "11 computed, 0 cached, 1 failed" in text) == (1, True)
    listed = (tmp_path / "stores/tones/mfcc.failures.csv").read_text()
    assert "its file was changed while it was extracted" in listed
    monkeypatch.setattr(compute_module, "load_items", load)
    code, text = extract()
    assert (code, "1 computed, 11 cached" in text) == (0, True)


def test_bytes_that_change_behind_their_time_are_found_by_verify_and_then_mended(
    extract, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def verify() -> tuple[int, str]:
        where = ["--data", str(tmp_path / "data"), "--stores", str(tmp_path / "stores")]
        code = run_command(run_chosen, features_parser(), ["verify", "--audio", *where])
        return code, capsys.readouterr().out

    assert extract()[0] == 0
    path, memory = tmp_path / "data/tones/u07.wav", tmp_path / "stores/tones/files.json"
    overwrite(tmp_path, "u07")
    # The memory as it would be had the disk changed the bytes and told nobody.
    files = json.loads(memory.read_text())
    status = path.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    files["files"][str(path)][0] = stamp
    memory.write_text(json.dumps(files))
    assert "12 of 12 cached, nothing to do" in extract()[1]
    code, text = verify()
    assert (code, "u07.wav: its audio has changed; run make extract" in text) == (1, True)
    assert "1 computed, 11 cached" in extract()[1]
    assert verify()[0] == 0


def test_odd_names_are_told_whole_every_time(extract, tmp_path: Path) -> None:
    """One label in capitals and in two Unicode forms, a speaker with a no-break blank."""

    def change(lines: list[str]) -> list[str]:
        cells = [line.split(",") for line in lines]
        speaker, emotion = cells[0].index("speaker"), cells[0].index("emotion")
        for row in cells[1:]:
            row[emotion] = f"{row[emotion]} \u00e9"
        cells[1][emotion] = cells[1][emotion].upper()
        cells[2][emotion] = cells[2][emotion].replace("\u00e9", "e\u0301")
        cells[3][speaker] = f"{cells[3][speaker]}\u00a0"
        cells[4][speaker] = "a\u00a0b"
        cells[5][speaker] = "a b"
        return [",".join(row) for row in cells]

    manifest(tmp_path, change)
    for _ in range(2):
        code, text = extract()
        assert code == 0
        odd = [line for line in text.splitlines() if line.startswith("odd: tones: ")]
        assert len(odd) == 3
        assert odd[0].startswith("odd: tones: 2 names stood in several spellings (accents, blanks")
        assert "speaker 'a b' (1 row) = 'a\\xa0b' (1 row)" in odd[0]
        assert "e\\u0301' (1 row)" in odd[0]
        assert odd[1].startswith("odd: tones: 1 group of names differs in case, blanks or")
        assert odd[2].startswith("odd: tones: 1 class of emotion has one row: ")


def test_whisper_s_padding_is_said_in_the_plan_and_shortened_by_the_recipe(
    extract, tmp_path: Path
) -> None:
    save(tmp_path / "weights", "whisper")
    mine = f'name = "mine", path = "{tmp_path / "weights"}"'
    code, text = extract("--plan", models=f"[{{{mine}}}]")
    assert code == 0, text
    assert re.search(r"mine computes 30 s for every clip, of \d\.\d s at the most: \[models.mine\] "
                     r"context_s = \.\.\. computes less", text)  # fmt: skip
    code, text = extract("--plan", models=f"[{{{mine}, context_s = 1}}]")
    assert (code, "for every clip" in text) == (0, False), text
    code, text = extract(models=f"[{{{mine}, context_s = 1}}]")
    assert code == 0, text
    with Store(tmp_path / "stores/tones/mine.h5") as store:
        assert store.key["context_s"] == 1.0
    with pytest.raises(StoreError, match="context_s: stored 1.0, asked None"):
        extract(models=f"[{{{mine}}}]")
    with pytest.raises(ModelError, match="context_s: is of encoders that pad all audio to one"):
        extract(models='[{name = "mfcc", context_s = 1}]')


@pytest.fixture
def conformer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A list of models with one of a family that is known to transformers alone, here at least."""
    monkeypatch.delitem(FAMILIES, "wav2vec2-conformer", raising=False)
    made(tmp_path / "weights", "wav2vec2-conformer")
    return f'[{{name = "other", path = "{tmp_path / "weights"}"}}]'


def test_a_family_that_is_not_known_goes_file_by_file_and_says_so(
    extract, conformer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sf.write(tmp_path / "data/tones/u03.wav", np.full(500, 0.1), 16_000)
    settings = {"models": conformer}
    remark = "other: wav2vec2-conformer by transformers' own forward, file by file"
    code, text = extract("--plan", **settings)
    assert code == 0
    assert remark in text
    assert "12 batches on cpu, 1.00x padded" in text
    code, text = extract(**settings)
    assert code == 0, text
    assert remark in text
    with Store(tmp_path / "stores/tones/other.h5") as store:
        assert store.key["engine"] == "reference"
        assert store.verify() == []
        found = store.read(2, "mean")
        names = store.index["utterance"].tolist()
    samples, _ = sf.read(tmp_path / "data/tones/u05.wav", dtype="float32")
    model = AutoModel.from_pretrained(tmp_path / "weights").eval()
    expected = by_transformers(model, tmp_path / "weights", "wav2vec2-conformer", samples)[2]
    np.testing.assert_allclose(found[names.index("u05")], expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(compute_module, "load_extractor", None)
    code, text = extract(**settings)
    assert (code, "nothing to do" in text, remark in text) == (0, True, False)
    with pytest.raises(ModelError, match="expected one of data2vec-audio, hubert"):
        extract(models=conformer, extra='[extract]\nengine = "exact"')


def test_a_reference_extraction_that_is_interrupted_goes_on(
    extract, conformer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"models": conformer, "extra": "[extract]\nlayers = [1, 2]"}
    extract(**settings)
    store = tmp_path / "stores/tones/other.h5"
    undisturbed = store.read_bytes()
    store.unlink()
    monkeypatch.setattr(parts, "SEAL_AFTER_S", 0.0)
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(KeyboardInterrupt):
            extract(**settings)
    _, text = extract(**settings)
    assert "5 sealed before" in text
    assert store.read_bytes() == undisturbed


def test_too_little_audio_for_a_reference_model_fails_alone(extract, tmp_path: Path) -> None:
    made(tmp_path / "weights", "moonshine")
    sf.write(tmp_path / "data/tones/u03.wav", np.full(500, 0.1), 16_000)
    code, text = extract(models=f'[{{name = "other", path = "{tmp_path / "weights"}"}}]')
    assert code == 1
    assert "11 computed" in text
    reasons = read_failures(tmp_path / "stores/tones/other.h5")
    assert reasons["utterance"].tolist() == ["u03"]
    assert "MoonshineEncoder makes nothing of 500 samples" in reasons["reason"][0]


def test_another_engine_is_another_store(extract) -> None:
    settings = {"models": '["wav2vec2-tiny"]'}
    extract(**settings)
    code, text = extract(**settings, extra='[extract]\nengine = "exact"')
    assert (code, "nothing to do" in text) == (0, True)
    with pytest.raises(StoreError, match="engine: stored None, asked 'reference'"):
        extract(**settings, extra='[extract]\nengine = "reference"')


def test_the_commands_and_the_flags_that_stood_for_them_are_one(tmp_path: Path) -> None:
    def parsed(*words: str) -> dict[str, object]:
        found = vars(parser().parse_args(words))
        assert found.pop("prog").startswith("python -m extract")
        return found

    for command in ("plan", "fetch"):
        assert parsed(command, "a.toml", "--force") == parsed("a.toml", f"--{command}", "--force")
    assert parsed("extract", "a.toml", "--jobs", "2") == parsed("--jobs", "2", "a.toml")
    former = parser().parse_args(["a.toml", "--members", "x,y"])
    assert models_of(former) == models_of(parser().parse_args(["a.toml", "--model", "x,y"]))
    with pytest.raises(SystemExit):
        parsed("plan", "a.toml", "--fetch")


def test_the_library_prints_nothing(extract, tmp_path: Path, capsys) -> None:
    extract()
    recipe = load_recipe(tmp_path / "tones.toml")
    root = tmp_path / "data/tones"
    seen = survey(read_corpus("tones", root, reader="manifest"), root, tmp_path / "stores/tones")
    target = make_target(find_model("mfcc"), acoustic.describe("mfcc"))
    capsys.readouterr()
    work = plan_work("tones", target, seen, tmp_path / "stores", force=True)
    done = run_module.run(work, Machine("cpu", recipe.extract.batch_seconds, 1, 0))
    assert done.computed == 12
    assert capsys.readouterr().out == ""
