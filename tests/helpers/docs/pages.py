"""The blocks of the documentation's pages, and what runs them at a small size."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import metadata
from pathlib import Path
from typing import Any

from robustsabn.cli import main
from robustsabn.trainers.tasks import load_config
from tests.helpers import ROOT

__all__ = ["PAGES", "Block", "blocks", "run"]

PAGES = sorted(page for page in (ROOT / "docs").rglob("*.md"))
FENCE = re.compile(r'^```(\S*)(?: title="([^"]*)")?[ \t]*\n(.*?)^```[ \t]*$', re.MULTILINE | re.DOTALL)

SMALL = {  # keys of `robustsabn train` for each task, which what a page writes overrides
    "adversarial": "steps=2 batch_size=8 attack.steps=1 validation.images=8 validation.steps=1 "
    "test.images=8 test.steps=1 test.autoattack=none device=cpu",
    "gan": "steps=2 batch_size=16 validation.images=100 test.images=100 device=cpu",
}
FEW = {"evaluate": ["--n", "4"], "autoattack": ["--n", "2"], "fd": ["--n", "200"]}
"""Options of commands that would take long."""


@dataclass(frozen=True, kw_only=True)
class Block:
    page: Path
    line: int
    language: str
    title: str
    source: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_file(self) -> bool:
        """Whether the title is the name of a file that the block holds."""
        return self.language in ("python", "yaml") and re.fullmatch(r"[\w-]+\.\w+", self.title) is not None

    @property
    def needs_commands(self) -> bool:
        """Whether it is a command, or Python with a title, such as "with the run above"."""
        return self.language == "sh" or (self.language == "python" and self.title != "" and not self.is_file)


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start(3)) + 1,
            language=found[1],
            title=found[2] or "",
            source=found[3],
        )
        for found in FENCE.finditer(text)
    ]


def run(parts: Iterable[Block]) -> None:
    """Run blocks in the working directory, in order; one whose title is a file's name writes that file."""
    names: dict[str, Any] = {"__name__": "__main__"}
    if not Path("examples").exists():
        Path("examples").symlink_to(ROOT / "examples")
    for part in parts:
        if part.is_file:
            Path(part.title).write_text(part.source, encoding="utf-8")
        elif part.language == "python":
            source = "\n" * (part.line - 1) + part.source  # a traceback names the line of the page
            exec(compile(source, str(part.page), "exec"), names)  # noqa: S102  # our own pages
        elif part.language == "sh":
            for line in part.source.replace("\\\n", " ").splitlines():
                if words := shlex.split(line, comments=True):
                    assert _command(words) == 0, f"{part.place}: {line}"


def _command(words: list[str]) -> int:
    program, *rest = words
    if program == "robustsabn":
        return main(_small(rest))
    if program == "pip":
        return _install(rest)
    if program == "tensorboard":  # a server; it has something to show
        return 0 if list(Path(rest[rest.index("--logdir") + 1]).rglob("events.out.*")) else 1
    if program == "torchrun":
        at = rest.index("robustsabn") + 1
        launch = [sys.executable, "-m", "torch.distributed.run", *rest[:at], *_small(rest[at:])]
        return subprocess.run(launch, check=False, timeout=300).returncode
    return subprocess.run([sys.executable if program == "python" else program, *rest], check=False).returncode


def _small(words: list[str]) -> list[str]:
    verb, *rest = words
    if verb == "train":
        recipe, *more = rest
        return [verb, recipe, *SMALL.get(load_config(recipe).task, "steps=2 device=cpu").split(), *more]
    return [*words, *FEW.get(verb, [])]


def _install(words: list[str]) -> int:
    """The optional packages that a page installs are those of pyproject.toml."""
    known = metadata("robustsabn").get_all("Provides-Extra") or []
    asked = [name for word in words for found in re.findall(r"\[(.+)\]", word) for name in found.split(",")]
    return 0 if set(asked) <= set(known) else 1
