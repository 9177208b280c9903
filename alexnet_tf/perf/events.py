"""Event simulation of tasks with dependencies that share devices, links and networks."""

import collections
import dataclasses
import heapq
from collections.abc import Iterable


@dataclasses.dataclass(frozen=True)
class Task:
    """A piece of work.

    Attributes:
      name: unlike every other.
      resource: what it occupies alone while it lasts, such as "gpu".
      seconds: how long it lasts.
      after: names of the tasks that must have ended before it begins.
      sent: bytes that it sends over a link.
    """

    name: str
    resource: str
    seconds: float
    after: tuple[str, ...] = ()
    sent: float = 0.0


def simulate(tasks: Iterable[Task]) -> dict[str, tuple[float, float]]:
    """When each task begins and ends.

    A resource does one task at a time and takes the one next that has waited longest; of two that
    became ready at once, the one that comes first in `tasks`.

    Returns:
      Name -> (begin, end), in seconds after the first task's begin.

    Raises:
      ValueError: tasks wait for each other in a circle, or for one that there is not.
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
