"""One run in several processes: what decides is the same in all of them, or none begins.

Each process has config, code, lists, photos and weights from its command and its disk.
"""

from collections.abc import Callable
from functools import partial
from itertools import chain
from typing import Any

from model.decides import Decides
from model.registration import REGISTRIES
from util.config.read import to_dict
from util.config.same import differences, in_words
from util.config.settings import Config
from util.config.tree import key_of
from util.files.digests import content_digest
from util.files.errors import UserError
from util.files.project import REPOSITORY
from util.loop.processes import ProcessGroup
from util.weights.code import code_of_others
from util.weights.may_differ import PROCESSES
from util.weights.origin import Origin

WORDS = "--set"  # which are equal, too, where they state what the config has without them


def check_alike(
    world: ProcessGroup, config: Config, find: Callable[[], list[Origin]] = list, options: dict[str, Any] | None = None
) -> None:
    """Refuse (UserError, in all processes) a run whose processes have other settings, code or facts than the first one.

    Args:
        world: the processes, which all call this.
        config: of this process.
        find: finds its facts, as many in each process that has the same settings.
        options: of its command, beside the config.
    """
    if world.size == 1:
        return
    settings = {
        **to_dict(config),
        **(options or {}),
        WORDS: [text for text in config.given if not key_of(text).startswith(PROCESSES.settings)],
    }
    (settings, origins), *others = world.gather((settings, [_code(), *find()]))
    found = []
    for rank, (theirs, of_rank) in enumerate(others, 1):
        said = _settings_changed(settings, theirs)
        said += chain.from_iterable(map(partial(Origin.differences, now="there"), origins, of_rank))
        if said:
            found.append(f"process {rank}: {', '.join(dict.fromkeys(said))}")
    if found:
        raise UserError(
            f"the processes of this run differ from its first one: {'; '.join(found)}",
            fix="give all of them the same words, data, code and weights, and begin again",
        )


def _code() -> Origin:
    """Return the digests of this project's code, and of the code of others that is registered."""
    files = chain.from_iterable((REPOSITORY / house).rglob("*.py") for house in ("model", "util"))
    of_files = {path.relative_to(REPOSITORY).as_posix(): content_digest(path).hex() for path in files}
    of_others = code_of_others(chain.from_iterable(kind.pieces.values() for kind in REGISTRIES.values()))
    return Origin(code=of_files | of_others)


def _settings_changed(settings: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Return in words which settings another process has otherwise; of words of equal settings, those."""
    changed = differences(settings, theirs, Decides.NOTHING, (*PROCESSES.settings, WORDS))
    lacking = differences(theirs, settings, Decides.NOTHING, PROCESSES.settings)
    return in_words(changed, "there") or in_words(lacking, "here")
