"""Features out of stores and into stores."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from extract.__main__ import main as extract
from extract.__main__ import parser as extract_parser
from features.common.command import run_command
from features.common.errors import StoreError
from features.exchange.feature_files import Matcher
from features.exchange.incoming import source_hash
from features.exchange.outgoing import export_features
from features.matrix import load
from features.stores.key import store_path
from features.stores.read import Store
from features.utterances import CONTENT, read_table, write_table
from tests.features.test_matrix import make_store

IDS = [f"u{i:02}" for i in range(12)]
NAMES = ["F0_sma[1]", "pcm,loudness", "c"]


@pytest.fixture
def values(rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((12, 3)).astype(np.float32)


@pytest.fixture
def table(tmp_path: Path, make_corpus, features) -> Path:
    """The manifest corpus `tones` with a table that nobody has extracted yet."""
    root = make_corpus()
    assert features("table", "tones", "--root", str(root))[0] == 0
    return tmp_path / "stores" / "tones"


@pytest.fixture
def bring(tmp_path: Path, features):
    """Import files for `tones` as `mine`."""

    def call(*argv: object) -> tuple[int, str]:
        where = ["--corpus", "tones", "--as", "mine", "--data", str(tmp_path / "data")]
        return features("import", *map(str, argv), *where)

    return call


def write_csv(path: Path, values: np.ndarray, ids: list[str], header: str, line: str) -> Path:
    """`line` is a format of name and values."""
    rows = [
        line.format(name, *map(repr, row.tolist())) for name, row in zip(ids, values, strict=True)
    ]
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def plain(path: Path, values: np.ndarray, ids: list[str] = IDS) -> Path:
    return write_csv(path, values, ids, "filename,a,b,c", "{}.wav,{},{},{}")


def stored(tmp_path: Path) -> tuple[np.ndarray, Store]:
    with Store(store_path(tmp_path / "stores", "tones", "mine")) as store:
        assert store.verify() == []
        return store.read("last", "functionals"), store


# -- layouts that are read ---------------------------------------------------------------------


def test_comparE_files_are_stacked(table: Path, values: np.ndarray, tmp_path: Path, bring) -> None:
    header = "'name';'frameTime';" + ";".join(f"'{name}'" for name in NAMES)
    files = [
        write_csv(
            tmp_path / f"{part}.csv", values[rows], IDS[rows], header, "'{}.wav';0.000000;{};{};{}"
        )
        for part, rows in (("train", slice(6, 12)), ("devel", slice(2)), ("test", slice(2, 6)))
    ]
    code, text = bring(*files)
    assert code == 0, text
    X, store = stored(tmp_path)
    np.testing.assert_array_equal(X, values)
    assert store.names == {"functionals": NAMES}
    hashes = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in files)
    source = hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    assert store.key == {
        "model": "mine", "source": f"imported:sha256:{source}", "layers": [0], "n_layers": 0,
        "statistics": ["functionals"], "precision": "float32", "sampling_rate": 0,
        "input_normalisation": "unknown", "parameters": {"left_out": ["frameTime"]}, "numerics": 2,
    }  # fmt: skip
    assert store.default == ["functionals"]
    assert source_hash(files[::-1]) == source


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("name;a;b;c", "{}.wav;{};{};{}"),
        ("file,start,end,a,b,c", "/mnt/x/{}.flac,0 days,0 days 00:00:01.5,{},{},{}"),
        (",filename,a,b,c", "7,wav/{}.wav,{},{},{}"),
        ('"whatever","a","b","c"', '"{}","{}","{}","{}"'),
        ("\ufeffutterance,a,b,c", " {} , {}, {}, {}\r"),
        ("filename;a;b;c", ".\\\\{}.WAV;{};{};{}\n"),
    ],
)
def test_headers_and_names_in_use(
    header: str, line: str, table: Path, values: np.ndarray, tmp_path: Path, bring
) -> None:
    path = write_csv(tmp_path / "f.csv", values[::-1], IDS[::-1], header, line)
    code, text = bring(path)
    assert code == 0, text
    X, store = stored(tmp_path)
    np.testing.assert_array_equal(X, values)
    assert store.names["functionals"] == ["a", "b", "c"]
    assert store.index["utterance"].tolist() == IDS


def test_ids_are_matched_by_id_stem_and_path_and_never_guessed() -> None:
    frame = pd.DataFrame(
        {"utterance": ["x/a", "y/a", "b.1", "é"],
         "path": ["wav/x/a.wav", "wav/y/a.wav", "wav/b.1.wav", "/abs/é.aiff"]}
    )  # fmt: skip
    find = Matcher(frame)
    assert find("x/a.wav") == "x/a"
    assert find("data/wav/y/a.wav") == "y/a"
    assert find("a.wav") == {"x/a", "y/a"}
    assert find("b.1") == find("b.1.wav") == find("/mnt/b.1.flac") == "b.1"
    assert find("b") == find("b.2") == find("z/a") == set()
    assert find("e\u0301.aiff") == find("/abs/é.aiff") == find("é") == "é"
    assert find("") == set()


def test_columns_that_are_no_features_are_dropped_where_asked(
    table: Path, values: np.ndarray, tmp_path: Path, bring
) -> None:
    path = write_csv(tmp_path / "f.csv", values, IDS, "name,a,b,c,label", "{},{},{},{},angry")
    code, text = bring(path)
    assert code == 1
    assert f"{path}, line 2, column 'label': 'angry' is no number" in text
    assert bring(path, "--drop", "label")[0] == 0
    X, store = stored(tmp_path)
    np.testing.assert_array_equal(X, values)
    assert store.key["parameters"] == {"left_out": ["label"]}
    code, text = bring(path, "--drop", "lable")
    assert (code, "no column 'lable' to drop; did you mean 'label'?" in text) == (1, True)


# -- refusals ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("nan", "'nan' is not finite"), ("-inf", "'-inf' is not finite"), ("", "is empty"),
        ("?", "'?' is no number"), ("1_000", "'1_000' is no number"),
        ("1e39", "'1e39' is beyond float32"),
    ],
)  # fmt: skip
def test_a_cell_that_is_no_float32_is_named(
    cell: str, what: str, table: Path, values: np.ndarray, tmp_path: Path, bring
) -> None:
    path = plain(tmp_path / "f.csv", values)
    lines = path.read_text().splitlines()
    for number in (3, 5):
        cells = lines[number].split(",")
        lines[number] = ",".join([*cells[:2], cell, cells[3]])
    path.write_text("\n".join(lines))
    code, text = bring(path)
    assert code == 1
    assert "2 faults" in text
    assert f"{path}, line 4, column 'b': {what}" in text
    assert f"{path}, line 6, column 'b': {what}" in text
    assert not (table / "mine.h5").exists()


def test_many_faults_are_counted_and_the_first_named(
    table: Path, values: np.ndarray, tmp_path: Path, bring
) -> None:
    path = plain(tmp_path / "f.csv", np.full_like(values, np.nan))
    text = bring(path)[1]
    assert "36 faults" in text
    assert "and 31 more" in text
    assert len(text.splitlines()) == 7


def test_duplicates_name_both_rows(table: Path, values: np.ndarray, tmp_path: Path, bring) -> None:
    first = plain(tmp_path / "a.csv", values)
    second = plain(tmp_path / "b.csv", values[:1], IDS[:1])
    code, text = bring(first, second)
    assert code == 1
    assert f"{second}, line 2: u00.wav is u00, which stands in {first}, line 2 already" in text
    assert "make functionals first" not in text
    frames = write_csv(
        tmp_path / "lld.csv", values[:2], ["u00", "u00"], "name;frameTime;a", "{};0.01;{}"
    )
    assert "make functionals first" in bring(frames)[1]
    assert "a file is named twice" in bring(first, first)[1]


def test_headers_that_say_nothing_usable(
    table: Path, values: np.ndarray, tmp_path: Path, bring
) -> None:
    path = tmp_path / "f.csv"
    for content, message in (
        ("", "line 1 is empty"),
        ("name\nu00\n", "no column of features"),
        ("name,a,a,b\nu00,1,2,3\n", "1 column stands twice: a"),
        ("name,a,\nu00,1,2\n", "column 3 has no name"),
        ("u00.wav,1.5,2.5\nu01.wav,1,2\n", "line 1 is the row of u00.wav"),
        ("name,a\nu00,1\nu01,1,2\n", "line 3: 3 cells, the header has 2"),
        ('name,a\nu00,"1\n', "line 2"),
    ):
        path.write_text(content)
        code, text = bring(path)
        assert (code, message in text) == (1, True), text
    path.write_bytes(b"name,a\n\xfc00,1\n")
    assert "not UTF-8 text" in bring(path)[1]
    assert "cannot be read: No such file" in bring(tmp_path / "none.csv")[1]
    (tmp_path / "f.arff").write_text("@relation x\n")
    assert ".arff is not read" in bring(tmp_path / "f.arff")[1]
    other = write_csv(tmp_path / "b.csv", values, IDS, "name,a,x,c", "{},{},{},{}")
    text = bring(plain(path, values), other)[1]
    assert "first difference: 'x' for 'b'" in text


def test_rows_and_utterances_without_a_partner(
    table: Path, values: np.ndarray, tmp_path: Path, bring
) -> None:
    path = plain(tmp_path / "f.csv", values, ["u00", "zz", *IDS[2:]])
    code, text = bring(path)
    assert code == 1
    assert f"1 row of no utterance of the table: zz.wav in {path}, line 3" in text
    assert "1 of 12 utterances without features: u01" in text
    assert "--allow-missing 2 takes what there is (now 0)" in text
    assert bring(path, "--allow-missing", 1)[0] == 1
    code, text = bring(path, "--allow-missing", 2)
    assert code == 0, text
    X, store = stored(tmp_path)
    np.testing.assert_array_equal(X, values[[0, *range(2, 12)]])
    failures = pd.read_csv(table / "mine.failures.csv")
    assert failures[["utterance", "reason"]].to_numpy().tolist() == [["u01", f"no row in {path}"]]
    plain(path, values)
    assert bring(path, "--force")[0] == 0
    assert not (table / "mine.failures.csv").exists()
    plain(path, values, [f"v{i:02}" for i in range(12)])
    code, text = bring(path, "--force", "--allow-missing", 99)
    assert (code, "none of 12 rows is of an utterance" in text) == (1, True)


def test_a_store_of_another_key_is_replaced_by_force_alone(
    table: Path, values: np.ndarray, tmp_path: Path, bring
) -> None:
    path = plain(tmp_path / "f.csv", values)
    forget_audio(table)
    assert bring(path)[0] == 0
    before = (table / "mine.h5").read_bytes()
    assert bring(path)[0] == 0
    assert (table / "mine.h5").read_bytes() == before  # the same file again
    plain(path, values + 1)
    code, text = bring(path)
    assert code == 1
    assert "mine.h5: made from something else (source: imported:sha256:" in text
    assert "--force" in text
    assert len(text) < 230 + len(str(table))  # one short line
    assert (table / "mine.h5").read_bytes() == before
    code, text = bring(path, "--force")
    assert code == 0
    assert re.search(r"\nreplaced: imported:sha256:[0-9a-f]{12}, 12 rows\n", text)
    np.testing.assert_array_equal(stored(tmp_path)[0], values + 1)
    (table / "mine.h5").write_bytes(before[:1000])
    assert bring(path)[0] == 1
    assert "replaced: a file that could not be read" in bring(path, "--force")[1]
    (table / "mine.parts").mkdir()
    code, text = bring(path, "--force")
    assert (code, "an extraction of this name is under way" in text) == (1, True)


def test_an_extracted_store_is_replaced_by_no_import(
    extracted: Path, values: np.ndarray, tmp_path: Path, features, capsys
) -> None:
    store = store_path(tmp_path / "stores", "tones", "mfcc")
    before = store.read_bytes()
    argv = ["import", str(plain(tmp_path / "f.csv", values)), "--corpus", "tones"]
    code, text = features(*argv, "--as", "mfcc", "--force")
    assert (code, "mfcc.h5: was extracted (" in text) == (1, True)
    assert "choose another name with --as, or delete the file first" in text
    assert store.read_bytes() == before
    assert features(*argv, "--as", "log-mel")[0] == 0
    lines = features("status", str(extracted))[1].splitlines()
    assert lines[2].split()[:4] == ["tones", "log-mel", "imported,", "complete"]
    assert lines[-1].startswith("2 stores: 1 complete, 1 imported; ")
    assert run_extract(tmp_path, extracted) == 1
    assert "log-mel.h5: was imported (imported:sha256:" in capsys.readouterr().err


def test_a_decimal_comma_is_called_one(
    table: Path, values: np.ndarray, tmp_path: Path, bring
) -> None:
    path = write_csv(tmp_path / "f.csv", values, IDS, "name;a;b;c", "{};{};{};{}")
    lines = path.read_text().splitlines()
    lines[3] = "u02;1.5;-0,25;2"
    path.write_text("\n".join(lines))
    hint = "line 4, column 'b': '-0,25' is no number (a decimal comma? write -0.25)"
    assert hint in bring(path)[1]


def test_a_damaged_import_is_to_be_imported_again(
    table: Path, values: np.ndarray, tmp_path: Path, bring
) -> None:
    import h5py

    path = table / "mine.h5"
    assert bring(plain(tmp_path / "f.csv", values))[0] == 0
    with h5py.File(path, "r") as file:
        offset = file["functionals"].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[offset] ^= 1
    path.write_bytes(raw)
    with Store(path) as store, pytest.raises(StoreError, match="layer 0, .*; import it again"):
        store.read("last", "functionals", check=True)


def test_a_name_that_cannot_name_a_file_and_a_corpus_without_a_table(
    table: Path, values: np.ndarray, tmp_path: Path, features
) -> None:
    path = str(plain(tmp_path / "f.csv", values))
    code, text = features("import", path, "--corpus", "tones", "--as", "a/b")
    assert (code, "cannot name a file" in text) == (1, True)
    code, text = features("import", path, "--corpus", "nowhere", "--as", "mine")
    assert (code, "no utterance table there; write it anew" in text) == (1, True)


# -- audio hashes ------------------------------------------------------------------------------


def test_the_audio_is_hashed_where_the_table_has_no_hashes(
    table: Path, values: np.ndarray, tmp_path: Path, tones_recipe, bring, features
) -> None:
    path = plain(tmp_path / "f.csv", values)
    forget_audio(table)
    code, text = features("import", str(path), "--corpus", "tones", "--as", "mine")
    assert code == 1
    assert "12 utterances whose audio has no hash yet and cannot be read" in text
    assert "--data or --root" in text
    (tmp_path / "data/tones/u04.wav").rename(tmp_path / "u04.wav")
    code, text = bring(path)
    assert (code, "1 utterance whose audio has no hash yet" in text) == (1, True)
    assert bring(path, "--allow-missing", 1)[0] == 0
    assert len(stored(tmp_path)[1].index) == 11
    (tmp_path / "u04.wav").rename(tmp_path / "data/tones/u04.wav")
    assert bring(path)[0] == 0
    index = stored(tmp_path)[1].index
    audio = (tmp_path / "data/tones/u07.wav").read_bytes()
    assert index["audio_hash"][7] == hashlib.blake2b(audio, digest_size=16).hexdigest()
    assert index["size"][7] == len(audio)


def forget_audio(folder: Path) -> None:
    """Make the table one of a corpus whose audio nobody has looked at."""
    table = read_table(folder)
    table.rows = table.rows.assign(seconds=np.nan, **dict.fromkeys(CONTENT, ""))
    write_table(folder, table)


def run_extract(tmp_path: Path, recipe: Path, *more: str) -> int:
    where = ["--data", str(tmp_path / "data"), "--stores", str(tmp_path / "stores")]
    return run_command(extract, extract_parser(), [str(recipe), *where, *more])


def test_an_imported_store_is_complete_after_an_extraction_and_is_left_alone(
    table: Path, values: np.ndarray, tmp_path: Path, tones_recipe, bring, features, capsys
) -> None:
    path = plain(tmp_path / "f.csv", values)
    forget_audio(table)
    assert bring(path)[0] == 0
    before = (table / "mine.h5").read_bytes()
    recipe = tones_recipe('["mfcc", "mine"]')
    assert run_extract(tmp_path, recipe) == 0
    out = capsys.readouterr().out
    assert "tones/mine: imported:sha256:" in out
    assert "12 of 12 utterances; nothing to extract" in out
    assert (read_table(table).rows["audio_hash"] != "").all()
    assert run_extract(tmp_path, recipe, "--set", 'extract.frames=["last"]') == 1
    assert "mine: imported features have no frames: set frames = [] in" in capsys.readouterr().err
    assert run_extract(tmp_path, recipe, "--set", "extract.segments=8") == 1
    assert "have no segments: set segments = 0 in [models.mine]" in capsys.readouterr().err
    lines = features("status", str(recipe))[1].splitlines()
    assert [line.split()[1:3] for line in lines[1:3]] == [
        ["mfcc", "complete"],
        ["mine", "imported,"],
    ]
    X, y, _ = load(recipe, model="mine", stores=tmp_path / "stores")
    np.testing.assert_array_equal(X, values)
    assert y.tolist() == ["low"] * 6 + ["high"] * 6
    assert bring(path)[0] == 0  # now by the table's hashes
    index = stored(tmp_path)[1].index
    assert index["audio_hash"].tolist() == read_table(table).rows["audio_hash"].tolist()
    assert index["size"].tolist() == [0] * 12
    assert run_extract(tmp_path, recipe, "--force", "--model", "mine") == 0
    assert (table / "mine.h5").read_bytes() != before
    np.testing.assert_array_equal(stored(tmp_path)[0], values)


def test_extract_says_what_an_imported_store_lacks(
    table: Path, values: np.ndarray, tmp_path: Path, tones_recipe, bring, capsys
) -> None:
    recipe = tones_recipe('["mine"]')
    assert run_extract(tmp_path, recipe) == 1
    err = capsys.readouterr().err
    assert "unknown speech model 'mine'" in err
    assert "come in by `python -m features import`" in err
    assert bring(plain(tmp_path / "f.csv", values[1:], IDS[1:]), "--allow-missing", 1)[0] == 0
    changed = tmp_path / "data/tones/u03.wav"
    changed.write_bytes((tmp_path / "data/tones/u04.wav").read_bytes())
    capsys.readouterr()
    assert run_extract(tmp_path, recipe) == 0
    out = capsys.readouterr().out
    assert "10 of 12 utterances, partial (lacks 1), stale (1 changed); import it again" in out


def test_extract_names_the_corpus_that_lacks_an_import(
    table: Path, values: np.ndarray, tmp_path: Path, tones_recipe, make_corpus, bring, capsys
) -> None:
    make_corpus(name="more")
    recipe = tones_recipe('["mine"]', extra='[corpora.more]\nreader = "manifest"')
    assert bring(plain(tmp_path / "f.csv", values))[0] == 0
    assert run_extract(tmp_path, recipe) == 1
    err = capsys.readouterr().err
    assert "mine is imported for tones and not for more" in err
    assert "--corpus more --as mine" in err


# -- export ------------------------------------------------------------------------------------


@pytest.fixture
def awkward(rng: np.random.Generator, tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A store of three layers with float32 of every size, and its last layer."""
    bits = rng.integers(0, 2**32, (3, 12, 50), dtype=np.uint32)
    data = bits.view(np.float32)
    data[~np.isfinite(data)] = 0.1
    data[2, 0, :6] = [0.1, -0.0, 1e-45, 3.4028235e38, 16777217, 1 / 3]
    make_store(tmp_path / "stores", "tones", data, IDS)
    return store_path(tmp_path / "stores", "tones", "toy"), data[2]


