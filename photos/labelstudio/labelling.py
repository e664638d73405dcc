"""The control and labels of a labelling configuration of Label Studio, and the finished annotations that mark them."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from xml.etree import ElementTree

from annotations.annotation import AnnotatedPhoto, CategoryIds, in_words
from annotations.labelstudio import BRUSH, POLYGONS, Control, photos_of
from annotations.remarks import BACKGROUND, IGNORED, Remarks
from util.errors import UserError


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


class Mark(NamedTuple):
    """The finished annotation of a task that marks a label."""

    is_truth: bool
    changed: str  # ISO 8601
    annotation: int
    task: int
    photo: AnnotatedPhoto  # with the regions of that label

    @property
    def key(self) -> tuple[str, int]:
        """Return a key that differs between annotations, and changes when one is corrected."""
        return self.changed, self.annotation


def marks_in(tasks: list[dict[str, Any]], say: Callable[[str], None]) -> dict[str, list[Mark]]:
    """Return the marks of each label on tasks of the export, the ground truth first, then the newest.

    Of a task, the first annotation with regions counts in this order. ``say`` takes lines on what is left out.
    """
    ids = CategoryIds()
    remarks = Remarks()
    marks_of_label = defaultdict[str, list[Mark]](list)
    for task in tasks:
        finished = [annotation for annotation in task["annotations"] if not annotation["was_cancelled"]]
        for annotation in sorted(finished, key=_rank, reverse=True):
            photo = _photo_of(annotation, task, ids, remarks, say)
            if photo is None:
                continue
            is_truth, changed = _rank(annotation)
            for name, part in _by_label(photo, ids.names()):
                marks_of_label[name].append(Mark(is_truth, changed, annotation["id"], task["id"], part))
            break
    for line in remarks.lines():
        say(line)
    for marks in marks_of_label.values():
        marks.sort(key=lambda mark: (mark.is_truth, mark.changed), reverse=True)
    return dict(marks_of_label)


def _photo_of(
    annotation: dict[str, Any],
    task: dict[str, Any],
    ids: CategoryIds,
    remarks: Remarks,
    say: Callable[[str], None],
) -> AnnotatedPhoto | None:
    """Return the photo of an annotation with regions; None of another, or of one that cannot be read, which is said."""
    try:
        with in_words(f"left out: task {task['id']}: "):
            return next(iter(photos_of(task, [annotation], ids, remarks)), None)
    except UserError as error:
        say(str(error))
        return None


def _rank(annotation: dict[str, Any]) -> tuple[bool, str]:
    """Return the rank of an annotation as a support, the highest first: ground truth, then the time of its change."""
    return bool(annotation.get("ground_truth")), annotation["updated_at"]


def _by_label(photo: AnnotatedPhoto, names: dict[int, str]) -> Iterator[tuple[str, AnnotatedPhoto]]:
    """Yield each label of a photo and the photo with its regions; regions to ignore are unknown for all labels."""
    ignored = [region for region in photo.instances if names[region.category].casefold() in IGNORED]
    for category in dict.fromkeys(region.category for region in photo.instances):
        if names[category].casefold() in (*BACKGROUND, *IGNORED):
            continue
        regions = [region for region in photo.instances if region.category == category]
        unknown = [region._replace(category=category, crowd=True) for region in ignored]
        yield names[category], photo._replace(instances=(*unknown, *regions))
