"""Runs peers in separate processes that take turns.

Separate processes, because two frameworks in one process compete for threads and memory, and
because a peer may need another Python than this package. A peer prepares itself, reports that it
is ready, and then answers every line that it reads with the duration of its work.
"""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
# The processor comes to rest between two turns: buffers that are refilled behind the clock.
_PAUSE = 0.5
_MISSING = 3  # exit code of a peer that cannot take part


@dataclasses.dataclass(frozen=True)
class Entry:
    """A peer: the command that starts it."""

    name: str
    command: list[str]


class Absent(Exception):
    """A peer cannot take part, and why."""


class Peer:
    """A process that works when it is asked to.

    Raises:
      Absent: it cannot start.
    """

    def __init__(self, entry: Entry):
        self.name = entry.name
        environment = {
            **os.environ,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1"),
            # On a GPU several frameworks wait in memory while one works.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }
        self._process = subprocess.Popen(
            entry.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        self.about = self._answer()["about"]

    def run(self) -> list[tuple[float, float]]:
        """One turn: (amount, seconds) of each piece of work in it."""
        self._process.stdin.write("run\n")
        self._process.stdin.flush()
        return [tuple(pair) for pair in self._answer()["work"]]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _answer(self) -> dict:
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise Absent(f"{self.name} ended with exit code {code}")
        answer = json.loads(line)
        if "absent" in answer:
            self.close()
            raise Absent(answer["absent"])
        return answer


def serve(prepare: Callable[[], tuple[dict, Callable[[], list]]]) -> None:
    """The peer's side. `prepare` gives (what to say about it, its turn)."""
    # Output of a library must not be taken for an answer.
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(what: dict) -> None:
        channel.write(json.dumps(what) + "\n")
        channel.flush()

    try:
        about, turn = prepare()
    except (ImportError, Absent) as error:
        say({"absent": " ".join(str(error).split())})
        sys.exit(_MISSING)
    say({"about": about})
    for _ in sys.stdin:
        say({"work": turn()})


def compete(entries: list[Entry], rounds: int, warm: int = 1) -> dict:
    """Starts all peers and lets them take turns, `warm` times before any that counts.

    Returns:
      {"rows": [{"form", "about", "rate": {"median", "least", "greatest", "spread", "runs"},
      "seconds"}], "absent": name -> why}. A rate is the amount per second of one turn.
    """
    from alexnet_tf.perf import timing

    peers, absent = [], {}
    try:
        for entry in entries:
            try:
                peers.append(Peer(entry))
                print(f"ready: {entry.name}", flush=True)
            except Absent as why:
                absent[entry.name] = str(why)
                print(f"absent: {entry.name}: {why}", flush=True)
        work = {peer.name: [] for peer in peers}
        for number in range(-warm, rounds):
            # There and back again: where a machine gets slower within a round, it is not always the
            # same peers that suffer.
            for peer in peers[:: 1 if number % 2 else -1]:
                time.sleep(_PAUSE)
                turn = peer.run()
                if number >= 0:
                    work[peer.name].append(turn)
                    amount, seconds = (sum(column) for column in zip(*turn, strict=True))
                    print(f"round {number + 1}: {peer.name}: {amount / seconds:.4g}/s")
    finally:
        for peer in peers:
            peer.close()
    rows = []
    for peer in peers:
        turns = work[peer.name]
        rates = [sum(a for a, _ in turn) / sum(s for _, s in turn) for turn in turns]
        rows.append(
            {
                "form": peer.name,
                "about": peer.about,
                "rate": timing.summary(rates),
                "seconds": [[s for _, s in turn] for turn in turns],
            }
        )
    return {"rows": rows, "absent": absent}


def print_rates(result: dict, ours: str, unit: str) -> None:
    """Prints a table that compares every form with ours."""
    rows = {row["form"]: row["rate"] for row in result["rows"]}
    print(f"\n{'':44}{unit:>12}{'spread':>8}  {ours} is")
    for name, rate in rows.items():
        ratio = rows[ours]["median"] / rate["median"] if ours in rows else float("nan")
        print(f"{name:44}{rate['median']:12.1f}{rate['spread']:8.0%}  {ratio:.2f} times as fast")
    for name, why in result["absent"].items():
        print(f"{name:44} absent: {why}")
