"""The pages in Markdown: what they link to exists; results are headlines by hand and tables by machine."""

import re
from pathlib import Path

import pytest

import material
from places import ROOT

PAGES = sorted({ROOT / "README.md", ROOT / "benchmarks" / "README.md", *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")})
GENERATED = sorted(material.RESULTS.glob("*.md"))


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", text):
        name, _, anchor = target.partition("#")
        found = page.parent / name if name else page
        assert found.exists(), f"{page.name} links to {target}: no such file"
        assert not anchor or anchor in headings(found), f"{page.name} links to {target}: no such heading"


def test_results_are_one_page_that_links_to_every_table():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert {path.name for path in GENERATED} == set(re.findall(r"\(results/([^)]+)\)", text))
    for path in GENERATED:
        assert path.read_text(encoding="utf-8").startswith(material.NOTICE + "\n\n## "), path


def test_publishing_rewrites_one_page_and_no_other(tmp_path: Path):
    for name, text in (("one", "## One\n\nold"), ("two", "## Two"), ("one", "## One\n\nnew\n")):
        written = material.publish(name, text, folder=tmp_path / "results")
        assert written == tmp_path / "results" / f"{name}.md"
    assert written.read_text(encoding="utf-8") == f"{material.NOTICE}\n\n## One\n\nnew\n"
    assert (tmp_path / "results" / "two.md").read_text(encoding="utf-8") == f"{material.NOTICE}\n\n## Two\n"


def test_every_benchmark_that_publishes_has_its_page():
    sources = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("benchmarks/*.py"))
    assert set(re.findall(r'conclude\(\s*"([\w-]+)"', sources)) == {path.stem for path in GENERATED}
