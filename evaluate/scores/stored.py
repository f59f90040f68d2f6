"""Records as files: written, read back and kept up to date in one place.

Conventions
-----------
- A file names its kind and version (`FORMAT.md`). One without both is of version 0, as 0.1 wrote
  it: it is read all the same, and written anew only where its inputs have changed.
- `inputs` are what the content depends on. A file whose inputs are those of today is not made
  anew; they are compared before anything else of the file is looked at, so that one of an older
  program is outdated, not damaged.
- What is written is given back as it would be read.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from evaluate.runs.files import plain, read_json, write_json
from evaluate.runs.record import outdated
from evaluate.scores.records import Record
from features.common.errors import RunError

if TYPE_CHECKING:
    from features.recipe.model import Recipe

T = TypeVar("T", bound=Record)
Content = dict[str, Any]


@dataclass(frozen=True)
class Stored(Generic[T]):
    """What a file holds, its record still unread.

    Attributes
    ----------
    path : Path
    kind : FileKind
    content : dict
        All of it, as it stands there.
    """

    path: Path
    kind: FileKind[T]
    content: Content

    @property
    def inputs(self) -> Content:
        """What it depends on; empty where it does not say."""
        return dict(self.content.get("inputs", {}))

    @property
    def record(self) -> T:
        """The record.

        Raises
        ------
        RunError
            The file is of another kind, of a version to come, or not as `FORMAT.md` says.
        """
        return self.kind.parse(self.content, self.path)


@dataclass(frozen=True)
class FileKind(Generic[T]):
    """A kind of file.

    Attributes
    ----------
    name : str
        What `format` of a file says, without the program's name.
    record : type
        What it holds beside `format`, `version` and `inputs`.
    upgrade : callable
        Content of version 0 -> content of version 1.
    marks : callable
        Record -> the same with the marks that follow from it: put in when it is written, and when
        a file of version 0 is read.
    again : str
        What makes the file anew.
    version : int
        That is written; it and all before it are read.
    """

    name: str
    record: type[T]
    upgrade: Callable[[Content], Content]
    marks: Callable[[T], T] = field(default=lambda record: record)
    again: str = "make score"
    version: int = 1

    @property
    def format(self) -> str:
        """What `format` of a file says."""
        return f"serfuse-{self.name}"

    def at(self, path: Path) -> Stored[T] | None:
        """What lies at a path; None where nothing does.

        Raises
        ------
        RunError
            The file is no JSON, or not as it was written.
        """
        content = read_json(path, self.again)
        return None if content is None else Stored(path, self, content)

    def write(self, path: Path, record: T, inputs: Mapping[str, Any] | None = None) -> T:
        """Write a record whole or not at all, and give it back as it would be read."""
        content = {"format": self.format, "version": self.version, **simplified(self.marks(record))}
        content |= {} if inputs is None else {"inputs": plain(inputs)}
        write_json(path, content)
        return self.parse(content, path)

    def made(
        self, path: Path, inputs: Mapping[str, Any], make: Callable[[], T], *, force: bool = False
    ) -> T:
        """What lies at a path, if it is of these inputs; else it is made, and written there."""
        found = None if force else self._of(path, inputs)
        return self.write(path, make(), inputs) if found is None else found

    def current(self, path: Path, inputs: Mapping[str, Any], recipe: Recipe) -> T:
        """What lies at a path, computing nothing.

        Raises
        ------
        RunError
            It is missing, or of other inputs.
        """
        found = self._of(path, inputs)
        if found is None:
            raise outdated(path, recipe)
        return found

    def _of(self, path: Path, inputs: Mapping[str, Any]) -> T | None:
        found = self.at(path)
        return found.record if found and found.inputs == plain(inputs) else None

    def parse(self, content: Content, path: Path) -> T:
        """The record in the content of a file.

        Parameters
        ----------
        content : dict
            All that stands in the file, but the digest.
        path : Path
            For errors.

        Returns
        -------
        Record
            Of this kind.

        Raises
        ------
        RunError
            In one line: what is wrong with it, where, and what to do.
        """
        of, version = content.get("format", self.format), content.get("version", 0)
        if of != self.format:
            raise RunError(
                f"{path}: holds {of}, not {self.format}; remove it and run {self.again} again"
            )
        if version not in range(self.version + 1):
            raise RunError(
                f"{path}: version {version} of {of}, and this program reads versions up to "
                f"{self.version}; use the program that wrote it, or remove it and run "
                f"{self.again} again"
            )
        around = ("format", "version", "inputs")
        inside = {key: value for key, value in content.items() if key not in around}
        try:
            if version:
                return _read(self.record, json.dumps(inside))
            upgraded = self.upgrade(copy.deepcopy(inside))
            return self.marks(_read(self.record, json.dumps(upgraded)))
        except (ValidationError, KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{path}: not what {of} of version {version} holds: {_first_fault(error)}; "
                f"remove it and run {self.again} again"
            ) from None


@functools.cache
def _adapter(record: Any) -> TypeAdapter[Any]:
    """What checks and builds a record; made once, when the first file of its kind is read."""
    return TypeAdapter(record)


def _read(record: type[T], text: str) -> T:
    untyped: Any = record
    found: T = _adapter(untyped).validate_json(text)
    return found


def _first_fault(error: Exception) -> str:
    """Where the first fault of a content is, and what it is."""
    if not isinstance(error, ValidationError):
        return f"{type(error).__name__} {error}"
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])


def simplified(value: Any) -> Any:
    """A record as JSON's own types, NaN as null; members at their default are left out."""
    return plain(_without_defaults(value))


def _without_defaults(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_defaults(inside) for key, inside in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_defaults(inside) for inside in value]
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    found = {}
    for each in dataclasses.fields(value):
        inside = getattr(value, each.name)
        if not _is_default(each, inside):
            found[each.name] = _without_defaults(inside)
    return found


def _is_default(each: dataclasses.Field[Any], value: Any) -> bool:
    if each.default is not dataclasses.MISSING:
        return bool(value == each.default)
    factory = each.default_factory
    return factory is not dataclasses.MISSING and value == factory()
