"""All that the user of the page has annotated, found and decided: a ``State``, JSON as it stands, and its changes.

A change is a function from a state to the next one, which reads and writes no file. ``session.py`` keeps the present
state, and makes the files follow it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from annotations.remarks import is_class
from annotations.results import ACCEPTED, REJECTED, VERDICTS
from photos.examples import UNNAMED, check_class_name
from photos.page.drawing import ERASER, Edit
from photos.prediction import file_word
from util.files import writable
from util.files.errors import UserError, nearest

MAX_PHOTOS = 5000
MAX_CLASSES = 8  # the colours of more are alike


@dataclass(frozen=True)
class Rule:
    """The rule of a mask; None is the network's own."""

    threshold: float | None = None  # least share of a class beside the background in its pixels
    min_presence: float | None = None  # least presence score of a class; there is none without a calibration

    def __post_init__(self) -> None:
        for value in (self.threshold, self.min_presence):
            if value is not None and not (isinstance(value, (int, float)) and 0 <= value <= 1):
                raise UserError("a slider has a value between 0 and 1; load the page again")


@dataclass(frozen=True)
class Step:
    """The edits that the user draws, and takes back, in one step."""

    edits: list[Edit] = field(default_factory=list)
    instead: Literal["", "last", "all"] = ""  # the earlier steps whose place it takes
    box: list[list[float]] | None = None  # two opposite corners, in which the network has looked for the object


@dataclass(frozen=True)
class Found:
    """The result of a photo, as its file states it."""

    names: list[str]  # the classes that the network has looked for, in the order of their values
    drawn: list[str]  # further classes, which only the user has drawn
    presence: dict[str, float | None]  # None of a class that only the user has drawn
    share: dict[str, float]  # of the photo
    inputs: str | None  # digest of the examples and settings that the network had
    file: Any  # ``file_facts`` of what was segmented
    rule: Rule  # of its mask
    edits: list[Edit]  # in its mask


@dataclass(frozen=True)
class Photo:
    """A photo of a session."""

    path: str
    steps: list[Step] = field(default_factory=list)
    undone: list[Step] = field(default_factory=list)  # the last one first
    taught: list[str] = field(default_factory=list)  # classes of which it is an example, if they are not rejected
    verdicts: dict[str, str] = field(default_factory=dict)  # by class
    rule: Rule = Rule()  # of its mask where it is fixed
    beneath: list[str] | None = None  # classes by their values in its mask without edits; None where none is kept
    annotated: Any = None  # ``file_facts`` of what the user has annotated
    found: Found | None = None

    @property
    def name(self) -> str:
        """Its name in the page."""
        return writable(Path(self.path).name)

    @property
    def edits(self) -> list[Edit]:
        """The edits of its mask, one over the other."""
        drawn: list[list[Edit]] = []
        for step in self.steps:
            if step.instead == "all":
                drawn = []
            elif step.instead == "last":
                drawn = drawn[:-1]
            drawn.append(step.edits)
        return [edit for edits in drawn for edit in edits]

    @property
    def names(self) -> list[str]:
        """The classes of its result."""
        return [] if self.found is None else [*self.found.names, *self.found.drawn]

    @property
    def rejected(self) -> list[str]:
        """The classes that the user has rejected."""
        return [name for name, verdict in self.verdicts.items() if verdict == REJECTED]

    @property
    def teaches(self) -> list[str]:
        """The classes that the network learns from it."""
        return [name for name in self.taught if name not in self.rejected]

    @property
    def is_fixed(self) -> bool:
        """Whether network and sliders leave its mask alone: it is an example, or all classes have a verdict."""
        return bool(self.teaches) or (self.found is not None and self.verdicts.keys() >= {*self.names})


@dataclass(frozen=True)
class State:
    """A session."""

    photos: dict[str, Photo] = field(default_factory=dict)  # by their names in the page
    classes: list[str] = field(default_factory=lambda: [UNNAMED])  # by their values, from 1; "" where one was removed
    rule: Rule = Rule()  # of the sliders

    def photo(self, name: str) -> Photo:
        """Return a photo; UserError: it is not open."""
        if name not in self.photos:
            raise UserError(f"{name}: this photo is no longer open")
        return self.photos[name]

    def class_of(self, value: int) -> str:
        """Return the name of a class by its value; UserError: there is none."""
        if type(value) is not int or not 1 <= value <= len(self.classes) or not self.classes[value - 1]:
            raise UserError("this class is no longer there; load the page again")
        return self.classes[value - 1]

    @property
    def names(self) -> list[str]:
        """All classes."""
        return [name for name in self.classes if name]

    def rule_of(self, photo: Photo) -> Rule:
        """Return the rule of a photo's mask."""
        return photo.rule if photo.is_fixed else self.rule

    def needs_example(self, name: str) -> bool:
        """Return whether no photo is an example of a class."""
        return not any(name in photo.teaches for photo in self.photos.values())