def bits_of(values: np.ndarray) -> list[list[int]]:
    return np.ascontiguousarray(values).view(np.uint32).tolist()


def test_export_as_csv_reads_back_to_the_same_float32(
    awkward: tuple[Path, np.ndarray], tmp_path: Path, features
) -> None:
    path, last = awkward
    code, text = features("export", "tones", "toy", "--to", str(tmp_path / "out.csv"))
    assert code == 0, text
    frame = pd.read_csv(tmp_path / "out.csv")
    assert list(frame.columns) == ["utterance", *(f"f{i}" for i in range(50))]
    assert frame["utterance"].tolist() == IDS
    assert bits_of(frame.iloc[:, 1:].to_numpy(np.float32)) == bits_of(last)


def test_export_as_npz_has_no_pickle(
    awkward: tuple[Path, np.ndarray], tmp_path: Path, features
) -> None:
    path, last = awkward
    to = tmp_path / "new" / "out.npz"
    assert features("export", str(path), "--to", str(to))[0] == 0
    with np.load(to, allow_pickle=False) as file:
        assert sorted(file) == ["X", "names", "utterance"]
        assert file["utterance"].tolist() == IDS
        assert file["X"].dtype == np.float32
        assert bits_of(file["X"]) == bits_of(last)
        assert file["names"][:2].tolist() == ["f0", "f1"]
    assert [one.name for one in to.parent.iterdir()] == ["out.npz"]


