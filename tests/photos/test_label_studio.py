"""The model of a Label Studio server, asked over HTTP as 1.23 asks, against a small server with the parts it reads."""

import json
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from annotations.labelstudio import POLYGONS, Control, brush_mask, regions_of
from photos import Segmenter
from photos.labelstudio.client import Client, NoAnswer
from photos.labelstudio.labelling import labelling_of
from photos.labelstudio.project import Project
from photos.labelstudio.server import Handler, Model, ModelServer, say
from tests.helpers import spawned
from util.engine import OUTLOOK
from util.evaluate.calibration import Calibration
from util.files.errors import UserError

LEGACY, PERSONAL = "f00d" * 10, "head.body.signature"
WIDTH, HEIGHT = 60, 44
SQUARE = np.zeros((HEIGHT, WIDTH), bool)
SQUARE[8:30, 12:40] = True
CONFIG = """<View><Image name="photo" value="$image"/><KeyPointLabels name="point" toName="photo" smart="true">
<Label value="cat"/></KeyPointLabels>
<{tag} name="mask" toName="photo"><Label value="cat"/><Label value="dog"/></{tag}></View>"""


def result(mask: np.ndarray, label: str = "cat") -> list[dict[str, Any]]:
    return regions_of(mask, label, 1.0, Control(POLYGONS, "mask", "photo"))


@dataclass
class Studio:
    """The server: projects' configurations, and the annotations of each task; tasks 1 .. 4 are of project 1."""

    photo: bytes
    configs: dict[int, str] = field(default_factory=lambda: {1: CONFIG.format(tag="BrushLabels")})
    annotations: dict[int, list[dict[str, Any]]] = field(default_factory=dict)
    access: str = "minutes-1"  # what the personal token is exchanged for
    asked: list[str] = field(default_factory=list)
    photos: dict[int, str] = field(default_factory=lambda: {n: f"/data/upload/1/0123abcd-{n}.png" for n in range(1, 5)})
    changes: int = 0

    def annotate(self, task: int, regions: list[dict[str, Any]], **more: Any) -> None:
        """Add a finished annotation to a task."""
        self.changes += 1
        annotation = {
            "id": 100 + self.changes,
            "result": regions,
            "was_cancelled": False,
            "updated_at": f"2026-01-01T00:00:{self.changes:02d}Z",
            "ground_truth": False,
        }
        self.annotations.setdefault(task, []).append(annotation | more)

    def task(self, number: int) -> dict[str, Any]:
        return {"id": number, "data": {"image": self.photos[number]}}

    def annotated(self) -> list[dict[str, Any]]:
        """Return the tasks that have annotations, the newest first."""
        changes = {task: annotations[-1]["updated_at"] for task, annotations in self.annotations.items()}
        newest = sorted(changes, key=lambda task: changes[task], reverse=True)
        return [{"id": task, "updated_at": changes[task]} for task in newest]

    def answer(self, path: str, query: dict[str, list[str]]) -> Any:
        """Return what GET gives; KeyError: nothing is there."""
        if path.startswith("/data/upload/"):
            return self.photo
        if path == "/api/projects/":
            return {"results": [{"id": number, "title": f"title {number}"} for number in self.configs]}
        if path == "/api/tasks/":
            assert json.loads(query["query"][0])["ordering"] == ["-tasks:completed_at"]
            return {"tasks": self.annotated()}
        number = int(path.split("/")[3])
        if path.endswith("/export"):
            chosen = map(int, query["ids[]"])
            return [{**self.task(task), "annotations": self.annotations[task]} for task in chosen]
        return {"label_config": self.configs[number]}


