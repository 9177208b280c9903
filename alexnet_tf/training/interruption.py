"""A run that is told to stop saves itself first."""

import contextlib
import dataclasses
import signal


class Interrupted(Exception):
    """The run was told to stop, and can go on with the same command."""


@dataclasses.dataclass
class StopRequest:
    requested: bool = False


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
