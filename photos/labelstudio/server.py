"""``predict.py --label-studio``: the model that Label Studio 1.23 asks, a "machine-learning backend" over HTTP.

Label Studio asks for ``/health`` and ``/setup`` before each request for predictions, waits 3 s for ``/setup`` and 100 s
for ``/predict``, and keeps a prediction as long as the model's version is the same. ``/webhook`` announces changes;
it may never come, since Label Studio sends none to private addresses by default.
"""

import argparse
import json
import os
import re
import threading
import time
from collections.abc import Callable
from typing import Any

from annotations.annotation import content_errors
from photos.command import HOST, MEMORY, MODEL_PORT, TOKEN_VARIABLE
from photos.labelstudio.client import Client, reported
from photos.labelstudio.project import SHOTS, Project
from photos.options import segmenter_of
from photos.page.background import line_of
from photos.page.server import JSON, QuietHandler, QuietServer, listening
from photos.segmenter import Segmenter
from util.files.errors import UserError, one_line
from util.loop.processes import as_user_error

PATIENCE = 80  # seconds after which a request gets no further answers
MAX_NAMED = 10  # projects that the first line names
ANNOTATION, TRAINING = "ANNOTATION", "START_TRAINING"  # in actions of ``/webhook``


def say(line: str) -> None:
    """Print a line at once; titles and labels in it are of others."""
    print(one_line(line), flush=True)


class Model:
    """All projects that ask, or the ``only`` one; its public functions are what Label Studio calls."""

    def __init__(self, client: Client, segmenter: Segmenter, shots: int, only: int | None = None):
        self.client = client
        self.title = segmenter.model.title
        self._segmenter = segmenter
        self._shots = shots
        self._only = only
        self._projects: dict[int, Project] = {}
        self._lock = threading.Lock()

    def project(self, number: int) -> Project:
        """Return a project; UserError: it is not the one that is served."""
        if self._only not in (None, number):
            fix = "start with the address of the server, without /projects/, to serve all"
            raise UserError(f"project {number}: only project {self._only} is served here; {fix}")
        with self._lock:
            if number not in self._projects:
                self._projects[number] = Project(self.client, number, self._segmenter, self._shots, say)
            return self._projects[number]

    def health(self) -> dict[str, Any]:
        """Say that the model is there."""
        return {"status": "UP", "model_class": self.title}

    def versions(self) -> dict[str, Any]:
        """Return the versions of the model that are in use."""
        return {"versions": sorted({project.version for project in self._projects.values()})}

    def setup(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the version of the model, which changes with the project's annotations."""
        project = self.project(number_of(request))
        project.refresh()
        return {"model_version": project.version}

    def predict(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return predictions, of each task a list of one, or of none; or the region of a smart tool."""
        project = self.project(number_of(request))
        tasks = _tasks_of(request)
        start = time.monotonic()
        drawn = _drawn_in(request)
        if drawn and tasks:
            project.refresh()
            return {"results": [project.region(tasks[0], drawn)]}
        segmenter = project.prepare()
        answers: list[list[dict[str, Any]]] = []
        late = ""
        for task in tasks:
            if time.monotonic() - start > PATIENCE:
                late = "; ask again for the others"
            answers.append([] if late else self._answers(project, task, segmenter))
        predictions = [prediction for answer in answers for prediction in answer]
        with_object = sum(bool(prediction["result"]) for prediction in predictions)
        duration = f"{time.monotonic() - start:.1f} s"
        line = f"{len(predictions)} of {len(tasks)} tasks predicted in {duration}, {with_object} show an object"
        say(f"project {project.number}: {line}{late}")
        return {"results": answers}

    def _answers(self, project: Project, task: dict[str, Any], segmenter: Segmenter) -> list[dict[str, Any]]:
        """Return the prediction for a task, none where its photo cannot be read, which is said."""
        with reported(say, f"project {project.number}: no prediction for task {task['id']}"):
            return [project.answer(task, segmenter)]
        return []

    def webhook(self, request: dict[str, Any]) -> dict[str, Any]:
        """Read changed annotations in the background; Label Studio waits for the answer while it saves them."""
        action = str(request.get("action"))
        if action.startswith(ANNOTATION) or action == TRAINING:
            project = self.project(number_of(request))
            threading.Thread(target=attempt_aloud, args=(project.prepare,), daemon=True).start()
        return {}


def _tasks_of(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the tasks of a request; UserError: there is none, or one without number or data."""
    tasks = request.get("tasks")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) and "id" in task for task in tasks):
        raise UserError("the request names no tasks; write tasks: [{id, data}]")
    for task in tasks:
        if not isinstance(task.get("data"), dict):
            raise UserError(f"task {task['id']}: has no data; write data: {{image: address}}")
    return tasks


