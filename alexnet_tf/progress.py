"""Progress bars on a terminal; elsewhere, such as in a log file, a line every half minute."""

import sys

import tqdm as _tqdm

_SECONDS = 30.0


class tqdm(_tqdm.tqdm):
    """tqdm's bar, but with whole lines if standard error is not a terminal.

    Work of less than half a minute writes none there.
    """

    def __init__(self, *args, **keywords):
        file = keywords.get("file") or sys.stderr
        self._lines = not file.isatty()
        if self._lines:
            keywords = {**keywords, "mininterval": _SECONDS, "delay": _SECONDS, "miniters": 0}
        self.disable = False  # until tqdm decides
        super().__init__(*args, **keywords)

    def display(self, msg=None, pos=None):
        if not self._lines:
            return super().display(msg, pos)
        self.fp.write(f"{msg or self._line()}\n")
        self.fp.flush()
        return True

    def _line(self) -> str:
        state = self.format_dict
        state.update(ncols=0, bar_format=None)
        return self.format_meter(**state).strip()

    def set_postfix_str(self, s="", refresh=True):
        super().set_postfix_str(s, refresh and not self._lines)

    def clear(self, nolock=False):
        if not self._lines:
            super().clear(nolock)

    def close(self):
        if not self._lines or self.disable:
            return super().close()
        shown = self.last_print_t >= self.start_t + self.delay
        if shown and self.n != self.last_print_n:
            self.display()
        self.disable = True
        self._decr_instances(self)
        return None
