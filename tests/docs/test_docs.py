"""The documentation's Python blocks run; those whose fence says `python no-run` are left out."""

import re
from pathlib import Path

import pytest

from robustsabn.config import recipes
from tests.helpers import ROOT

PAGES = [*sorted((ROOT / "docs").glob("*.md")), *[p for p in [ROOT / "README.md"] if p.exists()]]
BLOCK = re.compile(r"^```python[ \t]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)


def _blocks() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in BLOCK.finditer(text):
            line = text.count("\n", 0, match.start(1)) + 1
            # blank lines in front, so that a traceback names the line of the page
            found.append((f"{page.relative_to(ROOT)}:{line}", "\n" * (line - 1) + match[1]))
    return found


BLOCKS = _blocks()


@pytest.mark.parametrize(("place", "source"), BLOCKS, ids=[place for place, _ in BLOCKS])
def test_block_runs(place: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(source, str(ROOT / place.rpartition(":")[0]), "exec"), {"__name__": "__main__"})  # noqa: S102  # our own pages


def test_these_pages_have_blocks() -> None:
    pages = {place.rpartition(":")[0] for place, _ in BLOCKS}
    assert {f"docs/{name}.md" for name in ("architecture", "autoattack", "routing", "training")} <= pages


def test_commands_train_recipes_that_exist() -> None:
    known = set(recipes())
    for page in [*PAGES, *(ROOT / "benchmarks" / "results").glob("*.md")]:
        for name in re.findall(r"robustsabn train ([\w./-]+)", page.read_text(encoding="utf-8")):
            if name not in ("CONFIG", "digits-METHOD") and not name.endswith(".yaml"):
                assert name in known, f"{page.name}: {name}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        text = re.sub(
            r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
        )
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
