"""What every front door (`python -m alexnet_tf.X`) shares: flags in, an exit code out.

absl's own runner exits with 1 on a bad flag and on `--help`, and keeps all flags of a process in
one table, so that two doors with the same flag cannot be imported together. Here each door declares
its flags on a table of its own, inside `main()`.
"""

import os
import sys
from collections.abc import Callable, Sequence

from absl import flags as absl_flags

EXIT_OK = 0
EXIT_DATA = 1
EXIT_USAGE = 2


class UsageError(Exception):
    """A flag, or a combination of flags, that cannot be meant. Ends the program with code 2."""


def run(
    define: Callable[[absl_flags.FlagValues], None],
    main: Callable[[absl_flags.FlagValues, list[str]], int | None],
    argv: Sequence[str] | None = None,
    doc: str | None = None,
) -> int:
    """Parses flags, calls `main(flags, positional_arguments)` and turns failures into exit codes.

    Args:
      define: declares the door's flags on the table that it is given.
      main: does the work. Heavy imports belong inside it, so that `--help` answers at once.
      argv: the arguments without the program's name. None reads them from the command line.
      doc: the door's docstring, printed above the flags by `--help`.

    Returns:
      0 when all went well or help was asked for, 1 for bad data (`ValueError`, `OSError`), 2 for a
      usage mistake, or what `main` returned. Bad input gives one sentence on standard error; set
      ALEXNET_TF_TRACEBACK=1 to see where it came from.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    # TensorFlow reads this once, when it is first imported; a value that the user set stays. Its
    # C++ side logs a missing CUDA driver as an error; errors that matter come as exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # Off by default on AMD processors, where it makes a training step of AlexNet 1.2 to 1.7 times
    # as fast too.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    flags = absl_flags.FlagValues()
    absl_flags.DEFINE_bool("help", False, "Show this text.", short_name="h", flag_values=flags)
    define(flags)
    try:
        positional = flags(["program", *argv])[1:]
        if flags.help:
            print(f"{(doc or '').strip()}\n\nFlags:\n{_help(flags)}")
            return EXIT_OK
        return main(flags, positional) or EXIT_OK
    except (UsageError, absl_flags.Error) as error:
        return _fail(error, EXIT_USAGE)
    except (ValueError, OSError) as error:
        return _fail(error, EXIT_DATA)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def _help(flags: absl_flags.FlagValues) -> str:
    lines = []
    for name in sorted({flags[key].name for key in flags}):
        flag = flags[name]
        default = "" if flag.default is None else f" (default: {flag.default_as_str})"
        lines.append(f"  --{flag.name}: {flag.help}{default}")
    return "\n".join(lines)


def _fail(error: Exception, code: int) -> int:
    if os.environ.get("ALEXNET_TF_TRACEBACK") == "1":
        raise error
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    else:
        text = str(error)
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return code
