"""Keeps TensorFlow's log lines off standard error."""

import contextlib
import importlib.abc
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's log lines off standard error, unless TF_CPP_MIN_LOG_LEVEL is set.

    TensorFlow reads that variable when it is first imported: call this before. Its C++ code logs a
    missing CUDA driver as an error; real errors are raised as exceptions.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "3":
        _QuietTensorFlow.install()


class _QuietTensorFlow(importlib.abc.MetaPathFinder):
    """Keeps log lines of TensorFlow's C++ code during import off standard error.

    TF_CPP_MIN_LOG_LEVEL does not affect those lines (TensorFlow 2.21): they are written before
    logging is set up. If the import fails, they are shown.
    """

    @classmethod
    def install(cls) -> None:
        installed = any(isinstance(finder, cls) for finder in sys.meta_path)
        if "tensorflow" not in sys.modules and not installed:
            sys.meta_path.insert(0, cls())

    def find_spec(self, fullname, path=None, target=None):
        if fullname != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_quietly(module):
                with standard_error_aside():
                    load(module)

            spec.loader.exec_module = load_quietly  # type: ignore[method-assign]
        return spec


@contextlib.contextmanager
def standard_error_aside() -> Iterator[None]:
    """Redirects file descriptor 2 to a file, whose text is shown only if the body raises."""
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
