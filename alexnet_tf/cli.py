"""The runner shared by all commands (`python -m alexnet_tf.X`): flags in, exit code out.

absl's runner exits with 1 on a bad flag and on `--help`, and keeps all flags of a process in one
table, so two commands with the same flag cannot be imported together. Here each command declares
its flags on its own table, inside `main()`.
"""

import io
import os
import select
import sys
from collections.abc import Callable, Collection, Mapping, Sequence

from absl import flags as absl_flags

from alexnet_tf import usage
from alexnet_tf.quiet import quiet_tensorflow

EXIT_OK = 0
EXIT_DATA = 1
EXIT_USAGE = 2
EXIT_NO_READER = 141  # the shell's code for a process ended by SIGPIPE
# Packages that only some commands need, and the extra of setup.py that installs each.
_EXTRAS = {"jinja2": "plots", "huggingface_hub": "hub", "matplotlib": "plots", "pyarrow": "data"}


class UsageError(Exception):
    """An invalid flag or combination of flags. Ends the program with exit code 2."""


def run(
    define: Callable[[absl_flags.FlagValues], None],
    main: Callable[[absl_flags.FlagValues, list[str]], int | None],
    argv: Sequence[str] | None = None,
    doc: str | None = None,
    groups: Mapping[str, Collection[str]] | None = None,
) -> int:
    """Parses flags, calls `main(flags, positional_arguments)` and turns failures into exit codes.

    Args:
      define: declares the command's flags on the given table.
      main: runs the command. Slow imports belong inside it, so that `--help` is fast.
      argv: the arguments without the program's name. None reads them from the command line. `~`
        at the beginning of a path means the home directory.
      doc: the command's docstring, printed above the flags by `--help`.
      groups: heading -> flags that `--help` lists below it, after the others.

    Returns:
      0 on success or for `--help`, 1 for bad data (`ValueError`, `OSError`), 2 for a usage error,
      141 if standard output was closed by its reader (`--help | head`), or what `main` returned.
      Bad input gives one sentence on standard error; set ALEXNET_TF_TRACEBACK=1 for a traceback.
    """
    argv = [usage.with_home(one) for one in (sys.argv[1:] if argv is None else argv)]
    for stream in (sys.stdout, sys.stderr):  # file names need not be valid text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    quiet_tensorflow()
    # Off by default on AMD processors, where it also makes a training step of AlexNet 1.2 to 1.7
    # times as fast.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    flags = absl_flags.FlagValues()
    absl_flags.DEFINE_bool("help", False, "Show this text.", short_name="h", flag_values=flags)
    define(flags)
    try:
        positional = flags(["program", *argv])[1:]
    except absl_flags.Error as error:
        return _fail(usage.mistake(error, flags, argv), EXIT_USAGE)
    try:
        if flags.help:
            print(usage.help_text(flags, doc or "", groups or {}))
            code = EXIT_OK
        else:
            code = main(flags, positional) or EXIT_OK
        sys.stdout.flush()
        return code
    except (UsageError, absl_flags.Error) as error:
        return _fail(error, EXIT_USAGE)
    except BrokenPipeError as error:
        return EXIT_NO_READER if _nobody_reads() else _fail(error, EXIT_DATA)
    except (ValueError, OSError) as error:
        return _fail(error, EXIT_DATA)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if package not in _EXTRAS:
            raise
        install = f"pip install 'alexnet-tf[{_EXTRAS[package]}]'"
        return _fail(f"This needs the package {package}: {install}.", EXIT_DATA)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130


def local(flag: str, path: str) -> str:
    """Returns the path if it is local. Remote ones (gs://bucket/run) allow no renames or locks.

    Raises:
      UsageError: the path is remote.
    """
    if "://" in path:
        raise UsageError(
            f"--{flag}={path}: expected a path of this machine. Name a local one and copy what is "
            "written there, or mount the remote one."
        )
    return path


def _nobody_reads() -> bool:
    """Whether standard output's reader is gone; if so, discards what is still to be written."""
    try:
        output = sys.stdout.fileno()
    except (OSError, ValueError):  # in a notebook or a test
        return False
    poll = select.poll()
    poll.register(output, 0)
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone


def _fail(error: Exception | str, code: int) -> int:
    if isinstance(error, Exception) and os.environ.get("ALEXNET_TF_TRACEBACK") == "1":
        raise error
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    else:
        text = str(error)
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return code
