"""MkDocs reads docs/ only: links to other files of the repository become their names, and its plots
are copied to the site."""

import pathlib
import re

from mkdocs.structure.files import File

_PLOTS = pathlib.Path(__file__).parents[1] / "benchmarks" / "results"
_PLOT = re.compile(r"!\[([^]]*)\]\(\.\./benchmarks/results/([^)]*)\)")
_OUTSIDE = re.compile(r"\[([^]]*)\]\((\.\./[^)]*)\)")


def on_files(files, config, **kwargs):
    """Adds the plots of benchmarks/results."""
    for plot in sorted(_PLOTS.glob("*.png")):
        files.append(File.generated(config, f"images/{plot.name}", abs_src_path=str(plot)))
    return files


def on_page_markdown(markdown: str, page, **kwargs) -> str:
    """Replaces `[text](../path)` by the text and the path, as seen from the repository's root."""
    if page.file.src_uri.startswith("reference/"):
        return markdown
    return _OUTSIDE.sub(_as_text, _PLOT.sub(r"![\1](images/\2)", markdown))


def _as_text(match: re.Match) -> str:
    text, path = match[1], match[2].removeprefix("../")
    return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"
