"""The plan as numbers, and a few utterances of it as spoken in a process of their own."""

import importlib.util
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import soundfile

from features.common.errors import UserError
from features.corpora import read_corpus
from features.corpora.compare import TARGETS
from features.corpora.demo import N_SPEAKERS, STAMP, is_complete, synthesise
from features.corpora.demo.plan import CUES, PARTITIONS, WEIGHTS, plan

SIZES = (6, 3, 2)
HERE = Path(__file__).resolve().parents[2]
needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs espeakng-loader"
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "demo"
    synthesise(root, SIZES)
    return root


def files_of(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_plan_is_disjoint_by_speaker():
    speakers = defaultdict(set)
    utterances = plan()
    for one in utterances:
        speakers[one.speaker.partition].add(one.speaker.name)
    assert len(set.union(*speakers.values())) == sum(map(len, speakers.values())) == N_SPEAKERS
    partitions = [one.speaker.partition for one in utterances]
    assert tuple(map(partitions.count, ("train", "devel", "test"))) == PARTITIONS
    assert len({one.name for one in utterances}) == sum(PARTITIONS)


def test_shares_are_those_of_the_field():
    shares = np.array([one.shares for one in plan()])
    assert (shares.max(axis=1) == 1.0).all()
    assert shares.min() == 0.0
    zeros = (shares == 0).mean(axis=0)
    assert (zeros >= 0.25).all()
    assert (zeros <= 2 / 3).all()


def test_each_emotion_has_cues_in_three_groups():
    groups = [group for group, *_ in CUES.values()]
    for weights in WEIGHTS.values():
        assert len({g for g, w in zip(groups, weights, strict=True) if w}) >= 3
    assert np.linalg.matrix_rank(np.array(list(WEIGHTS.values()))) == len(TARGETS)


def test_a_part_of_the_plan_is_the_plans_beginning():
    whole, part = plan(), plan(SIZES)
    starts = (0, PARTITIONS[0], PARTITIONS[0] + PARTITIONS[1])
    wanted = [whole[s + n] for s, size in zip(starts, SIZES, strict=True) for n in range(size)]
    assert [one.name for one in part] == [one.name for one in wanted]
    assert [one.cues for one in part] == [one.cues for one in wanted]


@needs_espeak
def test_corpus_reads_as_planned(small):
    table = read_corpus("demo", small)
    spoken = {one.name.removesuffix(".wav"): one for one in plan(SIZES)}
    assert table.rows["utterance"].tolist() == sorted(spoken)
    assert {one.kind for one in table.findings} == {"unmasked", "counts"}
    for row in table.rows.itertuples():
        one = spoken[row.utterance]
        assert (row.speaker, row.gender, row.language, row.partition) == (
            one.speaker.name, one.speaker.gender, one.speaker.language, one.speaker.partition
        )  # fmt: skip
        assert [getattr(row, target) for target in TARGETS] == one.shares.tolist()
    masked = (small / "lab/test.csv").read_text().splitlines()[1]
    assert masked.endswith(",?" * len(TARGETS))


@needs_espeak
def test_audio_is_speech_sized(small):
    for path in sorted((small / "wav").iterdir()):
        samples, rate_hz = soundfile.read(path)
        assert rate_hz == 16000
        assert 1 < len(samples) / rate_hz < 8
        assert 0.01 < np.abs(samples).max() <= 1


@needs_espeak
def test_complete_corpus_is_left_alone_and_another_is_replaced(small, tmp_path):
    assert is_complete(small, SIZES)
    assert not is_complete(small)
    before = {path: path.stat().st_mtime_ns for path in small.rglob("*")}
    synthesise(small, SIZES)
    assert {path: path.stat().st_mtime_ns for path in small.rglob("*")} == before
    root = tmp_path / "demo"
    synthesise(root, (2, 1, 1))
    stamp = json.loads((root / STAMP).read_text())
    (root / STAMP).write_text(json.dumps({**stamp, "version": 0}))
    (root / "wav/0001.wav").write_bytes(b"")
    synthesise(root, (2, 1, 1))
    assert (root / "wav/0001.wav").stat().st_size > 10000
    assert is_complete(root, (2, 1, 1))
    assert [path.name for path in tmp_path.iterdir()] == ["demo"]


def test_other_folders_are_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something that is no demo corpus"):
        synthesise(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@needs_espeak
@pytest.mark.process
def test_fresh_processes_make_the_same_bytes(small, tmp_path):
    again = tmp_path / "again"
    code = f"from features.corpora.demo import synthesise; synthesise({str(again)!r}, {SIZES})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE)
    assert files_of(again) == files_of(small)


@pytest.mark.process
def test_missing_synthesiser_says_how_to_get_it(tmp_path):
    code = """
import sys, importlib.abc
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "espeakng_loader":
            raise ImportError(name)
sys.meta_path.insert(0, Block())
from features.corpora.demo.speech import load_espeak
load_espeak()
"""
    command = [sys.executable, "-c", code]
    made = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE)
    assert made.returncode == 1
    assert "pip install espeakng-loader" in made.stderr
    assert "EXTRAS" in made.stderr