def with_photo(state: State, name: str, **changes: Any) -> State:
    """Return the state with changes of a photo, which keeps the present rule if it becomes fixed."""
    before = state.photo(name)
    after = replace(before, **changes)
    if after.is_fixed and not before.is_fixed and "rule" not in changes:
        after = replace(after, rule=state.rule)
    return replace(state, photos={**state.photos, name: after})


def add_photos(state: State, photos: Iterable[Photo]) -> State:
    """Open the photos whose results have names of their own, as many as a page takes."""
    stems = {_stem(photo.path) for photo in state.photos.values()}
    opened = dict(state.photos)
    for photo in photos:
        if _stem(photo.path) not in stems and len(opened) < MAX_PHOTOS:
            stems.add(_stem(photo.path))
            opened[photo.name] = photo
    return replace(state, photos=opened)


def _stem(path: str) -> str:
    return Path(path).stem.casefold()


def remove_photo(state: State, name: str) -> State:
    """Close a photo."""
    state.photo(name)
    return replace(state, photos={key: photo for key, photo in state.photos.items() if key != name})


def add_class(state: State, name: str) -> State:
    """Add a class, in place of the unnamed one where nothing is annotated yet."""
    name = _free_name(state, name)
    classes = list(state.classes)
    if len(state.names) >= MAX_CLASSES:
        raise UserError(f"{name}: a page has at most {MAX_CLASSES} classes; rename one, or name another --out")
    is_used = any(photo.found or photo.steps or photo.taught for photo in state.photos.values())
    if not is_used and UNNAMED in classes:
        classes[classes.index(UNNAMED)] = ""
    if "" in classes:
        classes[classes.index("")] = name
    else:
        classes.append(name)
    return replace(state, classes=classes)


def _free_name(state: State, name: str, old: str = "") -> str:
    """Return a class name that no class but ``old`` has, nor its files."""
    name = check_class_name(name, "the class name")
    if not is_class(name) or name in state.classes:
        raise UserError(f"{name}: this name is taken; give another one")
    for known in state.names:
        if known != old and file_word(name) == file_word(known):
            raise UserError(f"{name}: its files would have the same names as those of '{known}'; give another name")
    return name


def rename_class(state: State, value: int, name: str) -> State:
    """Rename a class; results of the old name that have no verdict are to be made again."""
    old = state.class_of(value)
    new = _free_name(state, name, old)
    state = _forget_class(state, old, f"add '{new}' as a new class")
    photos = {}
    for key, photo in state.photos.items():
        beneath = photo.beneath and _renamed(photo.beneath, old, new)
        photos[key] = replace(photo, taught=_renamed(photo.taught, old, new), beneath=beneath)
    return replace(state, classes=_renamed(state.classes, old, new), photos=photos)


def _renamed(names: Sequence[str], old: str, new: str) -> list[str]:
    return [new if name == old else name for name in names]


def remove_class(state: State, value: int) -> State:
    """Remove a class and its edits; results of it are to be made again."""
    name = state.class_of(value)
    state = _forget_class(state, name, "undo the verdict, then remove the class")
    photos = {key: _without_class(photo, value, name) for key, photo in state.photos.items()}
    classes = _renamed(state.classes, name, "")
    return replace(state, classes=classes if any(classes) else [UNNAMED], photos=photos)


def _without_class(photo: Photo, value: int, name: str) -> Photo:
    """Return a photo that neither teaches a class nor has edits of it; what the eraser did remains."""
    steps = [_without_edits(step, value) for step in photo.steps]
    undone = [_without_edits(step, value) for step in photo.undone]
    taught = [known for known in photo.taught if known != name]
    return replace(photo, steps=steps, undone=undone, taught=taught)


def _without_edits(step: Step, value: int) -> Step:
    edits = [edit for edit in step.edits if edit["tool"] == ERASER or edit["value"] != value]
    return replace(step, edits=edits)


def _forget_class(state: State, name: str, fix: str) -> State:
    """Forget the results that have a class; UserError, which ends with ``fix``: one has a verdict."""
    having = {key for key, photo in state.photos.items() if name in photo.names}
    for key in sorted(having):
        if state.photos[key].verdicts:
            raise UserError(f"{name}: its result on {key} has a verdict; {fix}")
    return forget(state, having)


