"""Folders with links, loops, pipes and names in two forms: what is there is found once."""

from __future__ import annotations

import os
import random
import socket
import unicodedata
from pathlib import Path

import pytest

from features.common.errors import CorpusError
from features.common.walk import Lookup, existing, find_place, walk
from features.corpora import read_corpus
from features.new_audio import audio_table
from tests.features.test_corpora import kinds, touch, write

COMPOSED, DECOMPOSED = "Zo\u00eb.wav", "Zoe\u0308.wav"
WAV = (".wav",)


def link(root: Path, name: str, to: str | Path) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).symlink_to(to)


def told(root: Path) -> dict[str, tuple[str, ...]]:
    return {one.kind: one.examples for one in walk(root, WAV)[1]}


def test_folders_and_links_to_them_are_listed_once(tmp_path: Path) -> None:
    root = touch(tmp_path / "c", "one/a.wav", "b.wav", "one/deep/c.WAV", "one/no.txt")
    link(root, "aaa", "one")  # by name before the folder itself
    link(root, "two", "one")
    link(root, "self", ".")
    link(root, "one/up", "..")
    link(root, "one/deep/far", root)
    files, _ = walk(root, WAV)
    assert files == ["b.wav", "one/a.wav", "one/deep/c.WAV"]
    (finding,) = walk(root, WAV)[1]
    assert (finding.kind, finding.count) == ("links-passed-over", 5)
    assert finding.examples == (
        "aaa (is one)", "one/deep/far (is .)", "one/up (is .)", "self (is .)", "two (is one)",
    )  # fmt: skip


def test_a_link_to_a_folder_above_leads_nowhere_new(tmp_path: Path) -> None:
    root = touch(tmp_path, "up.wav", "c/a.wav") / "c"
    link(root, "x/up", tmp_path)
    assert walk(root, WAV)[0] == ["a.wav"]
    assert told(root) == {"links-passed-over": ("x/up (a folder above)",)}


def test_links_out_of_the_folder_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "store/a.wav", "store/sub/b.wav")
    root = touch(tmp_path / "c", "d.wav")
    link(root, "one", tmp_path / "store/sub")
    link(root, "two", tmp_path / "store")
    link(root, "three", tmp_path / "store")
    link(tmp_path, "store/back", root)
    assert walk(root, WAV)[0] == ["d.wav", "one/b.wav", "three/a.wav"]
    assert told(root)["links-passed-over"] == (
        "three/back (is .)", "three/sub (is one)", "two (is three)",
    )  # fmt: skip
    # The folder that is walked may be a link itself.
    link(tmp_path, "entry", root)
    assert walk(tmp_path / "entry", WAV)[0] == walk(root, WAV)[0]