def test_export_takes_a_layer_or_their_mean(
    awkward: tuple[Path, np.ndarray], tmp_path: Path, features
) -> None:
    path, _ = awkward
    for layer in ("0", "mean"):
        to = tmp_path / f"{layer}.npz"
        assert features("export", str(path), "--layer", layer, "--to", str(to))[0] == 0
        with np.load(to) as file, Store(path) as store:
            wanted = store.read(0 if layer == "0" else "mean", "mean")
            np.testing.assert_array_equal(file["X"], wanted)
    code, text = features("export", str(path), "--layer", "7", "--to", str(tmp_path / "x.npz"))
    assert (code, "layer 7 needs layer 7, stored are 0-2" in text) == (1, True)
    with pytest.raises(SystemExit):
        features("export", str(path), "--layer", "first", "--to", "x.npz")


def test_statistics_side_by_side_have_names_of_their_own(
    extracted: Path, tmp_path: Path, features
) -> None:
    for more, n, first, last in (
        ([], 26, "mfcc-0_mean", "mfcc-12_std"),
        (["--statistic", "std"], 13, "mfcc-0", "mfcc-12"),
    ):
        to = tmp_path / "out.csv"
        assert features("export", "tones", "mfcc", *more, "--to", str(to))[0] == 0
        header = to.read_text().splitlines()[0].split(",")
        assert (len(header), header[1], header[-1]) == (n + 1, first, last)
    code, text = features("export", "tones", "mfcc", "--statistic", "max", "--to", str(to))
    assert (code, "no statistic 'max'; stored are mean, std" in text) == (1, True)


