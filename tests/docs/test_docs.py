"""Every block of the documentation runs, or is text whose title says what it needs."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from robustsabn.config import recipes
from robustsabn.trainers.methods import METHODS
from tests.helpers import ROOT
from tests.helpers.docs.pages import PAGES, Block, blocks, run

WITH_CODE = {
    str(page.relative_to(ROOT)): blocks(page) for page in [*PAGES, ROOT / "README.md"] if blocks(page)
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty working directory, from which modules can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with mock.patch.dict(METHODS):
        yield
    for name, module in list(sys.modules.items()):
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("page", WITH_CODE)
def test_python_runs(page: str) -> None:
    run(block for block in WITH_CODE[page] if not block.needs_commands)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in WITH_CODE if page != "README.md"])  # CI runs README's
def test_commands_run(page: str) -> None:
    run(WITH_CODE[page])


@pytest.mark.parametrize("page", [page for page in WITH_CODE if page != "README.md"])
def test_what_does_not_run_says_why(page: str) -> None:
    def said(block: Block) -> bool:
        return block.language in ("python", "sh", "yaml") or (block.language == "text" and bool(block.title))

    silent = [block.place for block in WITH_CODE[page] if not said(block)]
    assert not silent, (
        'python, sh or yaml blocks run; others are ```text title="what it needs, or what it is"'
    )


@pytest.mark.parametrize("page", WITH_CODE)
def test_blocks_that_are_files_of_the_repository_are_equal_to_them(page: str) -> None:
    for block in WITH_CODE[page]:
        name = block.title.partition(":")[0]
        if "/" in name and (ROOT / name).is_file():
            assert block.source == (ROOT / name).read_text(encoding="utf-8"), f"{block.place}: {name}"


def test_commands_train_recipes_that_exist() -> None:
    known = set(recipes())
    for page in [*PAGES, ROOT / "README.md", *(ROOT / "benchmarks" / "results").glob("*.md")]:
        for name in re.findall(r"robustsabn train ([\w./-]+)", page.read_text(encoding="utf-8")):
            if name not in ("CONFIG", "RECIPE", "digits-METHOD") and not name.endswith(".yaml"):
                assert name in known, f"{page.name}: {name}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in PAGES:
        text = re.sub(
            r"^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
        )
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