def test_many_loops_end(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.wav")
    for number in range(30):  # followed blindly, 30 ** 40 folders
        link(root, f"loop{number}", ".")
    assert walk(root, WAV)[0] == ["a.wav"]
    assert find_place(root, lambda place: (place / "lab").is_dir()) is None
    assert audio_table([str(root)])[0].rows["utterance"].tolist() == ["a"]


def test_the_order_of_the_disk_does_not_matter(tmp_path: Path) -> None:
    names = [f"{folder}/{n}.wav" for folder in "xyz" for n in range(4)]
    found = []
    for seed in range(4):
        random.Random(seed).shuffle(names)
        root = touch(tmp_path / str(seed), *names)
        links = [("l1", "x"), ("l2", "x"), ("l0", "../other")]
        random.Random(seed).shuffle(links)
        touch(tmp_path, "other/o.wav")
        for name, to in links:
            link(root, name, to)
        files, findings = walk(root, WAV)
        found.append((files, [one.text for one in findings]))
    assert found.count(found[0]) == 4


def test_a_corpus_of_links_into_a_content_store(tmp_path: Path) -> None:
    """As git-annex has it: names that are links; two of one content; one that is not there."""
    touch(tmp_path, ".git/annex/objects/K1/K1.wav", ".git/annex/objects/K2/K2.wav")
    for name, key in (("03a01Fa", "K1"), ("03a01Wa", "K2"), ("08a01Na", "K2"), ("08a02Na", "K9")):
        link(tmp_path, f"wav/{name}.wav", f"../.git/annex/objects/{key}/{key}.wav")
    table = read_corpus("emodb", tmp_path)
    assert table.rows["utterance"].tolist() == ["03a01Fa", "03a01Wa", "08a01Na", "08a02Na"]
    assert table.rows["path"].tolist()[0] == "wav/03a01Fa.wav"
    found = kinds(table)
    assert found["files-twice"].examples == ("08a01Na.wav (is 03a01Wa.wav)",)
    assert found["links-dangling"].examples == ("08a02Na.wav",)
    assert "datalad get" in found["links-dangling"].text


def test_a_second_name_of_a_file_stays_and_is_told(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.wav")
    os.link(root / "a.wav", root / "hard.wav")
    link(root, "soft.wav", "a.wav")
    assert walk(root, WAV)[0] == ["a.wav", "hard.wav", "soft.wav"]
    assert told(root) == {"files-twice": ("hard.wav (is a.wav)", "soft.wav (is a.wav)")}


def test_pipes_sockets_and_loops_of_links_do_not_hang(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.wav")
    os.mkfifo(root / "pipe.wav")
    link(root, "to-pipe.wav", "pipe.wav")
    link(root, "null.wav", "/dev/null")
    link(root, "round.wav", "round.wav")
    link(root, "gone", "/nowhere/at/all")
    with socket.socket(socket.AF_UNIX) as one:
        here = os.getcwd()
        os.chdir(root)  # the name of a socket has at most 107 bytes
        one.bind("socket.wav")
        os.chdir(here)
        assert walk(root, WAV)[0] == ["a.wav", "round.wav"]
        found = told(root)
    assert found["no-files"] == ("null.wav", "pipe.wav", "socket.wav", "to-pipe.wav")
    assert found["links-dangling"] == ("gone", "round.wav")
    with pytest.raises(CorpusError, match=r"pipe.wav': a pipe, socket or device"):
        audio_table([str(root / "pipe.wav")])
    os.mkfifo(root / "manifest.csv")
    with pytest.raises(CorpusError, match=r"manifest.csv: cannot be read: is a pipe"):
        read_corpus("mine", root, reader="manifest")


def test_a_pipe_that_a_manifest_names_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.wav")
    write(touch(tmp_path, "a.wav") / "manifest.csv", "path", "p.wav", "a.wav")
    table = read_corpus("mine", tmp_path, reader="manifest")
    assert kinds(table)["labels-without-audio"].examples == ("p.wav",)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    root = touch(tmp_path, "a.wav", "shut/b.wav")
    (root / "shut").chmod(0)
    try:
        assert walk(root, WAV)[0] == ["a.wav"]
        assert told(root)["folders-unreadable"] == ("shut (Permission denied)",)
    finally:
        (root / "shut").chmod(0o700)


def test_no_folder_has_no_files(tmp_path: Path) -> None:
    assert walk(tmp_path / "none", WAV) == ([], [])
    assert walk(tmp_path, WAV) == ([], [])


def test_both_forms_of_one_name_are_refused(tmp_path: Path) -> None:
    root = touch(tmp_path, f"x/{COMPOSED}", f"x/{DECOMPOSED}", "x/a.wav")
    pair = r"x: 1 name stands there in both Unicode forms, .*: 'Zoe\\u0308.wav' and 'Zo\\xeb.wav'"
    with pytest.raises(CorpusError, match=pair):
        Lookup(root)(f"x/{COMPOSED}")
    with pytest.raises(CorpusError, match=r"1 name stands .*'x/Zoe\\u0308.wav' and 'x/Zo\\xeb"):
        audio_table([str(root)])
    # Of folders as well; other names in the same folder are not touched by it.
    assert Lookup(root)("x/a.wav") == "x/a.wav"
    both = touch(tmp_path / "two", "Zo\u00eb/a.wav", "Zoe\u0308/b.wav")
    with pytest.raises(CorpusError, match="in both Unicode forms"):
        walk(both, WAV)
    write(root / "manifest.csv", "path", f"x/{DECOMPOSED}")
    with pytest.raises(CorpusError, match="in both Unicode forms"):
        read_corpus("mine", root, reader="manifest")


def test_a_link_may_give_a_file_its_other_form(tmp_path: Path) -> None:
    root = touch(tmp_path, DECOMPOSED)
    link(root, COMPOSED, DECOMPOSED)
    assert len(walk(root, WAV)[0]) == 1
    assert Lookup(root)(COMPOSED) == COMPOSED
    assert told(root)["links-passed-over"] == ("'Zo\\xeb.wav' (is 'Zoe\\u0308.wav')",)


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_paths_are_looked_up_in_either_form(tmp_path: Path, on_disk: str, written: str) -> None:
    real = unicodedata.normalize(on_disk, "fö/äß ü.wav")
    asked = unicodedata.normalize(written, "fö/äß ü.wav")
    root = touch(tmp_path, real, "plain.wav")
    look_up = Lookup(root)
    assert look_up(asked) == real
    assert look_up(f"fö/../{asked}".replace("fö/..", ".")) == f"./{real}"
    assert look_up.file(f"{root}/{asked}") == f"{root}/{real}"
    assert look_up("plain.wav") == "plain.wav"
    assert look_up("nö.wav") is None
    assert look_up.file("fö") is None
    assert look_up("fö") == real.partition("/")[0]
    assert existing(root / asked) == root / real
    assert existing(root / "gone/ö") == root / "gone/ö"


def test_a_mixture_of_both_forms_and_odd_blanks_are_found(tmp_path: Path) -> None:
    mixed = "e\u0301\u00e9.wav"  # neither form
    root = touch(tmp_path, mixed, "a b.wav", "two  blanks.wav")
    assert Lookup(root)("\u00e9\u00e9.wav") == mixed
    assert Lookup(root)("a\u00a0b.wav") == "a b.wav"
    assert Lookup(root)("two blanks.wav") == "two  blanks.wav"
    touch(root, "a  b.wav")
    assert Lookup(root)("a b.wav") == "a b.wav"
    assert Lookup(root)("a\u00a0b.wav") is None  # it could be either


def test_a_place_is_found_behind_folders_before_links(tmp_path: Path) -> None:
    touch(tmp_path, "m/lab/train.csv")
    link(tmp_path, "a", "m")
    assert find_place(tmp_path, lambda place: (place / "lab").is_dir()) == tmp_path / "m"


def test_new_audio_named_twice_by_a_link_counts_once(tmp_path: Path) -> None:
    root = touch(tmp_path, "in/a.wav", "in/sub/b.wav")
    link(root, "again", "in")
    table, _ = audio_table([str(root / "in"), str(root / "again"), str(root / "again/sub")])
    assert table.rows["path"].tolist() == [f"{root}/in/a.wav", f"{root}/in/sub/b.wav"]
    (finding,) = table.findings
    assert finding.count == 2
    assert finding.text.startswith("2 files are named a second time, by links to folders, and are")