def forget(state: State, names: Set[str]) -> State:
    """Forget the results of those photos that are open, and the verdicts on them; edits remain."""
    photos = dict(state.photos)
    for name in names & photos.keys():
        photos[name] = replace(photos[name], found=None, beneath=None, verdicts={})
    return replace(state, photos=photos)


def draw(state: State, name: str, step: Step, facts: Any) -> State:
    """Draw on a photo, whose file has these facts."""
    photo = state.photo(name)
    return with_photo(state, name, steps=[*photo.steps, step], undone=[], annotated=facts)


def undo(state: State, name: str) -> State:
    """Take the last step on a photo back."""
    photo = state.photo(name)
    if not photo.steps:
        raise UserError("nothing is left to undo on this photo")
    *steps, last = photo.steps
    return with_photo(state, name, steps=steps, undone=[last, *photo.undone])


def redo(state: State, name: str) -> State:
    """Draw again what was taken back last on a photo."""
    photo = state.photo(name)
    if not photo.undone:
        raise UserError("nothing is left to redo on this photo")
    first, *undone = photo.undone
    return with_photo(state, name, steps=[*photo.steps, first], undone=undone)


def drawn_on(photo: Photo, before: Photo) -> set[int]:
    """Return the values of the classes that were drawn on a photo since; all where it has no result."""
    earlier = before.edits if photo.found else []
    return {edit["value"] for edit in photo.edits if edit["tool"] != ERASER and edit not in earlier}


def teach(state: State, name: str, drawn: set[int], shown: Sequence[str]) -> State:
    """Let a photo teach what was drawn on it, of the classes that it shows; what it shows no longer is not taught.

    It does on a photo that was not segmented, on an example, and for a class without an example. All else is a
    correction.
    """
    photo = state.photo(name)
    taught = [known for known in photo.taught if known in shown or known in photo.rejected]
    for known in shown:
        is_drawn = state.classes.index(known) + 1 in drawn and known not in taught
        is_correction = photo.found and not photo.teaches and not state.needs_example(known)
        if is_drawn and not is_correction:
            taught.append(known)
    return with_photo(state, name, taught=taught)


def use_as_example(state: State, name: str, value: int, shown: Sequence[str]) -> State:
    """Let a photo teach a class, and those that are accepted on it, of those that it shows; or take all of that back.

    Without a result nothing is left of its mask then.
    """
    photo = state.photo(name)
    asked = state.class_of(value)
    if asked in photo.teaches:
        if photo.found:
            return with_photo(state, name, taught=[])
        return with_photo(state, name, taught=[], steps=[*photo.steps, Step(instead="all")], beneath=None)
    if asked not in shown:
        fix = "paint over the object, drag a box around it, or click points on it"
        raise UserError(f"{name}: has no annotation of {asked}; {fix}")
    accepted = [known for known in shown if photo.verdicts.get(known) == ACCEPTED]
    return with_photo(state, name, taught=list(dict.fromkeys([*photo.taught, asked, *accepted])))


def _check_verdict(photo: Photo, name: str, verdict: str, asked: str) -> None:
    """Refuse (UserError) what is no verdict, or one on a class of a photo that was not looked for there."""
    if verdict not in ("", *VERDICTS):
        raise UserError(f"'{verdict}' is no verdict{nearest(verdict, VERDICTS)}")
    if verdict == REJECTED and asked not in (*photo.names, *photo.taught):
        raise UserError(f"{name}: {asked} was not searched for; press Segment")
    if verdict == ACCEPTED and not (photo.found or photo.teaches):
        raise UserError(f"{name}: was not segmented and has no mask to accept; press Segment")


def judge(state: State, name: str, verdict: str, value: int) -> State:
    """Accept all classes of a photo that have no verdict, reject one, or take all verdicts back ("").

    UserError: nothing was looked for on the photo.
    """
    photo, asked = state.photo(name), state.class_of(value)
    _check_verdict(photo, name, verdict, asked)
    verdicts: dict[str, str] = {}
    if verdict == REJECTED:
        verdicts = {**photo.verdicts, asked: REJECTED}
    elif verdict == ACCEPTED:
        verdicts = {**dict.fromkeys(photo.names or state.names, ACCEPTED), **photo.verdicts}
    if not verdict and not photo.verdicts:
        return state
    return with_photo(state, name, verdicts=verdicts)
