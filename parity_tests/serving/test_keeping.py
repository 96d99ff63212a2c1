"""No image is kept: not by a failure, whose frames have it, and not by a thread that waits for the next one."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from fcn_port.errors import ImageError
from parity_tests.serving.nets import largest_channel, png_of

pytest.importorskip("starlette", reason="the extra `serve`")
pytest.importorskip("prometheus_client", reason="the extra `serve`")
pytest.importorskip("python_multipart", reason="the extra `serve`")
pytest.importorskip("uvicorn", reason="the extra `serve`")

from starlette.requests import Request

from fcn_port.serving import ServerLimits, app, make_app, seeing
from fcn_port.serving.batching import Batcher
from fcn_port.serving.records import RefusedRequest
from parity_tests.serving.test_running import ask, server

BODY = png_of(np.zeros((20, 20, 3), np.uint8))


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """What is in a ring stays there."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def nothing_left(kept: list[weakref.ref[Any]]) -> bool:
    """True once all of them are gone: a thread may be about to let go of its own."""
    end = time.monotonic() + 30
    while any(each() is not None for each in kept) and time.monotonic() < end:
        time.sleep(0.01)
    return all(each() is None for each in kept)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """Every image that a server has taken."""
    kept, take = [], app.pixels_of

    def watched(*given: Any, **more: Any) -> Any:
        pixels = take(*given, **more)
        kept.append(weakref.ref(pixels))
        return pixels

    monkeypatch.setattr(app, "pixels_of", watched)
    return kept


@pytest.mark.parametrize("failure, status", [
    (None, 200), (ValueError("no"), 500), (ImageError("no"), 422), (MemoryError(), 503),
])  # fmt: skip
def test_an_answer_keeps_no_image(
    failure: Exception | None, status: int, taken: list[weakref.ref[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, see = make_app(largest_channel(), name="x", threads=2), seeing.read_all

    def look(*given: Any, **more: Any) -> Any:
        if failure is not None:
            raise type(failure)(*failure.args)
        return see(*given, **more)

    monkeypatch.setattr(seeing, "read_all", look)
    with server(made) as (port, _, _):
        assert [ask(port, BODY)[0] for _ in range(3)] == [status] * 3
        assert len(taken) == 3 and nothing_left(taken)


@pytest.mark.parametrize("waits", [False, True], ids=["too late", "gone"])
def test_nobody_waits_for_an_image_and_it_is_not_kept(
    waits: bool, taken: list[weakref.ref[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may, see = threading.Event(), threading.Event(), seeing.read_all
    made = make_app(largest_channel(), name="x", threads=1, limits=ServerLimits(seconds=60 if waits else 0.5))

    def slow(*given: Any, **more: Any) -> Any:
        began.set()
        assert may.wait(60)
        return see(*given, **more)

    monkeypatch.setattr(seeing, "read_all", slow)
    with server(made) as (port, _, _):
        if waits:
            with socket.create_connection(("127.0.0.1", port)) as client:
                head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(BODY)}\r\n\r\n"
                client.sendall(head.encode() + BODY)
                assert began.wait(60)
        else:
            assert ask(port, BODY)[0] == 503
        may.set()
        assert len(taken) == 1 and nothing_left(taken)


def test_images_of_a_batch_that_fails_are_not_kept() -> None:
    began, may = threading.Event(), threading.Event()

    def look(images: list[np.ndarray]) -> Any:
        began.set()
        assert may.wait(60)
        raise ValueError("no")

    batcher = Batcher(look, threads=1, batch=4)
    images = [np.zeros((4, 4, 3), np.uint8) for _ in range(3)]
    kept = [weakref.ref(each) for each in images]
    first = batcher.submit(images[0])
    assert began.wait(60)
    waiting = [batcher.submit(each) for each in images[1:]]
    may.set()
    assert all(isinstance(each.exception(60), ValueError) for each in (first, *waiting))
    del images, first, waiting
    assert nothing_left(kept)
    batcher.close()


@pytest.mark.parametrize("failure, told", [(RefusedRequest(400, "no image"), 0), (ValueError("broken"), 1)])
def test_an_image_that_fails_as_its_client_leaves_writes_no_traceback(
    failure: Exception, told: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Both at once, which asyncio says of a task whose exception nobody has looked at; a fault has its line."""

    async def answered() -> list[str]:
        left, heard = asyncio.Event(), []
        messages = iter([{"type": "http.request", "body": BODY}, {"type": "http.disconnect"}])

        async def see(*given: Any) -> Any:
            await left.wait()
            raise failure

        async def receive() -> Any:
            message = next(messages)
            if message["type"] == "http.disconnect":
                left.set()
            return message

        asyncio.get_running_loop().set_exception_handler(lambda loop, context: heard.append(context["message"]))
        monkeypatch.setattr(app.Service, "_see", see)
        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"", "headers": []}
        net = largest_channel()
        look, served = seeing.look_through(net, least=0.3), seeing.served_net(net, "x")
        service = app.Service(look, served, ServerLimits(), threads=1, batch=1)
        with suppress(type(failure)):  # from Python 3.13 on it may be there first, and is answered to nobody
            assert (await service._answer(Request(scope, receive), time.monotonic())).status_code == 499
        for _ in range(9):
            await asyncio.sleep(0)
        gc.collect()
        return heard

    assert asyncio.run(answered()) == []
    assert len(caplog.records) in (0, told)  # wait_for of Python 3.12 and later cancels it first
