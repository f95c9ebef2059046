"""What MkDocs calls while it builds the site: adds generated pages, and mends links out of docs/.

The pages of ``docs/`` also stand on GitHub, so their links lead into the repository, as in
``../results/reference/tune``. Here those files are put at the same path in the site, or where they
are no part of it, the link leads to the repository.
"""

import re
import tomllib
from pathlib import Path, PurePosixPath
from posixpath import normpath

from columns import columns_page
from command_line import command_line_page
from gallery import gallery_page
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebooks import notebook_pages

ROOT = Path(__file__).resolve().parents[2]
REPRODUCED = PurePosixPath("results/reference/reproduce")
# What stands in the place of a comment on its page.
MARKERS = {
    "<!-- generated: columns -->": columns_page,
    "<!-- generated: command line -->": command_line_page,
    "<!-- generated: gallery -->": gallery_page,
}
# Pages of the site that are files of the repository's first folder.
WHOLE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
SHOWN = {".png", ".csv", ".json"}
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
LINK = re.compile(r"(\]\()([^)\s]+)(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    from svdbench.jobs.reproduce.result import SOURCES, all_results

    pages = {source.cited: [] for source in SOURCES.values()}
    for result in all_results():
        page = str(REPRODUCED / result.name / "README.md")
        pages[SOURCES[result.source].cited].append({result.title: page})
    group = next(entry["Results"] for entry in config.nav if "Results" in entry)
    group += [{cited: entries} for cited, entries in pages.items()]
    # Not as repo_url: for that the theme asks GitHub for stars whenever a page is opened.
    config.extra["social"] = [{"icon": "fontawesome/brands/github", "link": REPOSITORY}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name, content in notebook_pages(ROOT / "docs" / "notebooks").items():
        files.append(File.generated(config, name, content=content))
    for name, page in WHOLE.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text()))
    for path in sorted((ROOT / "results" / "reference").rglob("*")):
        place = path.relative_to(ROOT).as_posix()
        if path.suffix == ".png" or (path.suffix == ".md" and place.startswith(str(REPRODUCED))):
            files.append(File.generated(config, place, abs_src_path=str(path)))
    for page in list(files.documentation_pages()):
        for target in links_out(page):
            if target.suffix in SHOWN and files.get_file_from_path(str(target)) is None:
                path = str(ROOT / target)
                files.append(File.generated(config, str(target), abs_src_path=path))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    for marker, generated in MARKERS.items():
        if marker in markdown:
            # Quoted lines are notes for readers on GitHub, where the page is not generated.
            markdown = re.sub(r"^> .*\n", "", markdown, flags=re.MULTILINE)
            markdown = markdown.replace(marker, generated())
    depth = len(PurePosixPath(page.file.src_uri).parts) - 1

    def mended(found: re.Match[str]) -> str:
        before, link, after = found.groups()
        path, mark, anchor = link.partition("#")
        target = place_of(page.file, path)
        if "://" in link or not path or target is None:
            return found.group()
        name = WHOLE.get(str(target), str(target))
        name = name.removeprefix("docs/")
        if files.get_file_from_path(name) is not None:
            return before + "../" * depth + name + mark + anchor + after
        kind = "tree" if (ROOT / target).is_dir() else "blob"
        return f"{before}{REPOSITORY}/{kind}/main/{target}{mark}{anchor}{after}"

    return LINK.sub(mended, markdown)


def links_out(file: File) -> list[PurePosixPath]:
    """The files outside docs/ that a page links to."""
    text = file.content_string
    targets = (place_of(file, found.group(2).partition("#")[0]) for found in LINK.finditer(text))
    return [each for each in targets if each is not None and (ROOT / each).is_file()]


def place_of(file: File, link: str) -> PurePosixPath | None:
    """Where in the repository a link of a page leads; None if nothing is there."""
    src = file.src_uri
    if not link or "://" in link or link.startswith("mailto:"):
        return None
    inside = (ROOT / "docs" / src).is_file() or src.startswith("notebooks/")
    where = next((name for name, page in WHOLE.items() if page == src), None)
    home = where or (f"docs/{src}" if inside else src)
    target = PurePosixPath(normpath(f"{PurePosixPath(home).parent}/{link}"))
    return target if (ROOT / target).exists() else None
