"""A run that is told to stop saves itself first."""

import contextlib
import dataclasses
import signal
from collections.abc import Callable


class Interrupted(Exception):
    """The run was told to stop, and can go on with the same command."""


@dataclasses.dataclass
class StopRequest:
    requested: bool = False

    def honoured_by(self, function: Callable) -> Callable:
        """The function, which raises Interrupted instead once the run is asked to stop."""

        def unless_requested(*arguments):
            if self.requested:
                raise Interrupted
            return function(*arguments)

        return unless_requested


@contextlib.contextmanager
def stop_requests():
    """SIGTERM and SIGINT ask the loop to save and leave; a second SIGINT leaves at once."""
    stop = StopRequest()

    def request(number, frame):
        if stop.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        stop.requested = True

    try:
        old = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    except ValueError:  # not the main thread: a notebook or a server decides about signals
        old = {}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
