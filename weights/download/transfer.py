"""One answer of one server: ask for a file, or for the rest of it, and append what comes to the partial download.

What a server may do is in RFC 9110: section 14 for Range and 206, 13.1.5 for If-Range, 15.5.17 for 416. What servers
do beyond that is checked: lengths that are lies, another file under the same name, a web page instead of the file.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from typing import BinaryIO

import requests
import urllib3

from weights.download.connection import STRAY, MalformedProxy, Session
from weights.download.digests import RunningDigests
from weights.download.partial import Origin, Partial
from weights.download.progress import Meter, human_bytes
from weights.download.retry_policy import RetryPolicy
from weights.download.verify import HEAD, Wanted, WrongFile, refuse_web_page
from weights.download.wording import redacted, shown
from weights.errors import FetchError
from weights.store import require_room

CHUNK = 1 << 18


class TransferError(Exception):
    """An address did not give the file; `str()` is the reason, without the address."""


class InterruptedTransfer(TransferError):
    """It may go better next time; what has arrived is kept."""


class Unreachable(InterruptedTransfer):
    """There was no answer at all."""


class _StalePartial(Exception):
    """The part that has arrived belongs to something else than what the server has now."""


@dataclass(frozen=True)
class TransferJob:
    """A download to do: what, where to, who follows the bytes and who is told, and how long to wait."""

    partial: Partial
    wanted: Wanted
    digests: RunningDigests
    meter: Meter
    patience: RetryPolicy


def receive(session: Session, url: str, job: TransferJob) -> int:
    """Append to `job.partial` until the server says that it is whole; gives where in the file this answer began.

    TransferError or WrongFile says why it did not work; FetchError if the disk is full.
    """
    try:
        return _receive(session, url, job)
    except _StalePartial:
        job.partial.discard()
    try:
        return _receive(session, url, job)
    except _StalePartial:
        raise InterruptedTransfer("the server contradicts itself about the length of the file") from None


def _receive(session: Session, url: str, job: TransferJob) -> int:
    partial, wanted = job.partial, job.wanted
    start = _resume_at(url, partial, wanted)
    job.meter.stage("connecting", done=start, total=wanted.size, url=url)
    with _asked(session, url, start, partial.origin(), job.patience) as response:
        origin = _origin(url, response, start)
        if response.status_code == 416 and origin.total == start:
            job.digests.catch_up(partial.path)
            return start
        start = _agreed_start(response, start, origin, partial.origin())
        _refuse_wrong_length(origin.total, wanted)
        _refuse_other_content(response)
        require_room(partial.path.parent, (origin.total or wanted.size or wanted.at_least) - start)
        rest = (origin.total or wanted.size or wanted.at_most) - start
        session.watch.expect_body(2 * rest + STRAY)  # chunks of a few bytes have as much around them
        pieces = _pieces(response, job.patience)
        first = next(pieces, b"")
        if start == 0:
            refuse_web_page(first)
            partial.start(origin)  # not sooner: until here, what an earlier answer brought may still be of use
            job.digests.reset()
        else:
            job.digests.catch_up(partial.path)
        job.meter.stage("downloading", done=start, total=origin.total or wanted.size, url=url)
        _append(itertools.chain([first], pieces), origin.total, job)
    return start


def _resume_at(url: str, partial: Partial, wanted: Wanted) -> int:
    """From which byte to ask: only where a change of the file is noticed, by its validator or by its checksum."""
    size, origin = partial.size(), partial.origin()
    if origin is None or size > (wanted.size or wanted.at_most):
        return 0
    same_version = origin.url == redacted(url) and origin.validator is not None
    return size if same_version or wanted.checksum is not None else 0


@contextmanager
def _asked(
    session: Session, url: str, start: int, origin: Origin | None, patience: RetryPolicy
) -> Iterator[requests.Response]:
    """The server's answer to a request for the bytes from `start` on, if it is one that can be used."""
    headers = {}
    if start:
        headers["Range"] = f"bytes={start}-"
        if origin is not None and origin.url == redacted(url) and origin.validator is not None:
            headers["If-Range"] = origin.validator
    try:
        response = session.answer(url, headers)
    except requests.exceptions.ReadTimeout:
        raise InterruptedTransfer(f"no answer within {patience.stall:g} s") from None
    except (requests.exceptions.ConnectionError, requests.exceptions.Timeout) as error:
        if isinstance(next(iter(error.args), None), urllib3.exceptions.MaxRetryError):
            raise Unreachable(f"no connection: {_in_words(error)}") from None
        raise InterruptedTransfer(f"no answer: {_in_words(error)}") from None
    except MalformedProxy as error:
        raise TransferError(str(error)) from None
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise TransferError(f"not an answer that can be used: {shown(error)}") from None
    with response:
        status, said = response.status_code, shown(f"status {response.status_code} {response.reason or ''}".strip())
        if status in (408, 429) or status >= 500:
            raise InterruptedTransfer(said)
        if status not in (200, 206) and not (status == 416 and start):
            raise TransferError(said)
        yield response


