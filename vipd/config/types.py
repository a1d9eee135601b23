"""The kinds of value that a configuration file holds, each with its check, cure and JSON Schema.

A kind is put on a field as ``Annotated[int, Whole(1, 255)]``. Its check raises a pydantic error
that carries ``problem`` and ``cure``, so that the wording stands beside the rule.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from pydantic import Discriminator, GetCoreSchemaHandler, GetJsonSchemaHandler, SecretStr, Tag
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from vipd.model import MICROSECOND_NS, MILLISECOND_NS, SECOND_NS, Address, parse_address

UNITS_NS = {
    "us": MICROSECOND_NS,
    "ms": MILLISECOND_NS,
    "s": SECOND_NS,
    "m": 60 * SECOND_NS,
    "h": 3600 * SECOND_NS,
}
DURATION_PATTERN = r"^[0-9]{1,9}(\.[0-9]{1,3})?(us|ms|s|m|h)$"
NAME_PATTERN = r"^[A-Za-z0-9_.-]{1,32}$"
INTERFACE_PATTERN = r"^[^/\s:]{1,15}$"

JsonSchema = dict[str, Any]


def complain(problem: str, cure: str) -> PydanticCustomError:
    """The error that wording.py turns into a ConfigFault."""
    return PydanticCustomError("vipd", "{problem}", {"problem": problem, "cure": cure})


def show(value: object) -> str:
    """A value as the operator wrote it, short and printable."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def parse_duration(text: object) -> int:
    """``1.5s`` -> nanoseconds. Raises the error that names the cure."""
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        raise complain(
            f"{text} has no unit", f"write the unit, for example {text:g}s or {text:g}ms"
        )
    if not isinstance(text, str) or not re.fullmatch(DURATION_PATTERN, text, re.ASCII):
        cure = "write a number with a unit (us, ms, s, m, h), for example 500ms"
        raise complain(f"{show(text)} is not a duration", cure)
    number = text.rstrip("umsh")
    unit_ns = UNITS_NS[text[len(number) :]]
    whole, _, fraction = number.partition(".")
    return int(whole) * unit_ns + int(fraction.ljust(3, "0") or "0") * unit_ns // 1000


def format_duration(duration_ns: int) -> str:
    """Nanoseconds -> the shortest exact text, as the configuration would say it."""
    for unit in ("h", "m", "s", "ms", "us"):
        if duration_ns >= UNITS_NS[unit] and duration_ns * 1000 % UNITS_NS[unit] == 0:
            return f"{duration_ns / UNITS_NS[unit]:.10g}{unit}"
    return f"{duration_ns}ns" if duration_ns else "0s"


class Kind:
    """A check and the JSON Schema that says the same to editors."""

    def check(self, value: object) -> object:
        """The value as vipd uses it; raises ``complain(...)``."""
        raise TypeError(f"{type(self).__name__} cannot judge {show(value)}")

    def json(self) -> JsonSchema:
        """The same rule for editors, as far as JSON Schema can say it."""
        raise TypeError(f"{type(self).__name__} has no JSON Schema")

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        return self.json()


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number within bounds."""

    low: int
    high: int
    nonzero: bool = False

    def check(self, value: object) -> int:
        cure = f"write a whole number from {self.low} to {self.high}"
        if not isinstance(value, int) or isinstance(value, bool):
            raise complain(f"{show(value)} is not a whole number", cure)
        if not self.low <= value <= self.high:
            raise complain(f"{value} is out of range", cure)
        if self.nonzero and value == 0:
            raise complain("0 changes nothing", f"{cure}, not 0")
        return value

    def json(self) -> JsonSchema:
        schema: JsonSchema = {"type": "integer", "minimum": self.low, "maximum": self.high}
        return {**schema, "not": {"const": 0}} if self.nonzero else schema


@dataclass(frozen=True)
class Span(Kind):
    """A duration within bounds, in nanoseconds; with ``auto`` allowed, auto is None."""

    low: str
    high: str
    auto: bool = False

    def check(self, value: object) -> int | None:
        if self.auto and value == "auto":
            return None
        duration_ns = parse_duration(value)
        if not parse_duration(self.low) <= duration_ns <= parse_duration(self.high):
            also = "auto, or " if self.auto else ""
            cure = f"write {also}{self.low} to {self.high}"
            raise complain(f"{value} is out of range", cure)
        return duration_ns

    def json(self) -> JsonSchema:
        schema: JsonSchema = {"type": "string", "pattern": DURATION_PATTERN}
        return {"anyOf": [{"const": "auto"}, schema]} if self.auto else schema


@dataclass(frozen=True)
class Flag(Kind):
    """true or false; YAML 1.1's other spellings get the cure."""

    def check(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        word = str(value).lower() if isinstance(value, str) else ""
        cure = {"yes": "write true", "on": "write true", "no": "write false", "off": "write false"}
        raise complain(
            f"{show(value)} is neither true nor false", cure.get(word, "write true or false")
        )

    def json(self) -> JsonSchema:
        return {"type": "boolean"}


@dataclass(frozen=True)
class Text(Kind):
    """Text of a form; ``what`` and ``cure`` say it in words."""

    pattern: str
    what: str
    cure: str

    def check(self, value: object) -> str:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            raise complain(f"{show(value)} is a number, not {self.what}", "put it in quotes")
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value):
            raise complain(f"{show(value)} is not {self.what}", self.cure)
        return value

    def json(self) -> JsonSchema:
        return {"type": "string", "pattern": self.pattern}


