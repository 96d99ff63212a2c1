"""What `make docs` adds to the pages of docs: the README as the first page and its neighbours, the Python interface by
package, and the notebooks with their pictures. A hook of mkdocs; links of the repository become links of the site.
"""

from __future__ import annotations

import base64
import json
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the suite reads the pages without mkdocs
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
ROOT_PAGES = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
}
"""Pages of the site that lie at the repository's root."""
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
STARTS = re.compile(r"(?m)^(?=## )")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the parts of the navigation that are made from files."""
    for entry in config.nav or []:
        if "Python" in entry:
            entry["Python"] = [{text.split("\n", 1)[0].lstrip("# "): f"api/{name}.md"} for name, text in api_pages()]
        if "Notebooks" in entry:
            entry["Notebooks"] = [{title_of(path): f"notebooks/{path.stem}.md"} for path in notebooks()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and pictures that do not lie in docs."""
    from mkdocs.structure.files import File

    for name, source in ROOT_PAGES.items():
        files.append(File.generated(config, name, content=(ROOT / source).read_text(encoding="utf-8")))
    for name, text in api_pages():
        files.append(File.generated(config, f"api/{name}.md", content=text))
    for path in notebooks():
        text, pictures = as_page(path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=text))
        for name, content in pictures.items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links of the repository links of the site."""

    def is_there(name: str) -> bool:
        file = files.get_file_from_path(name)
        return file is not None and not file.inclusion.is_excluded()

    return with_site_links(markdown, page.file.src_uri, is_there)


def with_site_links(markdown: str, source: str, is_there: Callable[[str], bool]) -> str:
    """The text of the page `source` with the site's links; what is not there in the site is named and not linked."""
    place = place_of(source)

    def replace(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return match[0]
        of_repository = posixpath.normpath(posixpath.join(posixpath.dirname(place), path))
        wanted = site_name(of_repository)
        if not is_there(wanted):
            return f"`{text.strip('`')}`" if (ROOT / of_repository).exists() and not picture else match[0]
        relative = posixpath.relpath(wanted, posixpath.dirname(source) or ".")
        return f"{picture}[{text}]({relative}{'#' + anchor if anchor else ''})"

    return "".join(part if part.startswith("```") else LINK.sub(replace, part) for part in fences(markdown))


def place_of(source: str) -> str:
    """The file of the repository that a page of the site is made from, whose links are relative to it."""
    if source in ROOT_PAGES:
        return ROOT_PAGES[source]
    if source.startswith("notebooks/"):
        return source.removesuffix("md") + "ipynb"
    return "docs/api.md" if source.startswith("api/") else f"docs/{source}"


def site_name(path: str) -> str:
    """The path in the site of a file of the repository: docs/a.md is a.md, README.md is index.md."""
    names = {source: name for name, source in ROOT_PAGES.items()} | {"docs/api.md": f"api/{api_pages()[0][0]}.md"}
    if path.startswith("notebooks/") and path.endswith(".ipynb"):
        return path.removesuffix("ipynb") + "md"
    return names.get(path, path.removeprefix("docs/"))


def fences(markdown: str) -> list[str]:
    """A page cut into blocks of code, which begin with their fence, and what is between."""
    return re.split(r"(?ms)(^```.*?^```$)", markdown)


def api_pages() -> list[tuple[str, str]]:
    """docs/api.md by its sections: the names of the pages, and pages that open with a heading of the first level.

    Its links to own headings become links to the pages that these have become.
    """
    head, *parts = STARTS.split((ROOT / "docs" / "api.md").read_text(encoding="utf-8"))
    named = [(re.match(r"## (.+)", part)[1], re.sub(r"(?m)^##", "#", part)) for part in parts]  # type: ignore[index]
    pages = [(title.lower().replace(" ", "-"), text) for title, text in named]
    first, text = pages[0]
    intro = re.sub(r"\]\(#([\w-]+)\)", r"](\1.md)", head.partition("\n\n")[2].strip())
    return [(first, f"{text.rstrip()}\n\n---\n\n{intro}\n"), *pages[1:]]


def notebooks() -> list[Path]:
    """The notebooks, in the order in which the README names them."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    return sorted((ROOT / "notebooks").glob("*.ipynb"), key=lambda path: (readme.find(path.name) % len(readme), path))


def title_of(path: Path) -> str:
    """The heading of a notebook's first cell."""
    return "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][0]["source"]).splitlines()[0].lstrip("# ")


def as_page(path: Path) -> tuple[str, dict[str, bytes]]:
    """A notebook as a page with its outputs, and its pictures by name."""
    parts, pictures = [], {}
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for index, output in enumerate(cell["outputs"]):
            data: dict[str, Any] = output.get("data", {})
            if "image/png" in data:
                name = f"{path.stem}-{number}-{index}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![what the cell above shows]({name})")
            else:
                text = "".join(output.get("text", data.get("text/plain", ""))).rstrip()
                parts += [f"```text\n{text}\n```"] if text else []
    parts.append(f"This page is the notebook `notebooks/{path.name}` with what it gave.")
    return "\n\n".join(parts) + "\n", pictures
