"""What all parts of the schema are made of."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from vipd.config.types import parse_duration


def duration(default: str, description: str) -> Any:
    """A field whose default is said in the file's words to editors; None stands for ``auto``."""
    return Field(
        default=None if default == "auto" else parse_duration(default),
        description=description,
        json_schema_extra={"default": default},
    )


class Section(BaseModel):
    """A mapping with fixed keys: unknown ones are errors, values are taken as written."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
