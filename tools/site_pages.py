"""Pages that are made when the site is built: the start page from README.md, and the gallery from examples/gallery.

MkDocs calls the functions whose names begin with ``on_`` (``hooks`` in mkdocs.yml). Each example of the gallery is a
script in the percent format of jupytext. It is executed as a notebook, and its page shows text, code, output and
pictures.
"""

# The libraries that build the site are no part of the environment in which types are checked.
# pyright: reportMissingImports=false

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
GALLERY = ROOT / "examples" / "gallery"
SECONDS = 180  # for one example, on a busy machine

# Files beside README.md and of the packages that are pages of the site.
PAGES = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "cggd/datasets/LICENSES.md": "licences.md",
}

# What a page would load from a network: scripts, style sheets, fonts and pictures.
REMOTE = re.compile(r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?https?:|<link\b[^>]*\bhref=["']?https?:""")


def titles() -> dict[Path, tuple[str, str]]:
    """Title and first sentence of each example, in the order in which the gallery shows them.

    They are the first two paragraphs of the script: a heading and a text, in comments.
    """
    found = {}
    for path in sorted(GALLERY.glob("*.py")):
        text = path.read_text(encoding="utf-8").replace("\r", "")
        match = re.search(r"^# %% \[markdown\]\n# # (.+)\n#\n((?:# .+\n)+)", text, re.MULTILINE)
        if match is None:
            raise ValueError(f"{path} must begin with a markdown cell that holds a heading and a paragraph")
        sentence = re.split(r"(?<=[.?])\s", match[2].replace("\n# ", " ").removeprefix("# ").strip())[0]
        found[path] = match[1], sentence
    return found


def with_links(text: str, source: str, page: str) -> str:
    """Text of a file of the repository as text of a page: links lead to pages; files that are no pages are named."""

    def link(match: re.Match[str]) -> str:
        words, (target, mark, anchor) = match[1], match[2].partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(source), target))
        if "://" in target or not target:
            return match[0]
        if path in PAGES or path.startswith(("docs/", "examples/gallery")):
            there = PAGES.get(path, path.removeprefix("docs/"))
            if path.startswith("examples/gallery"):
                there = f"gallery/{Path(path).stem}.md" if path.endswith(".py") else "gallery/index.md"
            return f"[{words}]({os.path.relpath(there, os.path.dirname(page) or '.')}{mark}{anchor})"
        return f"{words} (`{path}`)"

    return re.sub(r"\[([^\[\]]*)\]\(([^)\s]+)\)", link, text)


def executed(path: Path, title: str) -> tuple[str, dict[str, bytes]]:
    """Page of an example and its pictures by name, after running it as a notebook."""
    import jupytext
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbconvert import MarkdownExporter

    notebook = jupytext.read(path)
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc")
    NotebookClient(notebook, km=kernel, timeout=SECONDS, resources={"metadata": {"path": ROOT}}).execute()
    body, resources = MarkdownExporter().from_notebook_node(notebook, resources={"unique_key": path.stem})
    numbers = {name: n for n, name in enumerate(resources["outputs"], 1)}
    for name, n in numbers.items():
        body = body.replace(f"![png]({name})", f"![{title}, picture {n}]({path.stem}_{n}.png)")
    source = path.relative_to(ROOT).as_posix()
    body += f"\nThe script is `{source}`; `jupytext --to notebook {source}` makes a notebook of it.\n"
    return body, {f"{path.stem}_{n}.png": resources["outputs"][name] for name, n in numbers.items()}


def index_of_gallery(pictures: dict[str, list[str]]) -> str:
    """Page with a card for each example."""
    cards = []
    for path, (title, sentence) in titles().items():
        drawn = pictures[path.stem]
        picture = f"    ![{title}]({drawn[-1]})\n\n" if drawn else ""
        cards.append(f"-   [**{title}**]({path.stem}.md)\n\n{picture}    {sentence}\n")
    return (
        "# Gallery\n\nEach example is a script of a few seconds in `examples/gallery`, on data that ship with the "
        "package. Its text, output and pictures were made when this site was built.\n\n"
        '<div class="grid cards" markdown>\n\n' + "\n".join(cards) + "\n</div>\n"
    )


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made here."""
    from mkdocs.structure.files import File

    def add(name: str, content: str | bytes) -> None:
        files.append(File.generated(config, name, content=content))

    for source, page in PAGES.items():
        add(page, with_links((ROOT / source).read_text(encoding="utf-8"), source, page))
    pictures: dict[str, list[str]] = {}
    for path, (title, _) in titles().items():
        page, drawn = executed(path, title)
        pictures[path.stem] = list(drawn)
        add(f"gallery/{path.stem}.md", page)
        for name, content in drawn.items():
            add(f"gallery/{name}", content)
    add("gallery/index.md", index_of_gallery(pictures))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Name files that are no pages, where a page of docs links to them."""
    made = page.file.src_uri in PAGES.values() or page.file.src_uri.startswith("gallery/")
    return markdown if made else with_links(markdown, f"docs/{page.file.src_uri}", page.file.src_uri)


def on_config(config: Any) -> Any:
    """List the examples of the gallery in the navigation."""
    entries = [{title: f"gallery/{path.stem}.md"} for path, (title, _) in titles().items()]
    config["nav"] = [
        {"Gallery": ["gallery/index.md", *entries]} if item == {"Gallery": "gallery/"} else item
        for item in config["nav"]
    ]
    return config


def on_post_build(config: Any) -> None:
    """Refuse pages that would load anything from a network."""
    remote = [
        f"{page.name}: {match[0]}"
        for page in sorted(Path(config["site_dir"]).rglob("*.html"))
        for match in REMOTE.finditer(page.read_text(encoding="utf-8"))
    ]
    if remote:
        raise ValueError("pages load from a network:\n" + "\n".join(remote))
