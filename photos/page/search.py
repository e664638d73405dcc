"""The page's search: the network looks on every photo for the classes that have no mask by a person there."""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from threading import RLock

from photos import persons
from photos.examples import Example
from photos.page.background import Background
from photos.page.masks import PhotoMasks
from photos.results_folder import Results
from photos.segmenter import Segmenter
from photos.summary import write_summary
from util.files.errors import UserError
from util.files.parallel import result_or_error

EXAMPLES = 10  # photos of a class that the network learns from, at most


def search(masks: PhotoMasks, work: Background, lock: RLock, first: str) -> str:
    """Search the photos whose results are not complete, the one named ``first`` first, and return what was found.

    UserError: no class has an example.
    """
    unread: dict[Path, str] = {}
    with lock:
        wanted = _wanted(masks)
        if not wanted:
            return "nothing to search: every class is yours on all photos"
        segmenter = _with_examples(masks, wanted)
        results = Results(masks.out, segmenter.names)
        facts = {**segmenter.facts, "instances": False, "inputs": segmenter.digest()}
        waiting = results.waiting([*filter(Path.is_file, masks.photos.values())], facts, unread)
        paths = {name: path for name, path in masks.photos.items() if path in waiting or path in unread}
    for name in work.each("segmented", sorted(paths, key=lambda name: name != first)):
        path = paths[name]
        found = [*segmenter.many([path], unread=unread)] if path in waiting else []
        with lock:
            if found and name in masks.photos:
                results.write(found[0], facts)
        masks.errors[path] = unread.get(path, "")
    write_summary(masks.out, {})
    searched = results.made.intersection(paths.values())
    return "; ".join([f"{len(searched)} of {len(paths)} waiting photos searched", *islice(unread.values(), 3)])


def _wanted(masks: PhotoMasks) -> list[str]:
    """Return the classes that have no mask by a person on at least one photo."""
    said = [persons.values_of(masks.out, path) for path in masks.photos.values()]
    return [name for name, value in persons.values(masks.out).items() if not all(value in values for values in said)]


def _with_examples(masks: PhotoMasks, wanted: Sequence[str]) -> Segmenter:
    """Return a segmenter of the wanted classes that have examples, whose masks are read; UserError: none has one."""
    segmenter = masks.segmenter.without_classes()
    for name, of_class in _examples(masks, wanted).items():
        if of_class:
            segmenter.add(name, of_class[:EXAMPLES])
    if not segmenter.classes:
        raise UserError("no class has an example: paint over the object on one photo")
    return segmenter


def _examples(masks: PhotoMasks, wanted: Sequence[str]) -> dict[str, list[Example]]:
    """Return the photos on which a person has drawn each of the wanted classes."""
    values = persons.values(masks.out)
    examples: dict[str, list[Example]] = {name: [] for name in wanted}
    for path in masks.photos.values():
        said = result_or_error(partial(persons.masks_of, masks.out), path)
        if isinstance(said, UserError):  # which the search says
            continue
        file = str(persons.file_of(masks.out, path))
        for name, mask in said.items():
            if name in examples and mask.any():
                examples[name].append(Example(name, path, file, mask_value=values[name]))
    return examples
