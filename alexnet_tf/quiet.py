"""Keeps what TensorFlow logs about itself off standard error."""

import contextlib
import importlib.abc
import importlib.util
import os
import sys
import tempfile
from collections.abc import Iterator


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
