"""A file from the first address that gives it: tries again what may go better, resumes, goes on to the next mirror."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from weights.download.connection import Session
from weights.download.transfer import InterruptedTransfer, TransferError, TransferJob, Unreachable, receive
from weights.download.verify import WrongFile
from weights.download.wording import redacted, shown

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """The outcome of one address; `wrong` if it gave something, and that was not the file."""

    url: str
    reason: str
    wrong: bool


class NoAddressWorked(Exception):
    """Every address was tried in vain; `failures` says what came of each."""

    def __init__(self, failures: Sequence[Failure]) -> None:
        super().__init__("; ".join(f"{each.url}: {each.reason}" for each in failures))
        self.failures = tuple(failures)


def download(urls: Sequence[str], job: TransferJob, *, verify: Callable[[], T]) -> tuple[str, T]:
    """Bring the file into `job.partial`, verified; gives the address that it came from, and what `verify` gave.

    `verify` looks at the whole file, of which `job.digests` has all bytes; WrongFile if it is not the one.
    NoAddressWorked if no address gave it: what has arrived is kept, unless it was found to be wrong.
    """
    failures = []
    with Session(job.patience) as session:
        for url in urls:
            try:
                return redacted(url), _download_from(session, url, job, verify)
            except (TransferError, WrongFile) as error:
                failures.append(Failure(shown(url), str(error), isinstance(error, WrongFile)))
    raise NoAddressWorked(failures)


def _download_from(session: Session, url: str, job: TransferJob, verify: Callable[[], T]) -> T:
    """The file from one address; one put together from several answers gets a second chance from its start."""
    began = _persist(session, url, job)
    try:
        return _verified_or_discarded(job, verify)
    except WrongFile as error:
        if began == 0:
            raise
        job.meter.stage("restarting", url=url, note=f"put together from several answers, it is not right: {error}")
    _persist(session, url, job)
    return _verified_or_discarded(job, verify)


def _verified_or_discarded(job: TransferJob, verify: Callable[[], T]) -> T:
    job.meter.stage("verifying", done=job.digests.count, total=job.digests.count)
    try:
        return verify()
    except WrongFile:
        job.partial.discard()
        raise


def _persist(session: Session, url: str, job: TransferJob) -> int:
    """Receive, again and again while it helps; gives where in the file the last answer began."""
    best, failures = job.partial.size(), 0
    while True:
        try:
            return receive(session, url, job)
        except InterruptedTransfer as error:
            size = job.partial.size()
            # Against the best so far: a server that ignores Range and always cuts halfway brings the file no further.
            failures = 0 if size >= best + job.patience.worthwhile else failures + 1
            best = max(best, size)
            allowed = min(2, job.patience.attempts) if isinstance(error, Unreachable) else job.patience.attempts
            if failures >= allowed:
                tried = f", tried {failures} times" if failures > 1 else ""
                raise InterruptedTransfer(f"{error}{tried}") from None
            job.meter.stage("retrying", done=size, total=job.wanted.size, url=url, note=str(error))
            time.sleep(job.patience.pause_after(failures))