@dataclass(frozen=True)
class Interface(Text):
    """A Linux interface name: 1 to 15 bytes, no slash, colon or white space, not . or .."""

    pattern: str = INTERFACE_PATTERN
    what: str = "an interface name"
    cure: str = "write 1 to 15 characters without '/', ':' or space, as 'ip link' shows it"

    def check(self, value: object) -> str:
        name = super().check(value)
        if name in (".", "..") or len(name.encode()) > 15:
            raise complain(f"{show(value)} is not {self.what}", self.cure)
        return name


@dataclass(frozen=True)
class Packed(Kind):
    """An IP address without prefix, packed."""

    cure: str = "write an address without prefix, for example 192.0.2.11 or 2001:db8::11"

    def check(self, value: object) -> Address:
        if isinstance(value, str) and "%" in value:
            cure = f"write {value.partition('%')[0]!r} and name the interface with 'interface:'"
            raise complain(f"{show(value)} has a zone", cure)
        try:
            return parse_address(value if isinstance(value, str) else "")
        except ValueError:
            raise complain(f"{show(value)} is not an IP address", self.cure) from None

    def json(self) -> JsonSchema:
        return {"type": "string", "pattern": r"^[0-9A-Fa-f:.]{2,45}$"}


@dataclass(frozen=True)
class Prefixed(Kind):
    """An IP address with an optional prefix length -> (packed address, prefix)."""

    cure: str = "write an address, for example 192.0.2.100/24 or 2001:db8::100/64"

    def check(self, value: object) -> tuple[Address, int]:
        if not isinstance(value, str):
            raise complain(f"{show(value)} is not an address", self.cure)
        text, slash, length = value.partition("/")
        address: Address = Packed(self.cure).check(text)
        longest = len(address) * 8
        if not slash:
            return address, longest
        if not re.fullmatch(r"[0-9]{1,3}", length, re.ASCII) or not 1 <= int(length) <= longest:
            cure = f"write /1 to /{longest}, or no prefix for /{longest}"
            raise complain(f"{show('/' + length)} is not a prefix length", cure)
        return address, int(length)

    def json(self) -> JsonSchema:
        return {"type": "string", "pattern": r"^[0-9A-Fa-f:.]{2,45}(/[0-9]{1,3})?$"}


@dataclass(frozen=True)
class Addresses(Kind):
    """One address or a list of them -> list of packed addresses."""

    def check(self, value: object) -> list[Address]:
        if isinstance(value, list) and not value:
            raise complain("the list is empty", "write at least one address")
        return [Packed().check(item) for item in (value if isinstance(value, list) else [value])]

    def json(self) -> JsonSchema:
        one = Packed().json()
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}


@dataclass(frozen=True)
class Command(Kind):
    """A command line or a list of words -> list of words; the program by its absolute path."""

    def check(self, value: object) -> list[str]:
        words = value
        if isinstance(value, str):
            try:
                words = shlex.split(value)
            except ValueError:
                raise complain("a quote is not closed", "close it, or write a list") from None
        cure = "write a command line or a list, for example /etc/vipd/hooks/changed"
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise complain(f"{show(value)} is not a command", cure)
        if not words or not words[0].startswith("/"):
            program = show(words[0]) if words else "an empty command"
            raise complain(f"{program} is not an absolute path", cure)
        if any("\x00" in word for word in words):
            raise complain("a word holds a zero byte", cure)
        return words

    def json(self) -> JsonSchema:
        word = {"type": "string"}
        line = {"type": "string", "pattern": "^\\s*[\"']?/"}
        return {"anyOf": [line, {"type": "array", "items": word, "minItems": 1}]}


@dataclass(frozen=True)
class Secret(Kind):
    """A secret. Nothing here may repeat the value."""

    def check(self, value: object) -> SecretStr:
        if not isinstance(value, str):
            raise complain("the secret is not text", "put it in quotes")
        if not value or "\x00" in value:
            raise complain("the secret is empty or holds a zero byte", "write 1 to 8 bytes of text")
        return SecretStr(value)

    def json(self) -> JsonSchema:
        return {"type": "string", "minLength": 1}


def _one_or_nodes(value: object) -> str:
    return "(nodes)" if isinstance(value, dict) else "(one)"


T = TypeVar("T")

NodeName = Annotated[
    str, Text(NAME_PATTERN, "a node name", "write 1 to 32 letters, digits, '_', '.' or '-'")
]
InstanceName = Annotated[
    str, Text(NAME_PATTERN, "a name", "write 1 to 32 letters, digits, '_', '.' or '-'")
]
PerNode = Annotated[
    Annotated[T, Tag("(one)")] | Annotated[dict[NodeName, T], Tag("(nodes)")],
    Discriminator(_one_or_nodes),
]
"""One value for all nodes, or a mapping node name -> value, so that one file serves all hosts."""
UserName = Annotated[
    str, Text(r"^[a-z_][a-z0-9_-]{0,30}\$?$", "a user name", "write a user of this system")
]
AbsolutePath = Annotated[
    str, Text(r"^/[^\x00]*$", "an absolute path", "write the path from '/', for example /run/vipd")
]
FilePath = Annotated[
    str, Text(r"^[^\x00]+$", "a path", "write a path; a relative one starts at this file's folder")
]
