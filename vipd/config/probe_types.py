"""The kinds of value that only the options of checks hold; see types.py for how they are used."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import SecretStr

from vipd.config.types import JsonSchema, Kind, Packed, Text, complain, show

HeaderName = Annotated[
    str,
    Text(r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$", "a header name", "write it without ':' or space"),
]
UnitName = Annotated[
    str,
    Text(r"^[A-Za-z0-9:_.\\@-]{1,200}$", "a systemd unit", "write it as 'systemctl' shows it"),
]


@dataclass(frozen=True)
class Url(Kind):
    """An http or https URL. A password in it would be shown in status and logs: refused."""

    cure: str = "write http://HOST[:PORT]/PATH"

    def check(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"https?://[^/?#\s]\S*", value):
            shown = "this" if "@" in str(value) else show(value)
            raise complain(f"{shown} is not a URL", self.cure)
        try:
            parts = urlsplit(value)
            named, port = parts.hostname, parts.port
        except ValueError:
            named, port = None, None
        if "@" in value.partition("//")[2].partition("/")[0]:
            cure = "write it as headers: {Authorization: ...}; a URL is shown in status and logs"
            raise complain("the URL holds a user or a password", cure)
        if not named or port == 0:
            raise complain(f"{show(value)} has no host, or an impossible port", self.cure)
        return value

    def json(self) -> JsonSchema:
        return {"type": "string", "pattern": r"^https?://[^/?#\s]\S*$"}


@dataclass(frozen=True)
class HostPort(Kind):
    """``HOST:PORT``, an IPv6 address in brackets -> (host, port)."""

    cure: str = "write it as '127.0.0.1:5432', 'db.example.org:5432' or '[2001:db8::1]:5432'"
    pattern: str = r"^(\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):[0-9]{1,5}$"

    def check(self, value: object) -> tuple[str, int]:
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value, re.ASCII):
            raise complain(f"{show(value)} is not HOST:PORT", self.cure)
        host, _, port = value.rpartition(":")
        if not 1 <= int(port) <= 65535:
            raise complain(f"{port} is not a port", "write a port from 1 to 65535")
        if host.startswith("["):
            host = host[1:-1]
            Packed(self.cure).check(host)
        return host, int(port)

    def json(self) -> JsonSchema:
        return {"type": "string", "pattern": self.pattern}


@dataclass(frozen=True)
class Statuses(Kind):
    """HTTP statuses: ``200``, ``"200-399"``, or a list of such -> inclusive ranges."""

    cure: str = "write 200, '200-399', or a list of them, within 100 to 599"

    def check(self, value: object) -> list[tuple[int, int]]:
        items = value if isinstance(value, list) else [value]
        if not items:
            raise complain("the list is empty", self.cure)
        return [self._range(item) for item in items]

    def _range(self, item: object) -> tuple[int, int]:
        text = str(item) if isinstance(item, (int, str)) and not isinstance(item, bool) else ""
        found = re.fullmatch(r"([0-9]{3})(?:-([0-9]{3}))?", text, re.ASCII)
        if not found:
            raise complain(f"{show(item)} is not an HTTP status", self.cure)
        low, high = int(found[1]), int(found[2] or found[1])
        if not 100 <= low <= high <= 599:
            raise complain(f"{text} is out of range", self.cure)
        return low, high

    def json(self) -> JsonSchema:
        number: JsonSchema = {"type": "integer", "minimum": 100, "maximum": 599}
        text = {"type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$"}
        one = [number, text]
        return {"anyOf": [*one, {"type": "array", "items": {"anyOf": one}, "minItems": 1}]}


@dataclass(frozen=True)
class Regex(Kind):
    """A regular expression of Python's re module; it is kept as text."""

    def check(self, value: object) -> str:
        if not isinstance(value, str) or not value:
            raise complain(f"{show(value)} is not a regular expression", "put it in quotes")
        try:
            with warnings.catch_warnings(action="ignore"):
                re.compile(value)
        except (re.error, OverflowError, RecursionError) as error:
            cure = "mend it; a backslash takes the meaning of . * + ? ( ) [ ] { } ^ $ | away"
            raise complain(f"not a regular expression: {error}", cure) from None
        return value

    def json(self) -> JsonSchema:
        return {"type": "string", "minLength": 1}


@dataclass(frozen=True)
class HeaderValue(Kind):
    """The value of a request header: often a secret, so nothing here may repeat it."""

    def check(self, value: object) -> SecretStr:
        if not isinstance(value, str):
            raise complain("the value is not text", "put it in quotes")
        if any(not c.isprintable() and c != "\t" for c in value) or value != value.strip():
            cure = "write it in one line, without space at its ends"
            raise complain("the value has characters that no header can hold", cure)
        return SecretStr(value)

    def json(self) -> JsonSchema:
        return {"type": "string"}
