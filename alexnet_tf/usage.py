"""A command's `--help` text, and one-sentence messages for invalid flags."""

import os
import textwrap
from collections.abc import Collection, Mapping, Sequence

from absl import flags as absl_flags

_WIDTH = 100
_INDENT = 24
_EXPECTED = {"int": "a whole number", "float": "a number", "bool": "true or false"}


def with_home(argument: str) -> str:
    """Expands `~` and `~name` at the start of paths, which the shell does not after = and comma.

    Args:
      argument: a command-line argument: --flag=PATH, --flag=PATH,PATH or PATH.
    """
    flag, equals, value = ("", "", argument)
    if argument.startswith("-"):
        flag, equals, value = argument.partition("=")
    return flag + equals + ",".join(map(os.path.expanduser, value.split(",")))


def help_text(flags: absl_flags.FlagValues, doc: str, groups: Mapping[str, Collection[str]]) -> str:
    """Returns the command's docstring and its flags as text.

    Args:
      flags: the command's flags.
      doc: the command's docstring, printed first.
      groups: heading -> names of the flags below it, after those without a group.
    """
    grouped = {name for names in groups.values() for name in names}
    names = sorted({flags[key].name for key in flags} - grouped)
    parts = [doc.strip(), "Flags:\n" + _table(flags, names)]
    parts += [f"{heading}:\n{_table(flags, names)}" for heading, names in groups.items()]
    return "\n\n".join(parts)


def _table(flags: absl_flags.FlagValues, names: Collection[str]) -> str:
    return "\n".join(_entry(flags[name]) for name in names)


def _entry(flag: absl_flags.Flag) -> str:
    default = "" if flag.default in (None, "", []) else f" (default: {flag.default_as_str})"
    text = textwrap.fill(
        f"{flag.help}{default}",
        width=_WIDTH,
        initial_indent=" " * _INDENT,
        subsequent_indent=" " * _INDENT,
        break_long_words=False,
        break_on_hyphens=False,
    )
    name = f"  --{flag.name}"
    return name + text[len(name) :] if len(name) < _INDENT - 1 else f"{name}\n{text}"


def mistake(error: absl_flags.Error, flags: absl_flags.FlagValues, argv: Sequence[str]) -> str:
    """Describes in a sentence what is wrong with the command line.

    Args:
      error: the exception that parsing raised.
      flags: the command's flags.
      argv: the arguments.
    """
    if isinstance(error, absl_flags.UnrecognizedFlagError):
        name = error.flagname
        meant = similar(name, {flags[key].name for key in flags})
        advice = f"did you mean {' or '.join(f'--{one}' for one in meant)}?" if meant else ""
        dashes = "-" if len(name) == 1 else "--"
        return f"There is no flag {dashes}{name}: {advice or '--help lists the flags.'}"
    if isinstance(error, absl_flags.IllegalFlagValueError):
        for argument in argv:
            name, _, value = argument.lstrip("-").partition("=")
            if name not in flags:
                continue
            flag = flags[name]
            if not str(error).startswith(f"flag --{flag.name}={value}:"):
                continue
            if isinstance(flag, absl_flags.EnumFlag):
                return f"--{name}={value}: expected one of {', '.join(flag.parser.enum_values)}."
            kind, bounds = flag.flag_type(), getattr(flag.parser, "syntactic_help", "")
            if kind in _EXPECTED:
                return f"--{name}={value}: expected {bounds or _EXPECTED[kind]}."
    return str(error)


def similar(name: str, names: Collection[str]) -> list[str]:
    """Returns up to three of `names` that `name` may mean, the likeliest first.

    A name with the same letters (learningrate) or initials (lr for learning_rate) is unambiguous;
    otherwise names with the same beginning or similar spelling are returned.
    """
    import difflib

    def initials(text):
        return "".join(word[0] for word in text.split("_") if word)

    plain = name.replace("-", "_")
    letters = plain.replace("_", "")
    sure = [one for one in names if letters in (one.replace("_", ""), initials(one))]
    if sure:
        return sorted(sure)
    begin = sorted((one for one in names if plain and one.startswith(plain)), key=len)
    near = difflib.get_close_matches(plain, sorted(names), n=3)
    return list(dict.fromkeys(begin + near))[:3]
