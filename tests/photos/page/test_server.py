"""Who reaches the page's server, and that no connection stops it."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.request import urlopen

import pytest

from photos.page.server import MAX_WAITING, Handler, Server
from tests.helpers.browser import Page


@pytest.fixture
def open_server(page: Page) -> Iterator[Page]:
    """Return the page as other machines reach it: listening at every address of this one."""
    page.server.server_close()
    page.server = Server(("0.0.0.0", 0), Handler, ["lab.example.org"])
    page.server.session = page.session
    threading.Thread(target=page.server.serve_forever, args=(0.01,), daemon=True).start()
    yield page


def test_from_other_machines_the_page_is_opened_by_the_key_in_its_address(open_server: Page) -> None:
    """By its own names and addresses alone; its first line says that there is no password."""
    server = open_server.server
    assert "there is no password" in server.warning and server.url.endswith(f"/{server.key}/")
    address = f"http://127.0.0.1:{server.server_address[1]}"
    open_server.address = address
    assert "the whole address" in open_server.get("state?since=-1")["error"]
    assert "the whole address" in open_server.get("stop", b"{}")["error"]
    open_server.address = f"{address}/{server.key}"
    assert open_server.get("state?since=-1")["photos"] == []
    assert open_server.get("state?since=-1", Host="lab.example.org:80")["photos"] == []
    assert open_server.get("state?since=-1", Host="192.0.2.7")["photos"] == []
    assert (
        "elsewhere.org: is no name of this server" in open_server.get("state?since=-1", Host="elsewhere.org")["error"]
    )
    assert "is no name" in open_server.get("state?since=-1", Host="elsewhere.org", Via="1.1 a proxy")["error"]


def test_a_page_of_this_machine_has_no_key_and_is_shown_in_no_frame(page: Page) -> None:
    assert (page.server.key, page.server.warning) == ("", "")
    with urlopen(page.address) as answer:
        assert answer.headers["X-Frame-Options"] == "DENY"


def test_connections_that_send_nothing_stop_no_request(page: Page) -> None:
    """The first of them is closed; what is asked meanwhile is answered."""
    with ExitStack() as stack:
        half_open = []
        for _ in range(MAX_WAITING + 8):
            connection = stack.enter_context(socket.create_connection(page.server.server_address, timeout=20))
            connection.sendall(b"GET /state HTTP/1.1\r\n")
            half_open.append(connection)
        assert page.state()["photos"] == []
        assert half_open[0].recv(1) == b""
        assert threading.active_count() < 2 * MAX_WAITING


def test_a_connection_that_stops_sending_is_closed(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "timeout", 0.2)
    lines = ["POST /stop HTTP/1.1", "Host: localhost", "Content-Type: application/json", "Content-Length: 9"]
    for request in ("GET", "\r\n".join([*lines, "", "{}"])):
        connection, of_server = socket.socketpair()
        with connection:
            connection.sendall(request.encode())  # before the server begins to wait for it
            page.server.process_request(of_server, ("127.0.0.1", 0))
            answer = connection.makefile("rb").read()
        assert answer == b"" if request == "GET" else b"it sent nothing" in answer


def test_polling_the_state_sees_every_change(page: Page) -> None:
    names = {f"{number}.jpg" for number in range(2000)}

    def change() -> None:
        for name in names:
            page.session.touch(name)

    thread = threading.Thread(target=change)
    thread.start()
    seen, look = set[str](), -1
    is_last = False
    while not is_last:
        is_last = not thread.is_alive()
        look, changed = page.session.changed_since(look)
        seen |= changed
    assert seen == names
