"""The curves of a training, as TensorBoard reads them."""

from pathlib import Path
from struct import unpack

from tensorboardX.proto.event_pb2 import Event

from util.train import curves
from util.train.curves import Curves
from util.train.stages import points_of


def events_of(folder: Path) -> list[Event]:
    """Return the events of a run's curves as TensorBoard reads them: by name of file, without those done again."""
    events = []
    for file in sorted((folder / "tensorboard").iterdir()):
        content = file.read_bytes()
        while content:
            (length,) = unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            if event.HasField("session_log"):
                events = [earlier for earlier in events if earlier.step < event.step]
            events.append(event)
    return events


def test_curves_lose_no_step_of_a_killed_training(tmp_path: Path, monkeypatch) -> None:
    """The second training starts in the same second."""
    now, killed = 1_800_000_000.0, []
    for number, clock in enumerate((now, now, now + 9)):
        monkeypatch.setattr(curves.time, "time", lambda clock=clock: clock)
        first = number * 10 + 1
        writer = Curves(tmp_path, first if number else None)
        for step in range(first, first + 13):  # three steps after the checkpoint
            writer.scalars("loss", {"main": number}, step)
        killed.append(writer)  # not closed
    points = {}
    for event in events_of(tmp_path):
        for value in event.summary.value:
            points[event.step] = value.simple_value
    assert ([*points], [*points.values()]) == ([*range(1, 34)], [0] * 10 + [1] * 10 + [2] * 13)
    assert len([*(tmp_path / "tensorboard").iterdir()]) == len(killed) == 3


def test_a_validation_has_a_curve_of_each_class_by_its_name() -> None:
    scores = {
        "final": {"miou": 50.0, "per_class": {"2": 40.0, "3": 60.0}},
        "base": {"miou": 30.0, "per_class": {"1": 30.0}},  # a number among the base classes
    }
    want = {"final_miou": 50.0, "final_iou/dog": 40.0, "final_iou/cow": 60.0, "base_miou": 30.0}
    assert points_of(scores, ["cat", "dog", "cow"]) == want
