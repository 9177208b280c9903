"""Event simulation of tasks with dependencies that share devices, links and networks."""

import collections
import dataclasses
import heapq
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Task:
    """A piece of work.

    Attributes:
      name: a unique name.
      resource: the resource it occupies exclusively, such as "gpu".
      seconds: its duration.
      after: names of the tasks that must end before it begins.
      sent: bytes it sends over a link.
    """

    name: str
    resource: str
    seconds: float
    after: tuple[str, ...] = ()
    sent: float = 0.0


def simulate(tasks: Iterable[Task]) -> dict[str, tuple[float, float]]:
    """Computes when each task begins and ends.

    A resource runs one task at a time, the one that has waited longest first; among tasks that
    became ready at the same time, the first in `tasks`.

    Returns:
      Name -> (begin, end), in seconds after the first task begins.

    Raises:
      ValueError: tasks depend on each other in a cycle, or on one that does not exist.
    """
    by_name = {task.name: task for task in tasks}
    rank = {name: number for number, name in enumerate(by_name)}
    missing = {task.name: set(task.after) for task in by_name.values()}
    waiting = collections.defaultdict(list)
    for task in by_name.values():
        for name in task.after:
            waiting[name].append(task.name)
    ready: dict[str, list] = {task.resource: [] for task in by_name.values()}
    for task in by_name.values():
        if not task.after:
            ready[task.resource].append((0.0, rank[task.name], task.name))
    times: dict[str, tuple[float, float]] = {}
    running: list[tuple[float, int, str]] = []
    busy: set[str] = set()
    now = 0.0
    while True:
        for resource, queue in ready.items():
            if queue and resource not in busy:
                _, _, name = heapq.heappop(queue)
                times[name] = (now, now + by_name[name].seconds)
                busy.add(resource)
                heapq.heappush(running, (times[name][1], rank[name], name))
        if not running:
            break
        now, _, ended = heapq.heappop(running)
        busy.remove(by_name[ended].resource)
        for name in waiting[ended]:
            missing[name].discard(ended)
            if not missing[name]:
                heapq.heappush(ready[by_name[name].resource], (now, rank[name], name))
    if len(times) < len(by_name):
        never = sorted(set(by_name) - set(times), key=rank.__getitem__)
        raise ValueError(f"Tasks that can never begin: {', '.join(never)}.")
    return times
