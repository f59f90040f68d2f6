"""What README and docs name exists: links, targets, variables, keys, commands, paths, tests."""

from __future__ import annotations

import argparse
import ast
import functools
import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import PydanticUndefined

from extract.encoders.registry import MODELS
from features.common.sections import Section
from features.corpora import CORPORA
from features.recipe.evaluate import EvaluateSpec
from features.recipe.extract import CorpusSpec, ExtractSpec, ModelSpec
from features.recipe.fusion import FusionSpec, SubsetsSpec
from features.recipe.head import HeadSpec
from features.recipe.known.encoder_families import ENCODER_FAMILIES
from features.recipe.known.fusion_methods import FUSION_METHODS
from features.recipe.known.heads import HEADS
from features.recipe.known.splits import INNER_SPLITS, OUTER_SPLITS
from features.recipe.labels import LabelsSpec
from features.recipe.load import load_recipe
from features.recipe.published import Place, PublishedColumn, PublishedRow, PublishedTable
from features.recipe.split import SplitSpec
from features.recipe.top import Top
from features.recipe.training import TrainingSpec
from tests.test_rooms import LADDERS

TOP = Path(__file__).resolve().parents[1]
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").glob("*.md"))]
README_BYTES = 8192
ROOMS = ("extract", "features", "models", "fusion", "evaluate")
SECTIONS: dict[str, type[Section]] = {
    "corpora.NAME": CorpusSpec,
    "models.NAME": ModelSpec,
    "labels": LabelsSpec,
    "extract": ExtractSpec,
    "split": SplitSpec,
    "head": HeadSpec,
    "head.training": TrainingSpec,
    "fusion.NAME": FusionSpec,
    "fusion.subsets": SubsetsSpec,
    "evaluate": EvaluateSpec,
}
"""The tables of a recipe with fixed keys, as the pages write them."""
FREE = ("head.training.shares", "head.grid", "head.fixed", "labels.map", "cluster")
"""Tables whose keys are the user's, and the one of cluster.toml."""
YOURS = ("recipes/mine.toml", "fusion/mean")
"""What looks like a file of the house and is the reader's, or a run."""
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^    .*\n)+", re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"(?<!`)\[[^\]\n]*(?:\n[^\]\n]*)?\]\(([^)\s]+)\)")
PATH = re.compile(rf"^(?:{'|'.join((*ROOMS, 'tests', 'benchmarks', 'recipes', 'docs'))})/[\w./-]*$")


def anchors(text: str) -> set[str]:
    r"""What the headings of a page are linked by, as code hosts make it.

    >>> sorted(anchors("# Your own corpus\n\n## `[split]`\n"))
    ['split', 'your-own-corpus']
    """
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def lost_links(page: Path, text: str) -> list[str]:
    """Relative links to no file, or to no heading."""
    return [
        target
        for target in LINK.findall(FENCE.sub("", text))
        if not re.match(r"[a-z]+:", target) and not leads_somewhere(page, text, target)
    ]


def leads_somewhere(page: Path, text: str, target: str) -> bool:
    """Whether a relative link of a page leads to a file of the house, and to a heading of it."""
    name, _, anchor = target.partition("#")
    there = (page.parent / name).resolve() if name else page
    if not there.is_relative_to(TOP) or not there.exists():
        return False
    return not anchor or anchor in anchors(there.read_text("utf-8") if name else text)


def code(text: str) -> Iterator[str]:
    """Lines of code: of shell blocks, indented ones, and spans (which may go over a line's end)."""
    for language, block in FENCE.findall(text):
        if language in ("", "bash", "sh"):
            yield from block.splitlines()
    rest = FENCE.sub("", text)
    for block in INDENTED.findall(rest):
        yield from (line.strip() for line in block.splitlines())
    for span in re.findall(r"`([^`]+)`", INDENTED.sub("", rest)):
        yield " ".join(span.split())


@functools.cache
def makefile() -> tuple[frozenset[str], frozenset[str]]:
    """Targets and variables that a user may name."""
    text = (TOP / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE)
    return frozenset(targets), frozenset(re.findall(r"^([A-Z]\w*) \?=", text, re.MULTILINE))


def wrong_make(line: str) -> list[str]:
    """Targets and variables of a line `make ...` that do not exist."""
    if not re.match(r"make [a-zA-Z]", line):
        return []
    targets, variables = makefile()
    wrong = []
    for word in shlex.split(line, comments=True)[1:]:
        name, equals, _ = word.partition("=")
        if equals and re.fullmatch(r"[A-Z]\w*", name):
            wrong += [] if name in variables else [f"variable {name}"]
        elif word != "...":
            wrong += [] if word in targets else [f"target {word}"]
    return wrong


@functools.cache
def commands_of(room: str) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a room's sub-commands; under "" what a line without one is of."""
    parser = importlib.import_module(f"{room}.__main__").parser()
    bare = {"": parser.commands[parser.bare]} if parser.bare else {}
    return {**parser.commands, **bare}


def wrong_command(line: str) -> list[str]:
    """What `python -m ROOM [COMMAND] --option` names and does not exist."""
    found = re.match(r"(?:\S*python3? )-m (\w+)((?: .*)?)$", line)
    if not found or found[1] in ("pytest", "ruff", "mypy"):
        return []
    room, words = found[1], shlex.split(found[2], comments=True)
    if room not in ROOMS:
        return [f"package {room}"]
    commands = commands_of(room)
    name = words[0] if words and words[0] in commands else ""
    if words and name not in commands:
        return [f"command {words[0]}"]
    options = commands[name]._option_string_actions if words else ["--help"]
    return [
        f"option {word}"
        for word in words
        if word.startswith("--") and word.split("=")[0] not in options
    ]


def lost_paths(line: str) -> list[str]:
    """Files of the house that a line names and that are not there."""
    words = [word.strip("'\",;:") for word in line.split()]
    return [
        word for word in words
        if PATH.match(word) and word not in YOURS and not (TOP / word).exists()
    ]  # fmt: skip


def lost_tests(line: str) -> list[str]:
    """`pytest FILE -k WORD` where no test of the file has the word."""
    words = line.split()
    if words[:1] != ["pytest"] or "-k" not in words:
        return []
    word = words[words.index("-k") + 1]
    files = [TOP / one for one in words if one.endswith(".py")]
    text = "".join(one.read_text("utf-8") for one in files if one.is_file())
    names = [n.name for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef)]
    return [] if any(word in name for name in names if name.startswith("test")) else [word]


def section_of(name: str) -> type[Section] | None:
    """The section that a table is of: `fusion.mean` is a `fusion.NAME`."""
    head, _, rest = name.partition(".")
    if re.fullmatch(r"heads\.\w+\.training", name):
        return TrainingSpec
    if head == "heads":
        return HeadSpec if rest and "." not in rest else None
    return SECTIONS.get(name) or (SECTIONS.get(f"{head}.NAME") if rest else None)


def wrong_keys(text: str) -> list[str]:
    """Keys of TOML blocks, and of `[section] key` in the text, that no recipe has."""
    wrong: list[str] = []
    for language, block in FENCE.findall(text):
        if language == "toml":
            wrong += _unknown(tomllib.loads(block))
    for name, key in re.findall(r"`\[([a-z.]+)\] (\w+)", text):
        if name.startswith(FREE):
            continue
        kind = section_of(name)
        if kind is None or key not in kind.model_fields:
            wrong.append(f"[{name}] {key}")
    return wrong


def _unknown(tables: dict[str, Any], where: str = "") -> list[str]:
    wrong = []
    kind = section_of(where) if where else Top
    if kind is None or where.startswith(FREE):
        kind = None
    for key, value in tables.items():
        name = f"{where}.{key}" if where else key
        if name.startswith(FREE) or re.fullmatch(r"heads\.\w+\.(grid|fixed)", name):
            continue
        known = kind is not None and (key in kind.model_fields or kind is CorpusSpec)
        if not where and key in ("corpora", "models", "published"):
            known = True
        if isinstance(value, dict):
            wrong += _unknown(value, name) if known or section_of(name) or not where else [name]
            known = known or bool(section_of(name)) or name in ("fusion", "heads", "labels")
        wrong += [] if known else [name]
    return wrong


def whole_recipes(text: str) -> Iterator[str]:
    """The TOML blocks that are recipes by themselves."""
    for language, block in FENCE.findall(text):
        if language == "toml" and re.search(r"^targets? =", block, re.MULTILINE):
            yield block


def sections_of(text: str) -> dict[str, str]:
    """The parts of a page by their headings, without marks of code and links."""
    parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
    return dict(zip((name.strip("`[]") for name in parts[1::2]), parts[2::2], strict=True))


def rows_of(text: str) -> dict[str, str]:
    """Key and default of the tables `| key | default | meaning |`."""
    found: dict[str, str] = {}
    for table in re.findall(r"^\| key \| default \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE):
        for line in table.splitlines():
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            for key in re.findall(r"`(\w+)`", cells[0]):
                found[key] = cells[1]
    return found


def wrong_rows(text: str) -> list[str]:
    """Keys that the tables of recipes.md lack or have too many, and other defaults."""
    wrong, sections = [], sections_of(text)
    for name, kind in SECTIONS.items():
        rows = rows_of(sections.get(name, ""))
        fields = kind.model_fields
        wrong += [f"[{name}] {key}" for key in set(rows) ^ set(fields)]
        for key in set(rows) & set(fields):
            told, default = rows[key], fields[key].default
            if told.startswith("`"):
                told_value = tomllib.loads(f"value = {told.strip('`')}")["value"]
                same = told_value == default
            elif told == "(required)":
                same = fields[key].is_required()
            elif told == "-":
                same = default is None
            else:  # in words: filled in from elsewhere
                same = default in (None, [], {}, PydanticUndefined)
            wrong += [] if same else [f"[{name}] {key} = {default!r}, not {told}"]
    published = set(rows_of(sections.get("[published", "")))
    kinds = (PublishedTable, PublishedColumn, PublishedRow, Place)
    return wrong + [
        f"[[published]] {key}"
        for key in published - {key for kind in kinds for key in kind.model_fields}
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    assert lost_links(page, text) == []
    assert wrong_keys(text) == []
    for line in code(text):
        for faults in (wrong_make, wrong_command, lost_paths, lost_tests):
            assert faults(line) == [], line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_recipes_of_a_page_load(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(whole_recipes(page.read_text("utf-8"))):
        path = tmp_path / f"recipe-{number}.toml"
        path.write_text(block, "utf-8")
        assert load_recipe(path).models


@pytest.mark.process
def test_the_readmes_own_data_with_one_model_and_four_speakers(
    make_corpus: Callable[..., Path], tmp_path: Path
) -> None:
    make_corpus(24, "mine")
    (block,) = whole_recipes((TOP / "README.md").read_text("utf-8"))
    recipe = tmp_path / "mine.toml"
    recipe.write_text(block.replace(', "wav2vec2-base"]', "]"), "utf-8")
    read = load_recipe(recipe)
    assert list(read.models) == ["mfcc"]
    assert (read.head.layer, read.split.inner_folds, read.fusion) == ("best", 3, {})
    where = [f"{name.upper()}={tmp_path / name}" for name in ("data", "stores", "runs")]
    done = subprocess.run(
        ["make", "extract", "train", "report", f"RECIPE={recipe}", *where,
         f"PYTHON={sys.executable}"],
        cwd=TOP, env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "mfcc@best" in done.stdout
    assert (tmp_path / "runs/mine/report/index.html").is_file()


def test_every_key_of_a_recipe_stands_in_its_page_with_its_default() -> None:
    assert wrong_rows((TOP / "docs/recipes.md").read_text("utf-8")) == []


def test_every_target_and_variable_stands_in_its_page() -> None:
    text = (TOP / "docs/commands.md").read_text("utf-8")
    targets, variables = makefile()
    assert [one for one in sorted(targets - {"help"}) if f"make {one}" not in text] == []
    assert [one for one in sorted(variables) if not re.search(rf"`{one}(=1)?`", text)] == []


def test_every_page_stands_in_the_index() -> None:
    index = (TOP / "docs/README.md").read_text("utf-8")
    pages = [page.name for page in (TOP / "docs").glob("*.md") if page.name != "README.md"]
    assert [name for name in sorted(pages) if f"({name})" not in index] == []


def test_every_recipe_stands_in_its_page() -> None:
    text = (TOP / "docs/recipes.md").read_text("utf-8")
    assert [
        p.stem for p in sorted((TOP / "recipes").glob("*.toml")) if f"`{p.stem}`" not in text
    ] == []


@pytest.mark.parametrize(
    ("page", "keys"),
    [
        ("models", MODELS),
        ("models", ENCODER_FAMILIES),
        ("corpora", CORPORA),
        ("fusion", FUSION_METHODS),
        ("protocols", (*OUTER_SPLITS, *INNER_SPLITS)),
        ("recipes", HEADS),
    ],
)
def test_all_that_a_recipe_may_name_stands_in_its_page(page: str, keys: Iterable[str]) -> None:
    text = (TOP / f"docs/{page}.md").read_text("utf-8")
    assert [key for key in keys if f"`{key}`" not in text] == []


def test_the_rooms_stand_in_their_page_with_their_ladders() -> None:
    text = (TOP / "docs/contributing.md").read_text("utf-8")
    for room, ladder in LADDERS.items():
        row = re.search(rf"^\| `{room}/` \|.*\|(.*)\|$", text, re.MULTILINE)
        assert row, room
        assert re.findall(r"`(\w+)`", row[1]) == list(ladder), room


def test_the_readme_is_short() -> None:
    assert len((TOP / "README.md").read_bytes()) <= README_BYTES


def test_promises_name_their_tests() -> None:
    text = (TOP / "docs/reliability.md").read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert rows
    for row in rows:
        proof = row.rstrip("| ").rpartition("|")[2]
        assert re.search(r"`(pytest tests/|python benchmarks/|make )", proof), row


def test_pictures_are_in_no_package() -> None:
    pictures = [p for room in ROOMS for p in (TOP / room).rglob("*.png")]
    assert pictures == []
    assert "png" not in (TOP / "setup.cfg").read_text("utf-8")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("make extrakt", ["target extrakt"]),
        ("make train MODELS=xlsr-1b", ["variable MODELS"]),
        ("make extract train RECIPE=recipes/emodb.toml   # all", []),
    ],
)
def test_a_planted_make_line_is_found(line: str, wrong: list[str]) -> None:
    assert wrong_make(line) == wrong


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("python -m feature table emodb", ["package feature"]),
        ("python -m features tabel emodb", ["command tabel"]),
        ("python -m features table emodb --roots x", ["option --roots"]),
        ("python -m features export emodb mfcc --to x.npz", []),
        ("python -m extract --model KEY", []),
        ("python -m extract --models KEY", ["option --models"]),
    ],
)
def test_a_planted_command_is_found(line: str, wrong: list[str]) -> None:
    assert wrong_command(line) == wrong


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("see [x](docs/none.md)", ["docs/none.md"]),
        ("see [x](docs/recipes.md#none)", ["docs/recipes.md#none"]),
        ("see [x](#none)", ["#none"]),
        ("see [x](../elsewhere)", ["../elsewhere"]),
        ("see [x](docs/recipes.md#split) and [y](https://example.org/none)", []),
    ],
)
def test_a_planted_link_is_found(text: str, lost: list[str]) -> None:
    assert lost_links(TOP / "README.md", text) == lost


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("`[split] outr`", ["[split] outr"]),
        ("`[heads] kind`", ["[heads] kind"]),
        ("`[heads.svm] kind` `[heads.svm] kindly`", ["[heads.svm] kindly"]),
        ("```toml\n[heads.svm]\nkind = 'svc'\ngrid = {C = [1]}\nc = 1\n```\n", ["heads.svm.c"]),
        ("```toml\n[split]\nouter_fold = 3\n```\n", ["split.outer_fold"]),
        ("```toml\nmodel = ['x']\n```\n", ["model"]),
        ("```toml\n[fusion.mean]\nmetod = 'mean'\n```\n", ["fusion.mean.metod"]),
        ("```toml\n[head.grid]\nC = [1]\n[labels.map.emodb]\nanger = 'angry'\n```\n", []),
    ],
)
def test_a_planted_key_is_found(text: str, wrong: list[str]) -> None:
    assert wrong_keys(text) == wrong


def test_a_planted_path_and_a_planted_test_are_found() -> None:
    assert lost_paths("pytest tests/test_none.py") == ["tests/test_none.py"]
    assert lost_tests("pytest tests/test_docs.py -k nothing_of_the_kind")
    assert not lost_tests("pytest tests/test_docs.py -k planted")


def test_planted_rows_are_found() -> None:
    text = (TOP / "docs/recipes.md").read_text("utf-8")
    planted = text.replace("| `outer_folds` | `5` |", "| `outer_folds` | `6` |")
    planted = planted.replace("| `trim` | - |", "| `trims` | - |")
    found = sorted(wrong_rows(planted))
    assert [one.split(",")[0] for one in found] == [
        "[fusion.NAME] trim", "[fusion.NAME] trims", "[split] outer_folds = 5",
    ]  # fmt: skip
