"""What mkdocs.yml cannot say: navigation that fits the pages, pages from outside docs/, notebooks."""

import json
import posixpath
import re
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OUTSIDE = {  # places in the repository, and on the site
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    **{
        f"benchmarks/results/{file.name}": f"measured/{file.name}"
        for file in (ROOT / "benchmarks/results").iterdir()
    },
    **{
        file.relative_to(ROOT).as_posix(): file.relative_to(ROOT).as_posix()
        for file in sorted((ROOT / "examples").rglob("*"))
        if file.is_file() and file.suffix != ".pyc"
    },
}
MODULES = {  # pages of the reference, if the module exists and names what is public
    "robustsabn": "Layers, routes, conversion",
    "robustsabn.attacks": "Attacks",
    "robustsabn.attacks.reporting": "Reports of attacks",
    "robustsabn.attacks.adapters": "Attacks of other libraries",
    "robustsabn.trainers": "Training",
    "robustsabn.trainers.methods": "Training methods",
    "robustsabn.analysis": "Analysis",
    "robustsabn.models": "Networks",
    "robustsabn.models.gan": "Networks of GANs",
    "robustsabn.models.nas": "Networks of architecture search",
    "robustsabn.models.style": "Networks of style transfer",
    "robustsabn.nas": "Architecture search",
    "robustsabn.style": "Pictures and styles",
    "robustsabn.data": "Data",
    "robustsabn.metrics": "Metrics of generated images",
    "robustsabn.config": "Configurations",
    "robustsabn.errors": "Errors",
}
LINK = re.compile(r"(\]\()([^)\s:#]+)((?:#[^)\s]*)?\))")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
FENCE = re.compile(r"(^```.*?^```[^\n]*$)", re.MULTILINE | re.DOTALL)
PACKAGE = tempfile.TemporaryDirectory()


@event_priority(100)  # before mkdocstrings reads its paths
def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show mkdocstrings the package as it is installed: with attacks, trainers and configs inside."""
    package = Path(PACKAGE.name) / "robustsabn"
    if not package.exists():
        package.mkdir()
        for part in [
            *(ROOT / "robustsabn").iterdir(),
            *(ROOT / name for name in ("attacks", "trainers", "configs")),
        ]:
            (package / part.name).symlink_to(part)
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [PACKAGE.name]  # type: ignore[attr-defined]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of `OUTSIDE` and the notebooks, and fit the navigation to the pages there are."""
    for place, name in OUTSIDE.items():
        source = ROOT / place
        if source.suffix == ".md":
            files.append(File.generated(config, name, content=source.read_text(encoding="utf-8")))
        else:
            files.append(File.generated(config, name, abs_src_path=str(source)))
    for notebook in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        page = File.generated(config, f"notebooks/{notebook.stem}.md", content="".join(_cells(notebook)))
        files.append(page)
    for module, title in MODULES.items():
        if _is_public(module):
            content = f"# {title}\n\n`{module}`\n\n::: {module}\n"
            files.append(File.generated(config, f"api/{module}.md", content=content))
    pages = sorted(file.src_uri for file in files.documentation_pages())
    written: set[str] = set()
    config.nav = _fitting(config.nav or [], pages, written)
    if left := [page for page in pages if page not in written]:
        config.nav.append({"More": left})
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository lead to their places on the site."""
    own = page.file.src_uri
    place = next((place for place, name in OUTSIDE.items() if name == own), f"docs/{own}")

    def moved(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(place), link[2]))
        name = OUTSIDE.get(target, target.removeprefix("docs/") if target.startswith("docs/") else None)
        if name is None:
            return link[0]
        return f"{link[1]}{posixpath.relpath(name, posixpath.dirname(own) or '.')}{link[3]}"

    parts = FENCE.split(markdown)
    return "".join(part if part.startswith("```") else LINK.sub(moved, part) for part in parts)


def _is_public(module: str) -> bool:
    place = Path(PACKAGE.name).joinpath(*module.split("."))
    file = next((f for f in (place / "__init__.py", place.with_suffix(".py")) if f.exists()), None)
    return file is not None and "__all__" in file.read_text(encoding="utf-8")


def _fitting(items: list[Any], pages: list[str], written: set[str]) -> list[Any]:
    """The navigation without pages that do not exist, with all pages of a pattern; `written` gets them."""
    order = [f"api/{module}.md" for module in MODULES if f"api/{module}.md" in pages]
    order += [page for page in pages if page not in order]
    found: list[Any] = []
    for item in items:
        title, target = next(iter(item.items())) if isinstance(item, dict) else ("", item)
        if isinstance(target, str) and "*" in target:
            target = [page for page in order if fnmatch(page, target)]
        if isinstance(target, list):
            target = _fitting(target, pages, written)
        elif target not in pages:
            continue
        else:
            written.add(target)
        if target:
            found.append({title: target} if title else target)
    return found


def _cells(notebook: Path) -> Iterator[str]:
    """A notebook as Markdown: its text, code and outputs."""
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield f"{source.replace('.ipynb)', '.md)')}\n\n"
            if number == 0:
                yield f"[Download the notebook]({notebook.name})\n\n"
            continue
        yield f"```python\n{source}\n```\n\n"
        text = ""
        for output in cell["outputs"]:
            data = output.get("data", {})
            if "image/png" in data:
                picture = "".join(data["image/png"]).strip()
                yield f'<img alt="output" src="data:image/png;base64,{picture}">\n\n'
            else:
                text += COLOUR.sub("", "".join(output.get("text", data.get("text/plain", []))))
        if text.strip():
            yield f"```text\n{text.rstrip()}\n```\n\n"
