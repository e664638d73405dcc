"""Whether a test is done: its result is there, of the same settings, weights, code, list, photos and text vectors."""

from collections.abc import Callable
from functools import cache
from typing import Any

from model.code import SHARED, code_of_folder
from model.decides import Decides
from util.config.read import to_dict
from util.config.same import differences
from util.evaluate.evaluation import Evaluation, deciding_scores
from util.evaluate.schema import MANIFEST, RESULT, Result, read_result
from util.files.errors import UserError
from util.files.project import REPOSITORY
from util.weights.code import code_of_run
from util.weights.origin import Origin

# Folders whose code tests of all methods run through
FOLDERS = ("model", *(f"model/{name}" for name in SHARED), "util/data", "util/evaluate", "util/loop")


def code_of_test(evaluation: Evaluation) -> dict[str, str]:
    """Return the digests of what a test runs through: each module of its method and of others, each shared folder."""
    config = evaluation.config
    return {
        **code_of_run(evaluation.run.model_class, config.model, config.data, config.test, evaluation.protocol),
        **shared_code(),
    }


@cache
def shared_code() -> dict[str, str]:
    """Return the digests of the shared folders, as they were when a test of this process began."""
    return {name.replace("/", "."): code_of_folder(REPOSITORY / name) for name in FOLDERS}


def facts_today(evaluation: Evaluation) -> dict[str, Callable[[], Any]]:
    """Return the functions that find what decides a test's scores beside settings, by their names in an ``Origin``."""
    return {
        "code": lambda: code_of_test(evaluation),
        "list": lambda: evaluation.images.digest,
        "content": lambda: evaluation.images.files_digest,
        "vectors": lambda: evaluation.run.text_digest,
        "weights": lambda: evaluation.loaded.digest,
        "training": lambda: evaluation.loaded.stored.training,
        "episode_digests": lambda: evaluation.episode_digests,
    }


def reason_to_test(evaluation: Evaluation) -> str:
    """Return why a test has to run: its result is missing, damaged, or of something else; '' if it need not."""
    path = evaluation.folder / RESULT
    if not path.exists():
        return "no result yet"
    try:
        result = read_result(path)
        scored = deciding_scores(result["config"])
    except (UserError, KeyError):
        return "the result there cannot be read"
    if not path.with_name(MANIFEST).is_file():
        return f"the result there lacks its {MANIFEST}"
    changed = _settings_changed(evaluation, scored) or _facts_changed(evaluation, result)
    return f"the result there is of {', '.join(changed[:3])}" if changed else ""


def _settings_changed(evaluation: Evaluation, scored: dict[str, Any]) -> list[str]:
    """Describe the settings of a test that were others when it was scored."""
    found = differences(scored, deciding_scores(to_dict(evaluation.config)), Decides.SCORES)
    if set(evaluation.config.test.metrics) <= set(scored["test"]["metrics"]):  # further ones do no harm
        found.pop("test.metrics", None)
    return [f"another {key}" for key in found]


def _facts_changed(evaluation: Evaluation, result: Result) -> list[str]:
    """Describe the facts of a test that were others when it was scored."""
    if result["weights_mark"] != evaluation.run.weights_mark:
        return [result["checkpoint"]]
    return [*Origin.of(result).differences(Origin.today(facts_today(evaluation)))]