def test_exports_that_are_refused_leave_nothing(
    awkward: tuple[Path, np.ndarray], tmp_path: Path, features
) -> None:
    path, _ = awkward
    assert "the suffix says what to write" in features("export", str(path), "--to", "out.xls")[1]
    code, text = features("export", "tones", "tiny", "--to", str(tmp_path / "out.csv"))
    assert (code, "no such store; there are " in text) == (1, True)
    assert features("export", "a", "b", "c", "--to", "out.csv")[0] == 1
    import h5py

    with h5py.File(path, "r") as file:
        offset = file["mean"].id.get_offset()
        n_bytes = file["mean"].id.get_storage_size()
    raw = bytearray(path.read_bytes())
    raw[offset + n_bytes - 1] ^= 1
    path.write_bytes(raw)
    code, text = features("export", str(path), "--to", str(tmp_path / "out.csv"))
    assert (code, "damaged" in text) == (1, True)
    assert not list(tmp_path.glob("*out.csv*"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_export_and_import_give_the_same_floats(
    suffix: str, awkward: tuple[Path, np.ndarray], table: Path, tmp_path: Path, bring
) -> None:
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path, last = awkward
    to = tmp_path / f"out{suffix}"
    export_features(path, to)
    assert bring(to)[0] == 0
    X, store = stored(tmp_path)
    assert bits_of(X) == bits_of(last)
    assert store.names["functionals"][-1] == "f49"


def test_parquet_with_an_index_and_with_faults(
    table: Path, values: np.ndarray, tmp_path: Path, bring
) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "f.parquet"
    frame = pd.DataFrame(values, columns=NAMES, index=pd.Index(IDS, name="file"))
    frame.to_parquet(path)
    assert bring(path)[0] == 0
    np.testing.assert_array_equal(stored(tmp_path)[0], values)
    frame.loc["u05", "c"] = np.nan
    frame["text"] = "x"
    frame.to_parquet(path)
    text = bring(path, "--force")[1]
    assert "13 faults" in text
    assert f"{path}, row 1, column 'text': 'x' is no number" in text
    frame.drop(columns="text").to_parquet(path)
    assert f"{path}, row 6, column 'c': nan is not finite" in bring(path, "--force")[1]
    path.write_bytes(b"no Parquet")
    assert "no Parquet file" in bring(path)[1]


def test_without_pyarrow_parquet_says_how_to_get_it(
    awkward: tuple[Path, np.ndarray], table: Path, tmp_path: Path, features, bring, monkeypatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "pyarrow" else find(n))
    code, text = features("export", str(awkward[0]), "--to", str(tmp_path / "x.parquet"))
    assert (code, "pip install pyarrow" in text) == (1, True)
    code, text = bring(tmp_path / "x.parquet")
    assert (code, "pip install pyarrow" in text) == (1, True)


def test_names_on_the_command_line_and_in_the_header_are_in_one_form(
    table: Path, values: np.ndarray, tmp_path: Path, features
) -> None:
    header = "file\u200bname,a\u0308,b\u00a0 b,\ufeffc"
    path = write_csv(tmp_path / "f.csv", values, IDS, header, "\u200b{}.wav,{},{},{}")
    where = ["--corpus", "to\u200bnes", "--data", str(tmp_path / "data")]
    code, text = features("import", str(path), "--as", "mi\u200bne e\u0301", *where)
    assert code == 0, text
    with Store(store_path(tmp_path / "stores", "tones", "mine \u00e9")) as store:
        np.testing.assert_array_equal(store.read("last", "functionals"), values)
        assert store.names == {"functionals": ["\u00e4", "b b", "c"]}
    assert features("verify", "--model", "mine\u00a0e\u0301")[0] == 0
    to = tmp_path / "x.npz"
    code, text = features("export", "tones", "mine\u202f\u00e9", "--to", str(to))
    assert code == 0, text
    assert np.load(to)["names"].tolist() == ["\u00e4", "b b", "c"]


def test_columns_and_rows_of_a_file_that_become_one_are_refused(
    table: Path, values: np.ndarray, tmp_path: Path, bring
) -> None:
    path = write_csv(tmp_path / "f.csv", values, IDS, "name,\u00e4,a\u0308,c", "{},{},{},{}")
    code, text = bring(path)
    assert (code, "line 1: 1 column stands twice: \u00e4" in text) == (1, True)
    ids = [*IDS[:11], "u00\u00a0"]
    code, text = bring(plain(tmp_path / "g.csv", values, ids))
    assert code == 1
    assert (
        f"g.csv, line 13: u00 .wav is u00, which stands in {tmp_path}/g.csv, line 2 already" in text
    )
