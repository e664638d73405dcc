"""The curves of a training, as TensorBoard reads them."""

import time
from pathlib import Path

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from util.loop.observers import TrainingObserver
from util.loop.training import Training

LOG_STEPS = 20  # between points of losses and rates


class Curves(TrainingObserver):
    """The curves of losses, rates and validations, as events below a run's folder.

    Events are written at once, so that no checkpoint holds a step that the curves lack: tensorboardX's
    ``SummaryWriter`` writes in a thread, and once that has met a full disk, its tenth point waits for ever.

    Args:
        folder: of the run; None: nothing is written.
        resumed_at: the step from which existing curves are replaced.
    """

    def __init__(self, folder: Path | None = None, resumed_at: int | None = None):
        self._events: EventsWriter | None = None
        if folder is None:
            return
        events = folder / "tensorboard"
        events.mkdir(parents=True, exist_ok=True)
        of_this_start = f".{len([*events.iterdir()]):04d}"  # two files of one second would have one name
        self._events = EventsWriter(str(events / "events"), of_this_start)
        if resumed_at is not None:
            self._write(Event(session_log=SessionLog(status=SessionLog.START), step=resumed_at))

    def scalars(self, section: str, values: dict[str, float], step: int) -> None:
        """Add a point to each of the curves ``section/<name>``."""
        points = [summary.scalar(f"{section}/{name}", value) for name, value in values.items()]
        self._write(*(Event(summary=point, step=step) for point in points))

    def step(self, training: Training, losses: dict[str, float], rates: dict[str, float]) -> None:
        """Add a point to each curve of losses and rates."""
        step = training.progress.step
        if step % LOG_STEPS == 0 or step == 1:
            self.scalars("loss", losses, step)
            self.scalars("lr", rates, step)

    def close(self) -> None:
        """Close the file."""
        if self._events is not None:
            self._events.close()

    def _write(self, *events: Event) -> None:
        if self._events is None:
            return
        for event in events:
            event.wall_time = time.time()
            self._events.write_event(event)
        self._events.flush()
