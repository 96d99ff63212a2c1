"""A server on loopback: a graceful stop, clients that dawdle, the verb, and the page in a browser."""

from __future__ import annotations

import http.client
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcn_port.cli import run
from parity_tests.chromium import PROGRAM, Page
from parity_tests.serving.nets import largest_channel, png_of, stripes
from parity_tests.test_architecture import ROOT
from parity_tests.verbs import SAMPLE

pytest.importorskip("starlette", reason="the extra `serve`")
pytest.importorskip("prometheus_client", reason="the extra `serve`")
pytest.importorskip("python_multipart", reason="the extra `serve`")
pytest.importorskip("uvicorn", reason="the extra `serve`")

from fcn_port.serving import ServerLimits, make_app, open_socket, run_app, running, seeing

BODY = png_of(stripes())


@contextmanager
def server(
    app: Any, *, grace: float = 30, connections: int = 256
) -> Iterator[tuple[int, threading.Event, threading.Thread]]:
    """A server on a free port: the port, the event that stops it, and its thread."""
    stop, ready = threading.Event(), threading.Event()
    with open_socket("127.0.0.1", 0) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)  # connections of it have little room, too
        port = listening.getsockname()[1]
        settings: dict[str, Any] = {
            "wanted": stop.is_set,
            "grace": grace,
            "ready": ready.set,
            "connections": connections,
        }
        thread = threading.Thread(target=run_app, args=(app, listening), kwargs=settings, daemon=True)
        thread.start()
        assert ready.wait(30)
        try:
            yield port, stop, thread
        finally:
            stop.set()
            thread.join(30)


def ask(port: int, body: bytes = BODY) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("POST", "/predict", body)
        answer = connection.getresponse()
        return answer.status, answer.read()


def closed(client: socket.socket) -> bool:
    """True once the other side has closed the connection."""
    client.settimeout(30)
    with suppress(ConnectionResetError):
        while client.recv(1 << 16):
            pass
    return True


def test_what_is_under_way_has_its_answer_before_the_server_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    began, may, see = threading.Event(), threading.Event(), seeing.read_all

    def slow(*given: Any, **more: Any) -> Any:
        began.set()
        assert may.wait(30)
        return see(*given, **more)

    may.set()
    app = make_app(largest_channel(), name="slow", threads=1)
    monkeypatch.setattr(seeing, "read_all", slow)
    with server(app) as (port, stop, thread):
        may.clear()
        answers: list[tuple[int, bytes]] = []
        asking = threading.Thread(target=lambda: answers.append(ask(port)))
        asking.start()
        assert began.wait(30)
        stop.set()
        with pytest.raises(OSError):  # refused, or reset on the way
            for _ in range(600):
                socket.create_connection(("127.0.0.1", port), 60).close()
                time.sleep(0.05)
        assert thread.is_alive() and not answers
        may.set()
        asking.join(30)
        thread.join(30)
        assert not thread.is_alive() and answers[0][0] == 200