class StudioHandler(BaseHTTPRequestHandler):
    """A request of the model."""

    server: Any

    def do_GET(self) -> None:
        studio = self.server.studio
        url = urlsplit(self.path)
        studio.asked.append(url.path)
        if self.headers.get("Authorization") not in (f"Token {LEGACY}", f"Bearer {studio.access}"):
            return self.give(401, {"detail": "Invalid token."})
        if url.path.endswith("moved.png"):
            return self.give(302, b"", Location="http://127.0.0.2:1/a.png")
        try:
            return self.give(200, studio.answer(url.path, parse_qs(url.query)))
        except KeyError:
            return self.give(404, {"detail": "Not found."})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/api/token/refresh/"  # nothing else is written
        if body == {"refresh": PERSONAL}:
            self.give(200, {"access": self.server.studio.access})
        else:
            self.give(401, {"detail": "No."})

    def give(self, code: int, content: Any, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        for header in headers.items():
            self.send_header(*header)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def listen(server: ThreadingHTTPServer) -> str:
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    pixels = np.random.default_rng(0).integers(0, 90, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    pixels[SQUARE] += 150
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    server = ThreadingHTTPServer(("127.0.0.1", 0), StudioHandler)
    server.studio = Studio((tmp_path / "photo.png").read_bytes())  # type: ignore[attr-defined]
    server.studio.address = listen(server)  # type: ignore[attr-defined]
    yield server.studio  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


@pytest.fixture
def ask(studio, baseline: Path, made) -> Iterator[Callable[..., Any]]:
    """Return a function that asks the model as Label Studio does, and gives its answer, or the reason of a refusal."""
    if "page" not in made.segmenters:
        made.segmenters["page"] = Segmenter(config=baseline, device="cpu")
    servers = []

    def start(only: int | None = None, token: str = LEGACY) -> str:
        server = ModelServer(("127.0.0.1", 0), Handler)
        server.model = Model(Client(studio.address, token), made.segmenters["page"], shots=2, only=only)
        servers.append(server)
        return listen(server)

    address = start()

    def call(path: str, *tasks: int, of: int = 1, at: str = address, drawn: Any = None, **more: Any) -> Any:
        body = {"project": f"{of}.1795732615", "tasks": [studio.task(number) for number in tasks]}
        body["params"] = {"login": None, "context": drawn and {"result": drawn}}
        content = None if path == "health" else json.dumps(body | more).encode()
        request = Request(f"{at}/{path}", content, {"Content-Type": "application/json"})
        try:
            with urlopen(request) as answer:
                return json.load(answer)
        except HTTPError as error:
            assert json.load(error)["error"].startswith(error.reason[:200])
            return error.reason

    call.start = start  # type: ignore[attr-defined]
    yield call
    for server in servers:
        server.shutdown()
        server.server_close()


def mask_in(answer: dict[str, Any]) -> np.ndarray:
    """Return the mask of the brush in an answer to one task."""
    ((prediction,),) = answer["results"]
    (region,) = prediction["result"]
    assert (region["from_name"], region["to_name"], region["original_width"]) == ("mask", "photo", WIDTH)
    assert region["value"]["brushlabels"] == ["cat"] and 0 < prediction["score"] <= 1
    return brush_mask(region["value"]["rle"], (HEIGHT, WIDTH))


def test_finished_annotations_are_supports(ask, studio: Studio) -> None:
    assert ask("health") == {"status": "UP", "model_class": "prototype baseline"}
    empty = ask("setup")["model_version"]
    assert "project 1: no finished annotation" in ask("predict", 2)
    studio.annotate(1, result(SQUARE, "dog"), was_cancelled=True)
    studio.annotate(1, result(SQUARE))
    first = ask("setup")["model_version"]
    assert first != empty
    mask = mask_in(ask("predict", 2))
    assert (mask & SQUARE).sum() > 0.8 * SQUARE.sum()
    assert ask("setup")["model_version"] == first  # nothing has changed
    studio.annotations.clear()
    assert "no finished annotation" in ask("predict", 2)
    assert ask("setup")["model_version"] == empty


def test_a_correction_changes_the_next_answers(ask, studio: Studio, capfd) -> None:
    empty = ask("setup")["model_version"]
    studio.annotate(1, result(SQUARE))
    first = ask("setup")["model_version"]
    before = mask_in(ask("predict", 2))
    studio.annotations[1][-1] |= {"result": result(~SQUARE), "updated_at": "2026-01-02T00:00:00Z"}
    after = mask_in(ask("predict", 2))
    assert (after != before).any()
    assert ask("setup")["model_version"] not in (first, empty)
    said = capfd.readouterr().out.splitlines()
    assert said.count("project 1: examples: cat 1; none yet of dog") == 2
    assert any("1 of 1 tasks predicted in" in line for line in said)


def test_what_to_expect_of_a_label_is_said_once(studio: Studio) -> None:
    """Of a training class nothing; of another one at its first annotation, and not again after a correction."""
    lines: list[str] = []
    studio.configs[1] = studio.configs[1].replace("dog", "wheel")
    segmenter = Segmenter(device="cpu", side=97)
    project = Project(Client(studio.address, LEGACY), 1, segmenter, shots=2, say=lines.append)
    counts = []
    for task, label in enumerate(("cat", "wheel", "wheel"), 1):
        studio.annotate(task, result(SQUARE, label))
        project.prepare()
        counts.append(lines.count(f"project 1: {OUTLOOK}"))
    assert counts == [0, 1, 1]


def test_ground_truth_comes_first_then_the_newest(ask, studio: Studio) -> None:
    studio.annotate(1, result(~SQUARE), ground_truth=True)
    studio.annotate(2, result(SQUARE))
    versions = {ask("setup")["model_version"]}
    studio.annotate(3, result(SQUARE))  # in place of task 2's
    versions.add(ask("setup")["model_version"])
    studio.annotations[2][0]["result"] = result(~SQUARE)  # which is no support any more
    versions.add(ask("setup")["model_version"])
    studio.annotations[1][0]["updated_at"] = "2026-01-03T00:00:00Z"
    versions.add(ask("setup")["model_version"])
    assert len(versions) == 3


def test_an_absent_object_is_an_empty_answer_of_polygons(ask, studio: Studio, made, monkeypatch) -> None:
    studio.configs[1] = CONFIG.format(tag="PolygonLabels")
    studio.annotate(1, result(SQUARE))
    ((shown,),) = ask("predict", 2)["results"]
    assert {region["type"] for region in shown["result"]} == {"polygonlabels"}
    never = Calibration("", "", "", "", 1.0, 0.0, [0.0] * 6, -3, 0.5)
    monkeypatch.setattr(made.segmenters["page"], "calibration", never)
    ((absent,),) = ask("predict", 2, at=ask.start())["results"]
    assert absent["result"] == []
    assert absent["score"] == 0


def smart_entry(kind: str, **value: Any) -> dict[str, Any]:
    """Return what a smart tool of the label cat has drawn."""
    return {
        "type": kind,
        "from_name": "point",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "value": {**value, kind: ["cat"]},
    }


POINT = smart_entry("keypointlabels", x=45, y=45, width=0.3, labels=["cat"]) | {"is_positive": True}


def test_a_smart_point_returns_the_region_about_it(ask) -> None:
    (answer,) = ask("predict", 2, drawn=[POINT])["results"]
    region = mask_in({"results": [[answer]]})
    assert region[20, 27]


def test_a_smart_rectangle_returns_the_region_in_it(ask) -> None:
    rectangle = smart_entry("rectanglelabels", x=15, y=10, width=60, height=65, rotation=0)
    (answer,) = ask("predict", 2, drawn=[rectangle])["results"]
    region = mask_in({"results": [[answer]]})
    assert region.any()
    assert not region[:, 50:].any()


def test_a_negative_smart_point_takes_the_region_away(ask) -> None:
    (answer,) = ask("predict", 2, drawn=[POINT, POINT | {"is_positive": False}])["results"]
    assert answer["result"] == []


def test_smart_tools_of_other_labels_or_forms_are_refused(ask) -> None:
    cow = POINT | {"value": POINT["value"] | {"keypointlabels": ["cow"]}}
    assert "'cow' is no label of BrushLabels" in ask("predict", 2, drawn=[cow])
    assert "place a key point or a rectangle" in ask("predict", 2, drawn=[POINT | {"value": {"points": []}}])


def test_a_webhook_reads_the_annotations_before_the_next_question(ask, studio: Studio) -> None:
    studio.annotate(1, result(SQUARE))
    assert ask("webhook", action="ANNOTATION_CREATED", project={"id": 1}) == {}
    deadline = time.monotonic() + 60
    while "/data/upload/1/0123abcd-1.png" not in studio.asked:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert ask("webhook", action="TASKS_CREATED") == {}


def test_photos_of_this_server_alone_are_read(ask, studio: Studio, capfd) -> None:
    studio.annotate(1, result(SQUARE))
    studio.photos |= {2: f"{studio.address}/data/upload/1/a.png", 3: "http://127.0.0.2:1/a.png", 4: "s3://store/a.png"}
    studio.photos[5] = "/data/upload/1/moved.png"  # the token must not go there
    answers = ask("predict", 2, 3, 4, 5)["results"]
    assert [len(predictions) for predictions in answers] == [1, 0, 0, 0]
    said = capfd.readouterr().out
    assert f"task 3: http://127.0.0.2:1/a.png: is not on {studio.address}" in said
    assert "task 4: s3://store/a.png: is not on" in said
    fix = "upload the photo, or add a local storage"
    assert f"task 5: /data/upload/1/moved.png: lies on another server, 127.0.0.2:1, which is not asked; {fix}" in said


def test_two_projects_are_served_or_one_alone(ask, studio: Studio) -> None:
    studio.configs[2] = CONFIG.format(tag="BrushLabels")
    studio.annotate(1, result(SQUARE))
    only_first = ask.start(only=1)
    assert "only project 1 is served" in ask("predict", 2, of=2, at=only_first)
    assert mask_in(ask("predict", 2, at=only_first)).any()
    assert mask_in(ask("predict", 2, of=2)).any()
    assert "project 3: is not on" in ask("setup", of=3)


def test_annotations_of_a_renamed_class_are_left_out(ask, studio: Studio, capfd) -> None:
    studio.annotate(1, result(SQUARE))
    studio.configs[1] = studio.configs[1].replace("cat", "kitten")
    ask("setup")
    assert "left out: annotations of cat, which is no label of BrushLabels (kitten, dog)" in capfd.readouterr().out


DAMAGED = [
    {"tasks": None},
    {"tasks": [7]},
    {"tasks": [{"id": 1}]},
    {"tasks": [{"id": 1, "data": None}]},
    {"params": [1]},
    {"params": {"context": 7}},
    {"params": {"context": {"result": [7]}}},
]


@pytest.mark.parametrize("part", DAMAGED)
def test_a_damaged_request_is_one_line_without_a_traceback(part, studio: Studio, ask, capfd) -> None:
    reason = ask("predict", 1, **part)
    assert "the request" in reason or "task 1: has no data" in reason
    assert "Traceback" not in capfd.readouterr().err


def test_titles_of_projects_cannot_rule_the_terminal(capfd) -> None:
    say("title \x1b[31m\x07\nred")
    assert capfd.readouterr().out == "title ?[31m? red\n"


def test_a_personal_token_is_exchanged_again_when_its_minutes_are_over(studio: Studio) -> None:
    client = Client(studio.address, PERSONAL)
    client.projects()
    studio.access = "minutes-2"
    assert client.projects() == {1: "title 1"}


def test_a_legacy_token_is_sent_as_it_is(studio: Studio) -> None:
    assert list(Client(f"{studio.address}/", LEGACY).projects()) == [1]


@pytest.mark.parametrize("token", ["wrong", "a.b.c"])
def test_a_wrong_token_is_one_line(studio: Studio, token: str) -> None:
    with pytest.raises(UserError, match=r"--token: .* answers 401"):
        Client(studio.address, token).projects()


def test_a_server_that_is_not_there_is_one_line() -> None:
    with pytest.raises(NoAnswer, match="is Label Studio running"):
        Client("http://127.0.0.1:9", LEGACY).projects()


def test_mistakes_of_the_command_are_one_line(studio: Studio, predict) -> None:
    words = ("--label-studio", studio.address)
    assert "--token: is missing" in predict(*words).error
    of_project = ("--label-studio", f"{studio.address}/projects/7/data")
    assert "project 7: is not on" in predict(*of_project, "--token", LEGACY).error
    assert "--query: has no effect with --label-studio" in predict(*words, "--token", LEGACY, "--query", "x").error


@pytest.mark.process
def test_the_command_answers_until_it_is_stopped(ask, studio: Studio, baseline: Path) -> None:
    studio.annotate(1, result(SQUARE))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ("--label-studio", studio.address, "--config", baseline, "--device", "cpu", "--port", port)
    model = spawned.start("predict.py", *words, LABEL_STUDIO_API_KEY=PERSONAL)
    spawned.wait_for(lambda: "project 1: examples: cat 1" in model.stdout, model)
    assert mask_in(ask("predict", 2, at=f"http://127.0.0.1:{port}")).any()
    assert "--port" in spawned.run("predict.py", *words, check=2, LABEL_STUDIO_API_KEY=LEGACY).stderr
    model.signal(signal.SIGTERM)
    assert (model.code, model.stderr) == (0, "")
    assert "1 project(s): 1 (title 1)" in model.stdout


@pytest.mark.parametrize("config", ["", "<View>", "<View/>", CONFIG.format(tag="EllipseLabels"), "<BrushLabels/>"])
def test_a_configuration_without_regions_is_one_line(config: str) -> None:
    with pytest.raises(UserError, match="project 1: its labelling configuration"):
        labelling_of(config, "project 1")
