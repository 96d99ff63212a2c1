"""The application: GET / is the page, POST /predict the answer, and /healthz, /metrics and /net say how it is."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Collection
from contextlib import asynccontextmanager
from typing import TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from converters.errors import CaffeFormatError
from converters.escaping import json_text, terminal
from converters.given import whole_number
from converters.safety import refused_memory

from ..errors import ImageError
from ..nets import Net, as_net
from . import answers, page
from .batching import Batcher
from .frames import without_frames
from .guard import Guard, refusal
from .metrics import CONTENT_TYPE, ServerMetrics
from .records import RefusedRequest, ServedNet, ServerLimits
from .seeing import ImageLook, Sight, keeps_apart, look_through, served_net, try_out
from .uploads import image_bytes, pixels_of

T = TypeVar("T")
_LOG = logging.getLogger("fcn_port")
_GONE = 499
"""Nobody waits for the answer any more; the number is nginx's, and nobody sees it."""
_ID = re.compile(r"\d{1,18}", re.ASCII)


def make_app(
    net: Net,
    *,
    name: str,
    limits: ServerLimits | None = None,
    names: Collection[str] = (),
    threads: int | None = None,
    batch: int = 8,
    least: float = 0.3,
) -> ASGIApp:
    """The ASGI application that serves a net, which is tried out first.

    `name` is shown; `names` are the host's own beside localhost and its addresses; `threads` run the net at a time, by
    default as many as the processor has cores, over up to `batch` images of one size each, one at a time where the net
    would mix them; of objects only scores from `least` on are told. Raises NetError for a net that says nothing of
    images, ValueError for one that does not say how its input is made.
    """
    net = as_net(net)
    threads = os.cpu_count() or 1 if threads is None else whole_number(threads, "threads")
    batch = whole_number(batch, "batch")
    look = look_through(net, least=least)
    size = try_out(net, look)
    batch = batch if batch == 1 or keeps_apart(net, size) else 1
    service = Service(look, served_net(net, name), limits or ServerLimits(), threads=threads, batch=batch)
    routes = [
        Route("/", service.page, methods=["GET"]),
        Route("/predict", service.predict, methods=["POST"]),
        Route("/healthz", service.health, methods=["GET"]),
        Route("/metrics", service.tell_metrics, methods=["GET"]),
        Route("/net", service.tell_net, methods=["GET"]),
    ]
    told = {HTTPException: _no_way}
    app = Starlette(routes=routes, lifespan=service.lifespan, exception_handlers=told)
    app.router.redirect_slashes = False  # to an http address, also behind a proxy that has https
    return Guard(app, names)


