"""YAML as runs and sweeps write it: plain values, and none that stand for more than they are."""

from typing import Any

from svdbench.errors import one_line


def documents(text: str) -> list[Any]:
    """The documents of a text; nothing in it is executed.

    Raises:
        ValueError: what is wrong with it, to be put after the name of its file.
    """
    import yaml  # type: ignore[import-untyped]

    try:
        # Aliases of a few letters may stand for gigabytes.
        aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text))
        found = [] if aliases else list(yaml.safe_load_all(text))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"is not YAML: {one_line(error)}") from error
    if aliases:
        raise ValueError("has aliases, which svdbench never writes")
    return found
