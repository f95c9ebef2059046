"""Overrides of a configuration, written in Hydra's grammar."""

import json
import re
from typing import Any


def override(key: str, value: Any) -> str:
    """``key=value`` in Hydra's grammar, whatever is in the value."""
    return f"{key}={_text(value)}"


def _text(value: Any) -> str:
    """A value in Hydra's grammar, of which JSON's is nearly a part."""
    if isinstance(value, str):
        # A backslash means itself there, but before a quote.
        return "'" + re.sub(r"(\\*)('|$)", _escaped, value) + "'"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_text(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_text(inner) for inner in value) + "]"
    return json.dumps(value)


def _escaped(match: re.Match[str]) -> str:
    return 2 * match[1] + ("\\'" if match[2] else "")