class Service:
    """The state that the routes share: the net's threads, limits, metrics, and how many requests are under way."""

    def __init__(self, look: ImageLook, net: ServedNet, limits: ServerLimits, *, threads: int, batch: int) -> None:
        self.net, self.limits, self.metrics = net, limits, ServerMetrics(net)
        self._batcher = Batcher(look, threads=threads, batch=batch, heard=self.metrics.batch)
        self._hands = asyncio.Semaphore(threads)
        self._active = 0
        self._stopping = False

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Nothing to begin; at the end the net's threads stop."""
        yield
        self._stopping = True
        self._batcher.close()

    async def page(self, request: Request) -> Response:
        """The page, empty."""
        self.metrics.answered(200)
        return _page_response(page.whole_page(self.net, self.limits))

    async def health(self, request: Request) -> Response:
        """Well, as long as the net's threads live."""
        well = not self._stopping and all(thread.is_alive() for thread in self._batcher.threads)
        return Response("ok\n" if well else "stopping\n", 200 if well else 503, media_type="text/plain")

    async def tell_metrics(self, request: Request) -> Response:
        """The metrics."""
        return Response(self.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    async def tell_net(self, request: Request) -> Response:
        """The net, its classes and the limits, as JSON."""
        limits = vars(self.limits)
        known = {"net": self.net.name, "finds": self.net.finds, "engine": self.net.engine}
        return _json({**known, "classes": self.net.classes, "limits": limits, "formats": answers.FORMATS})

    async def predict(self, request: Request) -> Response:
        """What the net sees in the image of a request, in the form that it asks for."""
        began = time.monotonic()
        try:
            response = await self._admitted(request, began)
        except RefusedRequest as no:
            response = self._refused(request, without_frames(no))
        except Exception as error:
            response = self._refused(request, _trouble(without_frames(error)))
        self.metrics.answered(response.status_code, time.monotonic() - began)
        return response

    def _refused(self, request: Request, no: RefusedRequest) -> Response:
        if request.query_params.get("format") != "page":
            return refusal(no.status, no.message, again=no.again)
        response = _page_response(page.whole_page(self.net, self.limits, page.problem_part(no.message)), no.status)
        response.headers["Connection"] = "close"
        return response

    async def _admitted(self, request: Request, began: float) -> Response:
        """One of those that are under way at a time, each with its own bytes, pixels and place in the queue."""
        if self._active >= self.limits.waiting:
            raise RefusedRequest(503, f"{self._active} requests are under way, which is all that are taken", again=True)
        self._active += 1
        self.metrics.active(self._active)
        try:
            return await self._answer(request, began)
        finally:
            self._active -= 1
            self.metrics.active(self._active)

    async def _answer(self, request: Request, began: float) -> Response:
        asked = _Asked.of(request)
        late = RefusedRequest(408, f"the image did not arrive within {self.limits.seconds:g} s")
        try:
            body = await self._in_time(image_bytes(request, self.limits), began, late)
        except ClientDisconnect:
            return Response(status_code=_GONE)
        late = RefusedRequest(503, f"no answer within {self.limits.seconds:g} s", again=True)
        work = asyncio.ensure_future(self._in_time(self._see(body, asked, began), began, late))
        del body
        gone = asyncio.ensure_future(_until_gone(request))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
            return work.result() if work.done() else Response(status_code=_GONE)
        finally:
            if not work.done():
                work.add_done_callback(_let_go)
            work.cancel(), gone.cancel()
            del work  # which has the exception that goes through here

    async def _in_time(self, work: Awaitable[T], began: float, late: RefusedRequest) -> T:
        try:
            return await asyncio.wait_for(work, max(0.0, began + self.limits.seconds - time.monotonic()))
        except asyncio.TimeoutError:
            raise late from None

    async def _see(self, body: bytes, asked: _Asked, began: float) -> Response:
        try:
            async with self._hands:
                pixels = await asyncio.to_thread(pixels_of, body, self.limits, kind=self.net.kind)
            sight = await asyncio.wrap_future(self._batcher.submit(pixels))
            async with self._hands:
                return await asyncio.to_thread(self._response, sight, asked, began)
        except (ImageError, CaffeFormatError) as error:
            raise RefusedRequest(422, terminal(str(error).partition("\n")[0])) from error

    def _response(self, sight: Sight, asked: _Asked, began: float) -> Response:
        seconds, sight = time.monotonic() - began, answers.of_output(sight, asked.output, self.net.outputs)
        if asked.format == "json":
            return _json({"net": self.net.name, "seconds": seconds, **answers.to_json(sight)})
        if asked.format == "coco":
            return _json(answers.coco_results(sight, asked.image))
        if asked.format == "page":
            return _page_response(page.whole_page(self.net, self.limits, page.result_part(sight, seconds)))
        make = answers.labels_picture if asked.format == "labels" else answers.overlay_picture
        content = answers.png(make(sight))
        return Response(content, headers={"Cache-Control": "no-store"}, media_type="image/png")


class _Asked:
    """The parameters of a request: the answer's form, of which output, and the image's id in COCO's results."""

    def __init__(self, form: str, output: str | None, image: int | str) -> None:
        self.format, self.output, self.image = form, output, image

    @classmethod
    def of(cls, request: Request) -> _Asked:
        known, given = ("format", "output", "image_id"), request.query_params
        for name in given:
            if name not in known:
                raise RefusedRequest(
                    400, f"there is no parameter {terminal(name[:64])!r}; there are {', '.join(known)}"
                )
        form, image = given.get("format", "json"), given.get("image_id", "0")
        if form not in answers.FORMATS:
            raise RefusedRequest(
                400, f"there is no format {terminal(form[:64])!r}; there are {', '.join(answers.FORMATS)}"
            )
        if len(image) > 128:
            raise RefusedRequest(400, "image_id is longer than 128 characters")
        return cls(form, given.get("output"), int(image) if _ID.fullmatch(image) else image)


async def _no_way(request: Request, error: Exception) -> Response:
    """The refusal of a path that there is none of, or of a method that a path does not take.

    ``OPTIONS *``, which has no path, asks whether the server is there and what it takes (RFC 9110, 9.3.7).
    """
    assert isinstance(error, HTTPException)
    if request.method == "OPTIONS" and request.scope["path"] == "*":
        return Response(headers={"Allow": "GET, HEAD, POST, OPTIONS"})
    allowed = dict(error.headers or {})
    problem = f"there is no {terminal(request.url.path[:64])}; GET / is the page, POST /predict the answer"
    if error.status_code == 405:
        problem = f"{terminal(request.url.path[:64])} takes {allowed.get('Allow', 'another method')}"
    answer = refusal(error.status_code, problem)
    answer.headers.update(allowed)
    return answer


async def _until_gone(request: Request) -> None:
    """Until the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _let_go(work: asyncio.Future[Response]) -> None:
    """See what became of work that nobody waits for any more, which may fail before it is cancelled (wait_for does)."""
    error = None if work.cancelled() else work.exception()
    if isinstance(error, Exception) and not isinstance(error, RefusedRequest):
        _trouble(error)


def _trouble(error: Exception) -> RefusedRequest:
    """A fault of the server's: told in its log, and to the client without particulars."""
    if isinstance(error, MemoryError) or refused_memory(error) is not None:
        return RefusedRequest(503, "there is not enough memory for this image now", again=True)
    if isinstance(error, RuntimeError) and str(error) == "the server stops":
        return RefusedRequest(503, "the server stops", again=True)
    _LOG.error("an image could not be answered: %s: %s", type(error).__name__, error)
    return RefusedRequest(500, "the server failed at this image; its log says how")


def _json(value: object) -> Response:
    return Response(json_text(value) + "\n", headers={"Cache-Control": "no-store"}, media_type="application/json")


def _page_response(content: str, status: int = 200) -> Response:
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": page.CONTENT_SECURITY_POLICY}
    return Response(content, status, headers, "text/html")
