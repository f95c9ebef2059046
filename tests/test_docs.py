"""README, docs and what a release needs: links, generated pages, one version, no riddles."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from documented import blocks

from svdbench import members
from svdbench.record.schema import TableSchema

ROOT = Path(__file__).resolve().parents[1]
HOOKS = ROOT / "docs" / "hooks"
FIRST = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*FIRST, *sorted((ROOT / "docs").rglob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SITE = ROOT / ".mkdocs.yml"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_first_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_page_for_pypi_has_no_relative_links_and_the_code_of_the_readme() -> None:
    """PyPI shows neither relative links nor pictures."""
    page = ROOT / PROJECT["readme"]
    assert "](" not in page.read_text()
    ours = {block.text for block in blocks(FIRST[0])}
    assert {block.text for block in blocks(page)} - ours == {"pip install svdbench\n"}


def test_every_page_can_be_reached() -> None:
    """From the README by links, or from the site's navigation."""
    nav = SITE.read_text()
    reached: set[Path] = set()
    todo = [PAGES[0]]
    while todo:
        page = todo.pop()
        reached.add(page)
        for link in re.findall(r"\]\(([^)#]+\.md)", page.read_text()):
            target = (page.parent / link).resolve()
            if target in PAGES and target not in reached:
                todo.append(target)
    for page in PAGES:
        inside = page.is_relative_to(ROOT / "docs")
        in_nav = inside and f": {page.relative_to(ROOT / 'docs')}\n" in nav
        assert page in reached or in_nav, page


def in_docs(name: str, monkeypatch: pytest.MonkeyPatch) -> object:
    """A generator of the documentation."""
    monkeypatch.syspath_prepend(str(HOOKS))
    return import_module(name)


def test_the_times_of_all_methods_are_those_of_the_reference_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = in_docs("times", monkeypatch).method_table()  # type: ignore[attr-defined]
    assert len(rows.splitlines()) == 2 + len(members.METHODS.names())
    assert rows in (ROOT / "docs" / "timing.md").read_text(), (
        f"docs/timing.md should have\n\n{rows}"
    )


def schemas() -> list[TableSchema]:
    """Every table that some module of svdbench defines."""
    found = []
    for path in (ROOT / "svdbench").rglob("*.py"):
        if re.search(r"^\w+ = TableSchema\(", path.read_text(), re.MULTILINE):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found += [x for x in vars(import_module(module)).values() if isinstance(x, TableSchema)]
    return found


def test_every_column_of_every_table_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = in_docs("columns", monkeypatch)
    listed = [t for job in columns.TABLES for t in columns.tables_of(job)]  # type: ignore[attr-defined]
    assert len(schemas()) > 10
    for schema in schemas():
        assert schema in listed, f"{schema.name}: add the table to docs/hooks/columns.py"
    page = columns.columns_page()  # type: ignore[attr-defined]  # a KeyError names a column
    assert "| `vs_best` |" in page


def test_no_column_is_explained_that_no_table_has() -> None:
    from svdbench.record import columns
    from svdbench.record.schema import COMMON

    known = {*COMMON, *(column for schema in schemas() for column in schema.own)}
    assert set(columns.MEANINGS) <= known
    assert {column for own in columns.OF_JOB.values() for column in own} <= known


def test_the_command_line_has_a_section_for_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    page = in_docs("command_line", monkeypatch).command_line_page()  # type: ignore[attr-defined]
    for command in ("time-fasth", "compress", "data fetch", "reproduce"):
        assert f"## `svdbench {command}`" in page
    assert "[b]" not in page
    assert "```sh\nsvdbench time-fasth --quick\n" in page
    assert "...\n* `" not in page


def test_docstrings_become_markdown(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("griffe")
    as_markdown = in_docs("roles", monkeypatch).as_markdown  # type: ignore[attr-defined]
    assert as_markdown("See :func:`~a.b`::") == (
        'See <autoref optional identifier="a.b"><code>b</code></autoref>:'
    )
    example = "Example:\n    .. code-block:: python\n\n        if x:\n            y"
    assert as_markdown(example) == "Example:\n    ```python\n    if x:\n        y\n    ```"
    table = "====  ===\nname  of\n====  ===\nx     y z\n====  ===\nafter"
    assert as_markdown(table) == "| name | of |\n|---|---|\n| x | y z |\nafter"


def test_the_gallery_has_every_plot(monkeypatch: pytest.MonkeyPatch) -> None:
    page = in_docs("gallery", monkeypatch).gallery_page()  # type: ignore[attr-defined]
    for path in (ROOT / "results" / "reference").rglob("*.png"):
        if "quick" not in path.parts:
            assert f"../{path.relative_to(ROOT)}" in page, "add it to docs/hooks/gallery.py"


USERS_SEE = ["README.md", "CONTRIBUTING.md", "CITATION.cff", "docs", "conf", "svdbench", "results"]


def test_no_report_goes_by_a_number() -> None:
    """The four reports are cited by their authors, wherever a user may see them."""
    numbered = re.compile(r"(document|slides|report)s? 00\d", re.IGNORECASE)
    for name in USERS_SEE:
        paths = [ROOT / name] if (ROOT / name).is_file() else (ROOT / name).rglob("*")
        for path in paths:
            if path.suffix in {".md", ".py", ".yaml", ".cff", ".html", ".ipynb"}:
                assert not numbered.search(path.read_text()), path


def test_a_release_has_one_version_and_one_address() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    address = PROJECT["urls"]["Repository"]
    assert str(citation["version"]) == PROJECT["version"]
    assert citation["repository-code"] == address
    assert "repo_url" not in SITE.read_text()  # docs/hooks/site.py has the address from the project
    assert re.search(rf"^## {re.escape(PROJECT['version'])}\b", FIRST[2].read_text(), re.MULTILINE)


def test_workflows_call_targets_that_there_are() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    workflows = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert len(workflows) == 2
    for path in workflows:
        called = re.findall(r"run: make (.+)", path.read_text())
        assert called
        assert {word for line in called for word in line.split()} <= targets


# Addresses of the site that a browser would fetch by itself.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source)[^>]+\bsrc=[\"']?(https?:)?//|"
    r"<link[^>]+rel=[\"']?(?:stylesheet|icon|preconnect|preload)[^>]+href=[\"']?(https?:)?//"
)


@pytest.mark.slow
def test_the_site_builds_strictly_and_fetches_nothing(tmp_path: Path) -> None:
    for name in ("mkdocs", "material", "mkdocstrings", "nbconvert"):
        if not find_spec(name):
            pytest.skip(f"{name} is not installed: make docs installs it")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(SITE)]
    done = subprocess.run(
        [*command, "--site-dir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text()
        assert not FETCHED.search(text), page
        assert 'data-md-component="source"' not in text, f"{page}: the theme asks GitHub for stars"
    for module in ("nn", "lowrank", "kernels", "extend"):
        page = (tmp_path / "reference" / f"{module}.html").read_text()
        for name in import_module(f"svdbench.{module}").__all__:
            assert re.search(rf'id="svdbench\.{module}\.(?:\w+\.)*{name}"', page), name
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"@import|url\([\"']?(https?:)?//", style.read_text()), style