def _in_words(error: BaseException) -> str:
    """The system's own words, from inside what requests and urllib3 wrap around them."""
    return shown(_innermost(error))


def _innermost(error: BaseException) -> str:
    if isinstance(error, (urllib3.exceptions.IncompleteRead, IncompleteRead)):
        return "the connection ended"
    around = (getattr(error, "reason", None), *error.args)
    inner = next((each for each in around if isinstance(each, BaseException)), None)
    if inner is not None:
        words = _innermost(inner)
    else:
        system = re.search(r"\[Errno -?\d+\] ([^)]+)", str(error))
        words = system[1] if system is not None else re.sub(r"^\w+\(host=.*?\): ", "", str(error))
    return f"the proxy: {words}" if isinstance(error, urllib3.exceptions.ProxyError) else words


def _origin(url: str, response: requests.Response, start: int) -> Origin:
    """The facts that an answer gives about the whole file."""
    headers = response.headers
    total = _number(headers.get("Content-Range", "").rpartition("/")[2])  # `bytes 5-9/10`, or `bytes */10` with 416
    length = _number(headers.get("Content-Length")) if "Transfer-Encoding" not in headers else None
    if response.status_code == 200:
        total = length
    elif response.status_code == 206 and total is None and length is not None:
        total = start + length
    return Origin(redacted(url), _validator(headers.get("ETag")), _validator(headers.get("Last-Modified")), total)


def _validator(text: str | None) -> str | None:
    """A header's value that can be sent back; a longer or folded one is no validator, and would stop every resume."""
    return text if text is not None and re.fullmatch(r"[\x20-\x7e\x80-\xff]{1,256}", text) else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,18}", text.strip()) else None


def _agreed_start(response: requests.Response, start: int, origin: Origin, kept: Origin | None) -> int:
    """The offset at which the bytes of this answer begin; _StalePartial if they do not continue what is there."""
    if response.status_code == 200:
        return 0
    first = re.match(r"bytes\s+([0-9]+)-", response.headers.get("Content-Range", ""))
    if response.status_code == 416 or first is None or _number(first[1]) != start:
        raise _StalePartial
    if kept is not None and kept.contradicts(origin):
        raise _StalePartial
    return start


def _refuse_wrong_length(total: int | None, wanted: Wanted) -> None:
    objection = None if total is None else wanted.objection(total)
    if objection is not None:
        raise WrongFile(f"the server announces {objection}")


def _refuse_other_content(response: requests.Response) -> None:
    """A page of a portal or of an error handler, by its type; and a body that was compressed against our wish."""
    if response.headers.get("Content-Type", "").strip().lower().startswith(("text/html", "application/xhtml")):
        try:
            body = response.raw.read(1 << 14, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError, HTTPException):
            body = b""
        refuse_web_page(body)
        raise WrongFile("it is a web page instead of the file")
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise WrongFile(f"the server sends the file compressed ({shown(encoding, most=40)}), which was not asked for")


def _append(pieces: Iterable[bytes], total: int | None, job: TransferJob) -> None:
    """Write the body until it ends where it should; never more than was announced or can be."""
    partial, digests = job.partial, job.digests
    end = total if total is not None else job.wanted.size
    limit = job.wanted.at_most if end is None else end
    try:
        with partial.append() as out:
            for piece in pieces:
                if digests.count + len(piece) > limit:
                    raise WrongFile(f"the server sends more than the {limit} bytes that the file has")
                _write(out, piece, partial)
                digests.update(piece)
                job.meter.received += len(piece)
                job.meter.moved(digests.count)
        if end is not None and digests.count < end:
            raise InterruptedTransfer("the connection ended")
    except InterruptedTransfer as error:
        of_all = f" of {human_bytes(end)}" if end is not None else ""
        raise InterruptedTransfer(f"{error}, after {human_bytes(digests.count)}{of_all}") from None
    except WrongFile:
        partial.discard()
        raise


def _write(out: BinaryIO, piece: bytes, partial: Partial) -> None:
    rest = memoryview(piece)
    try:
        while rest:
            rest = rest[out.write(rest) :]  # an unbuffered write may take less than it was given
    except OSError as error:
        raise FetchError(f"{partial.path}: {error.strerror}; what has arrived is kept") from error


def _pieces(response: requests.Response, patience: RetryPolicy) -> Iterator[bytes]:
    """The body as it comes in, the first piece at least HEAD bytes long; InterruptedTransfer on a cut or a stall."""
    head: bytes | None = b""
    while True:
        try:
            # read1, for read waits until it has everything that it was asked for, however slowly that drips in
            piece = response.raw.read1(CHUNK, decode_content=False)
        except urllib3.exceptions.ReadTimeoutError:
            raise InterruptedTransfer(f"nothing came for {patience.stall:g} s") from None
        except (urllib3.exceptions.HTTPError, OSError, HTTPException) as error:
            raise InterruptedTransfer(_in_words(error)) from None
        if not piece:
            break
        if head is not None:
            head += piece
            if len(head) < HEAD:
                continue
            piece, head = head, None
        yield piece
    if head:
        yield head
