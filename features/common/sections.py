"""One table of a TOML file: what it may hold, and its faults in words.

Conventions
-----------
- A fault is a line: the key, what came, what is allowed, the nearest known name.
- Faults are collected, so that those of a whole file are reported together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic_core import core_schema

from features.common.errors import nearest


class Section(BaseModel):
    """Base of every table: no unknown keys, no silent conversions.

    `left_out` names settings that came after runs were made without them: at its default such a one
    is left out of what a run records, so that those runs stay fresh.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    left_out: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        whole: dict[str, Any] = write(self)
        fields = type(self).model_fields
        return {
            key: value
            for key, value in whole.items()
            if key not in self.left_out or getattr(self, key) != fields[key].default
        }


@dataclass(frozen=True)
class Among:
    """Marks a text that is one of some keys: `Annotated[str, Among(tuple(HEADS))]`.

    A fault of it reads as that of a `Literal` of these keys.
    """

    keys: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        """What pydantic checks a value by."""
        return core_schema.literal_schema(list(self.keys))


S = TypeVar("S", bound=Section)


def check_section(
    kind: type[S],
    values: Any,
    where: str,
    faults: list[str],
    choices: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> S | None:
    """Validate one table; add a line to `faults` for each fault.

    `choices` has what may stand for a key, where that is less than its type allows.

    Parameters
    ----------
    kind : type
        The pydantic model of the table.
    values : any
        As TOML gives them.
    where : str
        What the table is called in a fault, such as `[head]`.
    faults : list of str
        Is added to.
    choices : mapping
        Key -> what may stand for it, or among its members.

    Returns
    -------
    instance of `kind`, or None
        None where there was a fault.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        found: dict[str, str] = {}
        for details in error.errors():
            depth = (
                2 if details["loc"] and details["loc"][0] in ("grid", "fixed", "training") else 1
            )
            key = ".".join(str(part) for part in details["loc"][:depth])
            text = _fault(kind, key, details, choices)
            # A union reports a fault a member.
            found[key] = f"{found[key]}, or {_allowed(details)}" if key in found else text
        faults.extend(f"{where}{text}" for text in found.values())
        return None


def _allowed(error: Any) -> str:
    """What pydantic would have taken, in words."""
    context = error.get("ctx", {})
    if "expected" in context:
        return str(context["expected"])
    text = str(error["msg"]).removeprefix("Value error, ").removeprefix("Input should be ")
    return text.removeprefix("a valid ")


def _fault(kind: type[Section], key: str, error: Any, choices: Mapping[str, Sequence[str]]) -> str:
    """One fault: the key, what came, what is allowed, and the nearest known name."""
    if error["type"] == "extra_forbidden":
        return f"{key}: no such key{_near_key(kind, key)}"
    if error["type"] == "missing":
        allowed = choices.get(key) or _choices(kind, key)
        return f"{key}: missing" + (f"; allowed: {', '.join(allowed)}" if allowed else "")
    if error["type"] == "value_error" and not key:  # of a table as a whole
        return _allowed(error)
    if error["type"] in ("model_type", "model_attributes_type"):
        return f"got {error['input']!r}, expected a table"
    near = ""
    if error["type"] == "literal_error" and isinstance(error["input"], str):
        if key in choices:
            near = nearest(error["input"], choices[key])
            return f"{key}: got {error['input']!r}, allowed: {', '.join(choices[key])}{near}"
        near = nearest(error["input"], str(error["ctx"]["expected"]).replace("'", " ").split())
    return f"{key}: got {error['input']!r}, allowed: {_allowed(error)}{near}"


def _near_key(kind: type[Section], key: str) -> str:
    """The nearest known key, of a table within this one where it is in such a table."""
    table, _, inside = key.partition(".")
    if not inside:
        return nearest(key, kind.model_fields)
    options = getattr(kind.model_fields[table].annotation, "__args__", ())
    for option in options:
        if isinstance(option, type) and issubclass(option, Section):
            return nearest(inside, option.model_fields)
    return ""


def _choices(kind: type[Section], key: str) -> list[str]:
    """The values of a field that is a choice among words."""
    field = kind.model_fields.get(key)
    if field is None:
        return []
    among = [key for mark in field.metadata if isinstance(mark, Among) for key in mark.keys]
    return among or [str(word) for word in getattr(field.annotation, "__args__", ())]


def names_folder(name: str) -> bool:
    """Whether a corpus or model of this name can have a folder or file of its own."""
    return bool(name) and name not in (".", "..") and not set(name) & set("/\\@\0")
