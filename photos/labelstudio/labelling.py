"""The control and labels of a labelling configuration of Label Studio, and the examples of its labels."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, NamedTuple
from xml.etree import ElementTree

from annotations.annotation import AnnotatedPhoto, CategoryIds, content_errors
from annotations.labelstudio import BRUSH, POLYGONS, Control, photos_of
from annotations.remarks import Remarks, is_class, is_unknown
from photos.labelstudio.client import reported
from util.files.errors import UserError


@dataclass(frozen=True)
class Labelling:
    """The control that a labelling configuration has for masks, and its labels."""

    control: Control
    key: str  # of the photo in a task's data
    labels: tuple[str, ...]


def labelling_of(config: str, origin: str) -> Labelling:
    """Return what a labelling configuration asks for: the first BrushLabels, else PolygonLabels, of a photo.

    UserError: it has neither; begins with ``origin``.
    """
    try:
        root = ElementTree.fromstring(config)
    except ElementTree.ParseError as error:
        raise UserError(f"{origin}: its labelling configuration is damaged ({error}); correct it in Settings") from None
    photos = {tag.get("name"): tag.get("value", "") for tag in root.iter("Image")}
    for control in (*root.iter(BRUSH), *root.iter(POLYGONS)):
        image = control.get("toName", "")
        photo = photos.get(image, "")
        if photo.startswith("$"):
            labels = tuple(str(label.get("alias") or label.get("value")) for label in control.iter("Label"))
            return Labelling(Control(control.tag, control.get("name", ""), image), photo.removeprefix("$"), labels)
    asks = f"its labelling configuration has no {BRUSH} or {POLYGONS} of an Image"
    raise UserError(f"{origin}: {asks}; add one in Settings, Labeling Interface")


class TaskExample(NamedTuple):
    """A task with a finished annotation of a label."""

    rank: tuple[bool, str]  # whether it is of the ground truth, and the time of its change, ISO 8601
    annotation: int
    task: int
    photo: AnnotatedPhoto  # with the regions of that label

    @property
    def key(self) -> tuple[tuple[bool, str], int]:
        """Return a key that differs between annotations, and changes when one is corrected."""
        return self.rank, self.annotation


def examples_in(tasks: list[dict[str, Any]], say: Callable[[str], None]) -> dict[str, list[TaskExample]]:
    """Return the examples of each label among tasks of the export, the ground truth first, then the newest.

    Of a task, the first annotation with regions counts in this order. ``say`` takes lines on what is left out.
    """
    ids = CategoryIds()
    remarks = Remarks()
    examples_of_label = defaultdict[str, list[TaskExample]](list)
    for task in tasks:
        finished = [annotation for annotation in task["annotations"] if not annotation["was_cancelled"]]
        for annotation in sorted(finished, key=_rank, reverse=True):
            photos: list[AnnotatedPhoto] = []
            with reported(say, f"left out: task {task['id']}"), content_errors():
                photos = photos_of(task, [annotation], ids, remarks)
            if not photos:
                continue
            for name, part in _by_label(photos[0], ids.names()):
                example = TaskExample(_rank(annotation), annotation["id"], task["id"], part)
                examples_of_label[name].append(example)
            break
    for line in remarks.lines():
        say(line)
    for examples in examples_of_label.values():
        examples.sort(key=attrgetter("rank"), reverse=True)
    return dict(examples_of_label)


def _rank(annotation: dict[str, Any]) -> tuple[bool, str]:
    """Return the rank of an annotation as an example, the highest first: ground truth, then the time of its change."""
    return bool(annotation.get("ground_truth")), annotation["updated_at"]


def _by_label(photo: AnnotatedPhoto, names: dict[int, str]) -> Iterator[tuple[str, AnnotatedPhoto]]:
    """Yield each label of a photo and the photo with its regions; regions to ignore are unknown for all labels."""
    ignored = [region for region in photo.instances if is_unknown(names[region.category])]
    for category in dict.fromkeys(region.category for region in photo.instances):
        if not is_class(names[category]):
            continue
        regions = [region for region in photo.instances if region.category == category]
        unknown = [region._replace(category=category, crowd=True) for region in ignored]
        yield names[category], photo._replace(instances=(*unknown, *regions))
