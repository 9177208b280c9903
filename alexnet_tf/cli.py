"""What every command (`python -m alexnet_tf.X`) shares: flags in, an exit code out.

absl's own runner exits with 1 on a bad flag and on `--help`, and keeps all flags of a process in
one table, so two commands with the same flag cannot be imported together. Here each one declares
its flags on a table of its own, inside `main()`.
"""

import contextlib
import importlib.abc
import importlib.util
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

from absl import flags as absl_flags

EXIT_OK = 0
EXIT_DATA = 1
EXIT_USAGE = 2
# Packages that only some commands need, and the extra of setup.py that brings each.
_EXTRAS = {"jinja2": "plots", "huggingface_hub": "hub", "matplotlib": "plots", "pyarrow": "data"}


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
      define: declares the command's flags on the table that it is given.
      main: does the work. Heavy imports belong inside it, so that `--help` answers at once.
      argv: the arguments without the program's name. None reads them from the command line.
      doc: the command's docstring, printed above the flags by `--help`.

    Returns:
      0 when all went well or help was asked for, 1 for bad data (`ValueError`, `OSError`), 2 for a
      usage mistake, or what `main` returned. Bad input gives one sentence on standard error; set
      ALEXNET_TF_TRACEBACK=1 to see where it came from.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):  # file names need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    quiet_tensorflow()
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
    """The path, unless it is remote, as gs://bucket/run, where nothing can be renamed or locked.

    Raises:
      UsageError: it is remote.
    """
    if "://" in path:
        raise UsageError(
            f"--{flag}={path}: expected a path of this machine. Name a local one and copy what is "
            "written there, or mount the remote one."
        )
    return path


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's own log lines off standard error, unless TF_CPP_MIN_LOG_LEVEL is set.

    TensorFlow reads that variable once, when it is first imported: call this before. Its C++ side
    logs a missing CUDA driver as an error; errors that matter come as exceptions.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3":
        _QuietTensorFlow.install()


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Keeps what TensorFlow's C++ side logs while it is imported off standard error.

    TF_CPP_MIN_LOG_LEVEL does not reach those lines (TensorFlow 2.21): they are written before
    logging is set up. When the import fails they are shown.
    """

    @classmethod
    def install(cls) -> None:
        if "tensorflow" not in sys.modules:
            sys.meta_path.insert(0, cls())

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_quietly(module):
                with _standard_error_aside():
                    load(module)

            spec.loader.exec_module = load_quietly  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def _standard_error_aside() -> Iterator[None]:
    """Sends file descriptor 2 to a file, whose text is shown only when the body raises."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as aside:
        kept = os.dup(2)
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(kept, 2)
            aside.seek(0)
            os.write(2, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _help(flags: absl_flags.FlagValues) -> str:
    lines = []
    for name in sorted({flags[key].name for key in flags}):
        flag = flags[name]
        default = "" if flag.default is None else f" (default: {flag.default_as_str})"
        lines.append(f"  --{flag.name}: {flag.help}{default}")
    return "\n".join(lines)


def _fail(error: Exception | str, code: int) -> int:
    if isinstance(error, Exception) and os.environ.get("ALEXNET_TF_TRACEBACK") == "1":
        raise error
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    else:
        text = str(error)
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return code
