"""MkDocs reads docs/ only: links to other files of the repository become their names."""

import re

_OUTSIDE = re.compile(r"\[([^]]*)\]\((\.\./[^)]*)\)")


def on_page_markdown(markdown: str, page, **kwargs) -> str:
    """Replaces `[text](../path)` by the text and the path, as seen from the repository's root."""
    if page.file.src_uri.startswith("reference/"):
        return markdown
    return _OUTSIDE.sub(_as_text, markdown)


def _as_text(match: re.Match) -> str:
    text, path = match[1], match[2].removeprefix("../")
    return f"`{path}`" if text.strip("`") == path else f"{text} (`{path}`)"
