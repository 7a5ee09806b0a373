"""The documentation names everything there is, and its links lead somewhere."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import pytest
from django.core.management import get_commands

from importops.api.urls import ENDPOINTS
from importops.conf import Conf
from importops.importers.registry import IMPORTERS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
README = "README.md"

TYPES: dict[object, str] = {
    int: "integer",
    float: "number",
    bool: "switch",
    tuple[str, ...]: "list",
}
SETTINGS = [field for field in fields(Conf) if field.name != "data_dir"]
COMMANDS = sorted(name for name, app in get_commands().items() if app == "importops")


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def rows_of(page: str) -> dict[str, list[str]]:
    """The rows of a page's tables whose first cell is one name in backticks: name -> cells."""
    rows = {}
    for line in text_of(page).splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and (name := re.fullmatch(r"`([^`]+)`", cells[0])):
            rows[name[1]] = cells
    return rows


def headings_of(page: str) -> list[str]:
    return re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)


def anchors_of(page: Path) -> set[str]:
    """The headings as links name them: lower case, dashes for spaces, no punctuation."""
    headings = headings_of(str(page.relative_to(ROOT)))
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def variables_of_settings() -> set[str]:
    """Names that `project/settings.py` reads from the environment itself."""
    source = text_of("project/settings.py")
    return set(re.findall(r'env(?:iron)?\.\w+\(\s*"([A-Z0-9_]+)"', source))


def written(default: object) -> str:
    """A default as the tables have it."""
    if default == ():
        return "empty"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def make_targets() -> list[str]:
    return re.findall(r"^([a-z-]+):.*## ", text_of("Makefile"), re.MULTILINE)


def links() -> list[tuple[Path, str]]:
    """Every link between files: the page it is on, and its target."""
    return [
        (page, target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
        if not re.match(r"[a-z]+:", target) and target != "url"
    ]


def test_there_is_something_to_look_for() -> None:
    assert {"SECRET_KEY", "DATABASE_URL", "IMPORTOPS_DATA_DIR"} <= variables_of_settings()
    assert {"serve", "import_file"} <= set(COMMANDS)
    assert {"serve", "test", "help"} <= set(make_targets())
    assert len(links()) > 10


@pytest.mark.parametrize("field", SETTINGS, ids=lambda field: field.name)
def test_running_lists_every_setting_of_ours_with_type_and_default(field: object) -> None:
    (setting,) = (known for known in SETTINGS if known is field)
    name = f"IMPORTOPS_{setting.name.upper()}"
    row = rows_of("docs/running.md").get(name)
    assert row is not None, f"{name} is not in docs/running.md"
    assert row[1:3] == [TYPES[get_type_hints(Conf)[setting.name]], written(setting.default)]
    assert row[3]


def test_running_lists_every_variable_that_the_settings_read() -> None:
    assert variables_of_settings() - rows_of("docs/running.md").keys() == set()


def test_no_page_names_a_setting_that_does_not_exist() -> None:
    ours = {f"IMPORTOPS_{field.name.upper()}" for field in fields(Conf)}
    tests_own = set(re.findall(r"IMPORTOPS_[A-Z_]+", text_of("tests/conftest.py")))
    known = ours | variables_of_settings() | tests_own
    for page in PAGES:
        named = set(re.findall(r"IMPORTOPS_[A-Z0-9_]*[A-Z0-9]\b", page.read_text(encoding="utf-8")))
        assert named - known == set(), page.name


@pytest.mark.parametrize("command", COMMANDS)
def test_running_and_the_readme_list_every_command(command: str) -> None:
    row = rows_of("docs/running.md").get(command)
    assert row is not None, f"{command} is not in the table of docs/running.md"
    assert re.fullmatch(r"\d(, \d)*", row[2]), "its exit codes"
    assert f"`{command}`" in text_of(README)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_api_describes_every_endpoint_and_the_readme_lists_it(endpoint: str) -> None:
    method = "POST" if hasattr(ENDPOINTS[endpoint], "post") else "GET"
    assert f"{method} {endpoint}" in headings_of("docs/api.md")
    assert f"`{endpoint}`" in text_of(README)


def test_api_describes_no_endpoint_that_does_not_exist() -> None:
    described = {
        heading.partition(" ")[2]
        for heading in headings_of("docs/api.md")
        if heading.startswith(("GET ", "POST "))
    }
    assert described == ENDPOINTS.keys()


@pytest.mark.parametrize("key", IMPORTERS)
def test_every_importer_has_a_section_and_stands_in_the_readme(key: str) -> None:
    assert any(f"(`{key}`)" in heading for heading in headings_of("docs/importers.md"))
    assert f"`{key}`" in text_of(README)


def test_importers_describes_every_code_of_a_failed_record() -> None:
    codes = {
        code
        for path in (ROOT / "importops").rglob("*.py")
        for code in re.findall(r'"(importer-[a-z-]+)"', path.read_text(encoding="utf-8"))
    }
    assert codes
    assert {code for code in codes if f"`{code}`" not in text_of("docs/importers.md")} == set()


@pytest.mark.parametrize("target", make_targets())
def test_contributing_lists_every_make_target(target: str) -> None:
    assert f"make {target}" in rows_of("docs/contributing.md")


@pytest.mark.parametrize(("source", "target"), links(), ids=str)
def test_links_lead_somewhere(source: Path, target: str) -> None:
    name, _, anchor = target.partition("#")
    there = (source.parent / name).resolve() if name else source
    assert there.exists(), f"{source.name} links to {target}"
    if anchor:
        assert anchor in anchors_of(there), f"{source.name} links to {target}"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_page_can_be_reached_from_the_readme(path: Path) -> None:
    reached = {(start.parent / target.partition("#")[0]).resolve() for start, target in links()}
    assert path.name == README or path in reached
