"""The report: one row per claim, as Markdown and as an HTML file with embedded images."""

import base64
import html
import os
from collections.abc import Mapping

from alexnet_tf import files
from alexnet_tf.experiments.registry import EXPERIMENTS
from alexnet_tf.experiments.results import ClaimRow, Context, Result

NOT_RUN = "not run"
_COLUMNS = ("Claim", "Published", "Source", "Measured here", "Seeds", "Spread", "Remark")
_STYLE = """
:root { color-scheme: light dark; --text: #222; --page: #fff; --line: #ccc; --head: #f2f2f2;
  --faint: #707070; }
@media (prefers-color-scheme: dark) {
  :root { --text: #ddd; --page: #16181c; --line: #444; --head: #24272d; --faint: #999; }
}
body { font-family: sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em;
  color: var(--text); background: var(--page); }
table { border-collapse: collapse; font-size: 0.9em; }
th, td { border: 1px solid var(--line); padding: 0.4em 0.6em; text-align: left;
  vertical-align: top; }
th { background: var(--head); }
td.none { color: var(--faint); }
figure { margin: 1.5em 0; }
img { max-width: 100%; background: #fff; border: 1px solid var(--line); }
code { background: var(--head); padding: 0.1em 0.3em; overflow-wrap: anywhere; }
/* Narrow: a row becomes a block whose cells carry the names of their columns. */
@media (max-width: 45em) {
  thead { display: none; }
  table, tbody, tr, td { display: block; }
  tr { border: 1px solid var(--line); margin: 0 0 1em; }
  td { border: 0; padding: 0.25em 0.6em; overflow-wrap: anywhere; }
  td:empty { display: none; }
  td::before { content: attr(data-column) ": "; font-weight: bold; }
}
"""


def write_report(
    results: Mapping[str, Result],
    commands: Mapping[str, str],
    context: Context,
    machine: Mapping[str, str],
    skipped: Mapping[str, str] | None = None,
) -> tuple[str, str]:
    """Writes report.md and report.html into the workdir.

    Args:
      results: experiment -> its result.
      commands: experiment -> the command that runs it.
      context: workdir, data and scale.
      machine: properties of the machine, name -> value.
      skipped: experiment -> why it was left out.

    Returns:
      The two paths.
    """
    paths = context.path("report.md"), context.path("report.html")
    left_out = [f"{name}: {NOT_RUN}: {why}" for name, why in (skipped or {}).items()]
    files.write_text(paths[0], _markdown(results, commands, context, machine, left_out))
    files.write_text(paths[1], _html(results, commands, context, machine, left_out))
    return paths


def cells(row: ClaimRow, narrowing: int = 1) -> tuple[str, ...]:
    """A row's cells, in the order of the columns.

    A measured value is always shown with the data it was measured on and the `narrowing` of its
    networks.
    """
    claim = row.claim
    measured = NOT_RUN
    if row.measured is not None:
        measured = f"{row.measured} on {row.data}"
        if row.data != claim.data:
            measured += " (not the paper's data)"
        if narrowing > 1 and row.narrowed:
            measured += f", networks narrowed {narrowing} times"
    seeds = ", ".join(map(str, row.seeds))
    published = f"{claim.value} on {claim.data}" if claim.data != "-" else claim.value
    return (claim.text, published, claim.source, measured, seeds, row.spread, row.note)


def _introduction(context: Context) -> list[str]:
    scale = context.scale
    text = [f"Data: {context.data}. Scale: {scale.name}."]
    if not scale.measures:
        text.append(
            "This was a smoke run: it shows that everything runs, and measures nothing, so the "
            "measured column stays empty."
        )
    elif scale.narrowing > 1:
        text.append(
            "The networks, but for those of fig1, cifar10 and LeNet-5, were narrowed: maps and "
            f"units of each layer divided by {scale.narrowing}, trained by a short recipe of ours, "
            "not the authors'. Differences say something about the idea, errors nothing about the "
            "published network."
        )
    text.append("[P] is the paper of 2012, [S] the authors' program and its notes.")
    return text


def _markdown(results, commands, context: Context, machine, left_out: list[str]) -> str:
    narrowing = context.scale.narrowing
    lines = ["# Measured beside published", ""]
    for text in _introduction(context):
        lines += [text, ""]
    for name, result in results.items():
        lines += [f"## {_heading(name)}", "", f"    {commands[name]}", ""]
        lines += ["| " + " | ".join(_COLUMNS) + " |", "|" + " --- |" * len(_COLUMNS)]
        for row in result.rows:
            texts = (text.replace("|", "\\|").replace("*", "\\*") for text in cells(row, narrowing))
            lines.append("| " + " | ".join(texts) + " |")
        lines.append("")
        for caption, path in result.images:
            lines += [f"![{caption}]({path.replace(os.sep, '/')})", ""]
    if left_out:
        lines += ["## Not run on this data", "", *(f"- {text}" for text in left_out), ""]
    lines += ["## Machine", "", *(f"- {key}: {value}" for key, value in machine.items()), ""]
    return "\n".join(lines)


def _html(results, commands, context: Context, machine, left_out: list[str]) -> str:
    narrowing = context.scale.narrowing
    parts = ["<h1>Measured beside published</h1>"]
    parts += [f"<p>{html.escape(text)}</p>" for text in _introduction(context)]
    for name, result in results.items():
        parts.append(f'<h2 id="{name}">{html.escape(_heading(name))}</h2>')
        parts.append(f"<p><code>{html.escape(commands[name])}</code></p>")
        titles = "".join(f"<th>{column}</th>" for column in _COLUMNS)
        parts.append(f"<table><thead><tr>{titles}</tr></thead><tbody>")
        for row in result.rows:
            texts = map(_cell, _COLUMNS, cells(row, narrowing))
            parts.append(f"<tr>{''.join(texts)}</tr>")
        parts.append("</tbody></table>")
        parts += [_embedded(caption, context.path(path)) for caption, path in result.images]
    if left_out:
        items = "".join(f"<li>{html.escape(text)}</li>" for text in left_out)
        parts.append(f"<h2>Not run on this data</h2><ul>{items}</ul>")
    items = "".join(f"<li>{html.escape(f'{key}: {value}')}</li>" for key, value in machine.items())
    parts.append(f"<h2>Machine</h2><ul>{items}</ul>")
    head = (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Measured beside published</title><style>{_STYLE}</style></head><body>"
    )
    return head + "\n".join(parts) + "</body></html>\n"


def _heading(name: str) -> str:
    """ "Table 1: what it measures"."""
    return f"{EXPERIMENTS[name].title}: {EXPERIMENTS[name].summary}"


def _cell(column: str, text: str) -> str:
    kind = ' class="none"' if text == NOT_RUN else ""
    return f'<td data-column="{column}"{kind}>{html.escape(text)}</td>'


def _embedded(caption: str, path: str) -> str:
    with open(path, "rb") as file:
        encoded = base64.b64encode(file.read()).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{encoded}">'
        f"<figcaption>{text}</figcaption></figure>"
    )