@pytest.mark.parametrize("sent", [b"", b"POST /predict HTTP/1.1\r\nHost: localhost\r\nX: ", b"x" * 20_000])
def test_a_client_that_dawdles_over_its_head_is_left_alone(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr(running, "_HEADERS_SECONDS", 0.2)
    with server(make_app(largest_channel(), name="x", threads=1)) as (port, _, _):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(sent)
            assert closed(client)
        assert ask(port)[0] == 200


@pytest.mark.parametrize("sent", [
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    b"Content-Length: 3\r\n\r\nabc",
    b"no HTTP\r\n\r\n",
    b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nabc",
], ids=["no form", "no HTTP", "cut short"])  # fmt: skip
def test_what_a_stranger_sends_writes_nothing_into_the_log(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with server(make_app(largest_channel(), name="x", threads=1)) as (port, _, _):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            assert closed(client)
        assert ask(port)[0] == 200
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []


def test_a_body_that_goes_wrong_after_its_answer_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    """It was answered a second time, which is no HTTP: a traceback in the log, as often as a stranger liked."""
    with server(make_app(largest_channel(), name="x", threads=1)) as (port, _, _):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /net HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.1 200"
            client.sendall(b"no length of a chunk\r\n")
            assert closed(client)
        assert ask(port)[0] == 200
    assert [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(("sent", "said"), [
    (b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n", b"200"),
    (b"GET /net HTTP/1.1\r\nHost: localhost\r\n\r\n", b"200"),
    (b"no HTTP\r\n\r\n", b"400"),
], ids=["health", "net", "no HTTP"])  # fmt: skip
def test_a_client_that_has_said_all_it_will_has_its_answer(sent: bytes, said: bytes) -> None:
    """`printf ... | nc -N`, as health checks of old: the connection was closed without a word."""
    with server(make_app(largest_channel(), name="x", threads=1)) as (port, _, _):
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
            client.settimeout(30)
            head, _, body = b"".join(iter(lambda: client.recv(1 << 16), b"")).partition(b"\r\n\r\n")
        assert head.split()[1] == said
        assert body == b"ok\n" or json.loads(body)
        assert ask(port)[0] == 200


def test_more_connections_than_are_answered_are_told_in_json() -> None:
    with server(make_app(largest_channel(), name="x", threads=1), connections=2) as (port, _, _):
        with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
            time.sleep(0.2)
            status, body = ask(port)
        assert (status, json.loads(body)) == (503, {"error": "too many connections"})


def test_a_body_that_does_not_arrive_is_given_up() -> None:
    app = make_app(largest_channel(), name="x", threads=1, limits=ServerLimits(seconds=0.3))
    with server(app) as (port, _, _), socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nabc")
        assert client.recv(12) == b"HTTP/1.1 408" and closed(client)


HALF = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf"


@pytest.mark.parametrize(("seconds", "last_words", "status", "said"), [
    (1.4, 1, 408, "did not arrive within 1.4 s"),  # uvicorn counts whole seconds, and broke it off after one
    (3.0, -2, 503, "the server stops"),  # both times over at once, as in a process that was held
])  # fmt: skip
def test_a_server_that_stops_says_so_and_not_500_without_a_word(
    seconds: float, last_words: int, status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "_LAST_WORDS_SECONDS", last_words)
    app = make_app(largest_channel(), name="x", threads=1, limits=ServerLimits(seconds=seconds))
    with server(app, grace=seconds) as (port, stop, _), socket.create_connection(("127.0.0.1", port)) as client:
        client.settimeout(30)
        client.sendall(HALF)
        time.sleep(0.3)  # until it is under way
        stop.set()
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert (answer.status, json.loads(answer.read())["error"][-len(said) :]) == (status, said)


@pytest.mark.skipif(sys.platform != "linux", reason="limits on files")
def test_more_connections_than_files_write_no_traceback() -> None:
    """A program of its own with few files: what it says stays short, and it answers when the connections are gone."""
    command = [sys.executable, "-m", "fcn_port", "serve", SAMPLE, "--port", "0", "--padded", "--like", "sample"]
    limited = ["sh", "-c", 'ulimit -n 160; exec "$@"', "sh", *command]
    pipe = subprocess.PIPE
    with subprocess.Popen(limited, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as program:
        assert program.stdout is not None
        try:
            port = int(program.stdout.readline().rpartition(":")[2])
            with ExitStack() as held:
                for _ in range(400):
                    client = held.enter_context(socket.socket())
                    client.setblocking(False)
                    client.connect_ex(("127.0.0.1", port))
            status, end = 0, time.monotonic() + 120
            while status != 200 and time.monotonic() < end:
                with suppress(OSError):  # while the others' connections are not yet given up
                    status, _ = ask(port, png_of(np.zeros((32, 32, 3), np.uint8)))
        finally:
            program.send_signal(signal.SIGTERM)
        _, err = program.communicate(timeout=300)
    assert (program.returncode, status) == (0, 200)
    assert "Traceback" not in err and err.count("\n") < 10, err[:2000]


@pytest.mark.parametrize("asked", [1, 20])
def test_a_client_that_takes_nothing_of_its_answers_is_left_alone(asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    lost, lose = threading.Event(), running._Impatient.connection_lost

    def watched(self: Any, error: Exception | None) -> None:
        lose(self, error)
        lost.set()

    monkeypatch.setattr(running._Impatient, "connection_lost", watched)
    noise = png_of(np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8))
    head = f"POST /predict?format=overlay HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(noise)}\r\n\r\n"
    with server(make_app(largest_channel(), name="x", threads=1), grace=1) as (port, _, _), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        client.connect(("127.0.0.1", port))
        with suppress(OSError):  # the server reads no further request before the answer is taken
            client.sendall((head.encode() + noise) * asked)
        assert lost.wait(60)


def test_a_client_that_takes_its_answer_slowly_gets_all_of_it() -> None:
    noise = png_of(np.random.default_rng(0).integers(0, 256, (300, 300, 3)).astype(np.uint8))
    head = f"POST /predict?format=overlay HTTP/1.0\r\nHost: localhost\r\nContent-Length: {len(noise)}\r\n\r\n"
    with server(make_app(largest_channel(), name="x", threads=1), grace=1) as (port, _, _), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        client.connect(("127.0.0.1", port))
        client.sendall(head.encode() + noise)
        answer = b""
        while piece := client.recv(1 << 16):
            answer += piece
            time.sleep(0.02)
        said = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
        assert len(answer.partition(b"\r\n\r\n")[2]) == said > 100_000


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_sigterm_ends_the_program_with_status_0() -> None:
    """A program of its own, on a port that it finds itself: a signal to this process could end all tests with it."""
    command = [sys.executable, "-m", "fcn_port", "serve", SAMPLE, "--port", "0", "--padded", "--like", "sample"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True) as program:
        assert program.stdout is not None
        try:
            address = program.stdout.readline()
            status, _ = ask(int(address.rpartition(":")[2]), png_of(np.zeros((32, 32, 3), np.uint8)))
        finally:
            program.send_signal(signal.SIGTERM)
        out, err = program.communicate(timeout=300)
    assert (program.returncode, status, out) == (0, 200, "")
    assert address.startswith("http://127.0.0.1:") and err.endswith("stopped\n")


@pytest.mark.parametrize("given, status, said", [
    (["--host", "no such host", "--check"], 2, "'--host': no such host:"),
    (["--host", "a..b", "--check"], 2, "'--host': a..b: no name of a host"),
    (["--host", "a" * 64, "--check"], 2, "no name of a host"),
    (["--host", "\udcff", "--check"], 2, "no name of a host"),
    (["--host", "203.0.113.1", "--check"], 1, "203.0.113.1:8000: cannot assign requested address; --host takes"),
    (["--port", "70000"], 2, "'--port'"),
    (["--batch", "0"], 2, "'--batch'"),
    (["--engine", "native", "--padded", "--port", "0", "--check"], 2, "--padded"),
])  # fmt: skip
def test_wrong_use_is_told(given: list[str], status: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["serve", SAMPLE, *given]) == status
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert run(["serve", SAMPLE, "--port", str(other.getsockname()[1])]) == 1
    assert "in use; --port 0 takes one that is free" in capsys.readouterr().err


def test_a_net_that_does_not_say_how_its_input_is_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    other = tmp_path / "other.caffemodel"
    other.write_bytes(Path(SAMPLE).read_bytes())
    assert run(["serve", str(other), "--port", "0", "--check"]) == 2
    assert "--mean B,G,R" in capsys.readouterr().err
    assert run(["serve", str(other), "--port", "0", "--check", "--mean", "1,2,3", "--padded"]) == 0


def test_what_is_missing_is_told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from converters.export import checking

    monkeypatch.setattr(checking, "find_spec", lambda name: None if name == "uvicorn" else name)
    assert run(["serve", SAMPLE]) == 1
    assert "pip install 'fcn-port[serve]'" in capsys.readouterr().err


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium")
@pytest.mark.parametrize("settings", [{"dark": True}, {"width": 390, "phone": True}], ids=["desk dark", "phone light"])
def test_the_page_in_a_browser(settings: Any, tmp_path: Path) -> None:
    image = tmp_path / "x.png"
    image.write_bytes(BODY)
    with server(make_app(largest_channel(), name="<i>", threads=1)) as (port, _, _), Page(**settings) as page:
        page.open(f"http://127.0.0.1:{port}/")
        page.choose("input[type=file]", image)
        page.wait("document.querySelectorAll('.legend .row').length === 3")
        text: Callable[[str], Any] = lambda css: page.value(f"document.querySelector({css!r}).textContent")  # noqa: E731
        assert text("h1") == "<i>" and text(".legend .row:last-child .name") == "<script>alert(1)</script>"
        assert page.value("document.documentElement.scrollWidth <= innerWidth"), "nothing runs out of the window"
        assert page.value("getComputedStyle(document.body).colorScheme !== ''")
        image.write_bytes(b"no image")
        page.choose("input[type=file]", image)
        page.wait("document.querySelector('.problem') !== null")
        assert "not an image" in text(".problem")
        unexpected = [each for each in page.said if "400" not in each]
        assert unexpected == [], "the Content Security Policy let all of the page's own through"