def _drawn_in(request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a smart tool has drawn, none where the request is of none; UserError: it has another form."""
    params = request.get("params") or {}
    context = params.get("context") or {} if isinstance(params, dict) else None
    drawn = (context.get("result") or []) if isinstance(context, dict) else None
    if not isinstance(drawn, list) or not all(isinstance(entry, dict) for entry in drawn):
        raise UserError("the request's params are damaged; write params: {context: {result: [...]}}")
    return drawn


def number_of(request: dict[str, Any]) -> int:
    """Return the number of a request's project, which states it as ``number.time``, or as an object with an id."""
    project = request.get("project")
    try:
        return int(project["id"] if isinstance(project, dict) else str(project).partition(".")[0])
    except (KeyError, TypeError, ValueError):
        raise UserError("the request names no project; this address is for Label Studio's settings, Model") from None


def attempt_aloud(function: Callable[[], Any]) -> None:
    """Call a function, and print an error as one line."""
    try:
        function()
    except Exception as error:
        say(line_of(error))


class ModelServer(QuietServer):
    """A server of one model."""

    model: Model


class Handler(QuietHandler):
    """A request of Label Studio."""

    def look(self, path: str, query: dict[str, str]) -> tuple[Any, str]:
        """Answer ``/health`` and ``/versions``."""
        model = self.server.model
        return model.versions() if path.strip("/") == "versions" else model.health(), JSON

    def act(self, path: str, query: dict[str, str]) -> tuple[Any, str]:
        """Answer ``/setup``, ``/predict`` and ``/webhook``, and print errors too, since Label Studio hides some."""
        model = self.server.model
        body = self.body((JSON,))
        with content_errors(f"{path}: the request is damaged (", ")"):
            request = json.loads(body)
        known = {"setup": model.setup, "predict": model.predict, "webhook": model.webhook}
        name = path.strip("/")
        if name not in known or not isinstance(request, dict):
            raise UserError(f"{path}: known are {', '.join(known)}")
        try:
            with as_user_error(MEMORY):
                return known[name](request), JSON
        except UserError as error:
            say(str(error))
            raise


def serve(parsed: argparse.Namespace) -> int:
    """Be the model of the Label Studio of a command line until it is interrupted, and return the exit code 0."""
    address, only = address_and_project(parsed.label_studio)
    client = Client(address, parsed.token or os.environ.get(TOKEN_VARIABLE, ""))
    projects = client.projects()
    if only is not None:
        client.labelling_config(only)
        projects = {only: projects.get(only, "")}
    host, port = parsed.host or HOST, parsed.port or MODEL_PORT
    with listening(ModelServer, Handler, host, port) as server:
        segmenter = segmenter_of(parsed, [])
        server.model = model = Model(client, segmenter, parsed.max_shots or SHOTS, only)
        named = [f"{number} ({title})" for number, title in projects.items()]
        say(f"{model.title} for {client.address}, {len(named)} project(s): {', '.join(named[:MAX_NAMED])}")
        say(f"connect {server.url} under Settings, Model of a project{server.warning}; Ctrl-C ends this program")
        if len(projects) == 1:  # several are read when they ask
            attempt_aloud(model.project(*projects).prepare)
        server.serve_until_interrupted()
    return 0


def address_and_project(address: str) -> tuple[str, int | None]:
    """Return the address of a server and the number of the project that it names, ``/projects/N``; None: all."""
    parts = re.fullmatch(r"(.*?)/projects/(\d+)(/.*)?", address)
    return (address, None) if parts is None else (parts[1], int(parts[2]))
