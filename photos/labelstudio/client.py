"""The client reads projects, annotated tasks and photos of a Label Studio server over its HTTP API. It writes nothing.

The export of a project is the one list of annotations that makes Label Studio ask for no predictions meanwhile.
"""

import json
import string
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from photos.page.server import BYTES, JSON, MAX_BYTES
from util.files.errors import UserError

UPLOAD = "upload the photo, or add a local storage"
TIMEOUT = 60  # seconds that an answer may take
LISTED = 100  # tasks among which supports are chosen; more may take longer than Label Studio waits
PERSONAL_DOTS = 2  # in a personal access token; a legacy token has none
UNAUTHORISED = 401
SUFFIX_LENGTH = 6  # of a photo's file, at most


class NoAnswer(UserError):
    """The server cannot be reached."""


@contextmanager
def reported(say: Callable[[str], None], what: str) -> Iterator[None]:
    """Say a UserError of the block, on ``what``, in place of raising it, unless the server cannot be reached."""
    try:
        yield
    except NoAnswer:
        raise
    except UserError as error:
        say(f"{what}: {error}")


class Refused(UserError):
    """The server answers with another code than 200."""

    def __init__(self, message: str, code: int):
        super().__init__(message)
        self.code = code


class SameServer(HTTPRedirectHandler):
    """Follows redirections within a server alone, since they take the token along."""

    def redirect_request(self, req: Request, *response: Any) -> Request | None:
        """Return the next request by an answer, whose last part is the address; UserError: it leaves the server."""
        *_, address = response  # as urllib hands it on: file, code, message, headers, address
        if origin_of(address) != origin_of(req.full_url):
            problem = f"lies on another server, {urlsplit(address).netloc}, which is not asked"
            raise UserError(f"{urlsplit(req.full_url).path}: {problem}; {UPLOAD}")
        return super().redirect_request(req, *response)


class Client:
    """A server, as one of its users sees it, by his personal access token or his legacy token."""

    def __init__(self, address: str, token: str):
        """UserError: the address is none, or the token is missing."""
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UserError(f"--label-studio {address}: write its address, such as http://localhost:8080")
        if not token or not token.isascii() or not token.isprintable():
            raise UserError("--token: is missing or damaged; copy it in Label Studio from Account & Settings")
        self.address = address.rstrip("/")
        self._token = token
        self._access = ""  # for a few minutes, in exchange for a personal access token
        self._opener = build_opener(SameServer)

    def projects(self) -> dict[int, str]:
        """Return the titles of the projects that the user can open, by their numbers."""
        page = self._json("/api/projects/", page_size=1000, include="id,title")
        return {project["id"]: project["title"] for project in page["results"]}

    def labelling_config(self, project: int) -> str:
        """Return the labelling configuration of a project; UserError: the user cannot open it."""
        try:
            return self._json(f"/api/projects/{project}/")["label_config"]
        except Refused:
            known = ", ".join(f"{number} ({title})" for number, title in self.projects().items())
            raise UserError(f"project {project}: is not on {self.address}; known: {known or 'none'}") from None

    def finished(self, project: int) -> list[tuple[int, str]]:
        """Return number and time of change of the tasks with annotations, the newest first, at most ``LISTED``."""
        condition = {"filter": "filter:tasks:total_annotations", "operator": "greater", "type": "Number", "value": 0}
        filters = {"conjunction": "and", "items": [condition]}
        query = json.dumps({"filters": filters, "ordering": ["-tasks:completed_at"]})
        page = self._json("/api/tasks/", project=project, page_size=LISTED, query=query)
        return [(task["id"], task["updated_at"]) for task in page["tasks"]]

    def export(self, project: int, tasks: Sequence[int]) -> list[dict[str, Any]]:
        """Return tasks by their numbers, with their annotations, in the form of the JSON export."""
        return self._json(f"/api/projects/{project}/export", exportType="JSON", **{"ids[]": tasks})

    @contextmanager
    def photo(self, stated: str) -> Iterator[Path]:
        """Give a file of the photo that a task states, for the time of the block.

        UserError: it is not of this server, or cannot be had; errors of the block about the file name what is stated.
        """
        address = self.address + stated if stated.startswith("/") else stated
        if origin_of(address) != origin_of(self.address):
            raise UserError(f"{stated}: is not on {self.address}; {UPLOAD}")
        suffix = PurePosixPath(urlsplit(address).query or urlsplit(address).path).suffix
        try:
            content = self._read(quote(address, safe=string.punctuation))
        except Refused as error:
            raise UserError(f"{stated}: {error}") from None
        with tempfile.TemporaryDirectory(prefix="labelstudio_") as folder:
            path = Path(folder, f"photo{suffix[:SUFFIX_LENGTH]}")
            path.write_bytes(content)
            try:
                yield path
            except UserError as error:
                raise UserError(str(error).replace(str(path), stated)) from None

    def _json(self, path: str, **query: Any) -> Any:
        content = self._read(f"{self.address}{path}?{urlencode(query, doseq=True)}")
        try:
            return json.loads(content)
        except ValueError:
            raise UserError(f"--label-studio {self.address}: answers no JSON; is it Label Studio's address?") from None

    def _read(self, address: str) -> bytes:
        """Return an answer; UserError: there is none, or the token is refused; Refused: anything else is refused."""
        try:
            if self._access:
                with suppress(Refused):  # its minutes may be over
                    return self._open(address, authorisation=f"Bearer {self._access}")
            return self._open(address, authorisation=self._authorisation())
        except Refused as error:
            if error.code != UNAUTHORISED:
                raise
            raise UserError(f"--token: {error}; copy another in Label Studio from Account & Settings") from None

    def _authorisation(self) -> str:
        """Return what a request says of the user; a personal access token is exchanged for one of some minutes."""
        if self._token.count(".") != PERSONAL_DOTS:
            return f"Token {self._token}"
        body = json.dumps({"refresh": self._token}).encode()
        self._access = json.loads(self._open(f"{self.address}/api/token/refresh/", body))["access"]
        return f"Bearer {self._access}"

    def _open(self, address: str, body: bytes | None = None, authorisation: str = "") -> bytes:
        headers = {"Content-Type": JSON}
        if authorisation:
            headers["Authorization"] = authorisation
        try:
            with self._opener.open(Request(address, body, headers), timeout=TIMEOUT) as answer:
                return answer.read(MAX_BYTES[BYTES])
        except HTTPError as error:
            raise Refused(f"{self.address} answers {error.code} ({_detail(error)})", error.code) from None
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise NoAnswer(f"--label-studio {self.address}: no answer ({reason}); is Label Studio running?") from None


def origin_of(address: str) -> tuple[str, str]:
    """Return scheme, and host with port, of an address."""
    parts = urlsplit(address)
    return parts.scheme, parts.netloc.casefold()


def _detail(error: HTTPError) -> str:
    """Return what an answer of Label Studio says on its refusal."""
    try:
        return json.loads(error.read())["detail"]
    except (OSError, ValueError, KeyError, TypeError):
        return error.reason
