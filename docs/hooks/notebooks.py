"""Notebooks as pages: their text, code and the outputs that are kept in them."""

from pathlib import Path

from nbconvert import MarkdownExporter


def notebook_pages(folder: Path) -> dict[str, str | bytes]:
    """The page of each notebook of a folder, and its pictures, by their place in the site."""
    found: dict[str, str | bytes] = {}
    for path in sorted(folder.glob("*.ipynb")):
        text, resources = MarkdownExporter().from_filename(str(path))
        pictures = resources["outputs"]
        for name, content in pictures.items():
            found[f"notebooks/{path.stem}/{name}"] = content
            text = text.replace(f"]({name})", f"]({path.stem}/{name})")
        found[f"notebooks/{path.stem}.md"] = text
    return found
