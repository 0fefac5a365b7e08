"""QScaler's worker SDK: take tasks from a queue, finish what you hold, leave when asked.

    from qscaler import Worker

    worker = Worker(url="redis://127.0.0.1:6379", queue="mail")

    @worker.task
    def send(mail):
        ...

    worker.run()

Tasks run at least once: one is acknowledged after the function returned, and one whose worker died is
given to another when its lease ends. The worker leaves when it has claimed one of the engine's offers, or
after SIGTERM; in both cases it first finishes what it holds. Losing the queue or the engine never makes it
leave.
"""

from qscaler.errors import GivenBack, Leaving, QueueError, SettingsError
from qscaler.guard import Lifecycle
from qscaler.task import Ended, Task, current_task
from qscaler.worker import Worker

__all__ = [
    "Ended",
    "GivenBack",
    "Leaving",
    "Lifecycle",
    "QueueError",
    "SettingsError",
    "Task",
    "Worker",
    "current_task",
]
