"""A release's caffemodel on disk, verified: downloaded, copied from a file obtained elsewhere, or already there.

A file under its final name is always whole and verified: it is brought and checked under another name, its SHA-256 is
recorded, and only then is it renamed. It is checked against the first of these that there is:

    the strongest checksum that was published (releases.toml)
    the SHA-256 that was recorded beside it when it was first fetched
    its structure, by the caller's `check`; its SHA-256 is recorded, and any later copy must match
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from converters.given import means_no, path_of
from converters.safety import complete, fresh_file, open_file
from weights import catalogue
from weights.download.digests import CHUNK, RunningDigests
from weights.download.lock import locked, sweep
from weights.download.mirror import addresses
from weights.download.partial import Partial
from weights.download.progress import Callback, Meter, human_bytes
from weights.download.retry_policy import RetryPolicy
from weights.download.verify import HEAD, FileCheck, Wanted, WrongFile, judge, refuse_web_page
from weights.errors import ChecksumError, FetchError, OfflineError
from weights.records import Release
from weights.sidecar import Record, VerifiedBy, read_record, write_record
from weights.store import StoredFile, free_bytes, in_words, place_of, require_room

if TYPE_CHECKING:
    from weights.download.release import NoAddressWorked

OFFLINE_VARIABLE = "FCN_PORT_OFFLINE"


@dataclass(frozen=True)
class FetchResult:
    """A verified file, and how it came to be.

    `verified_by` is the published algorithm, "record" (the SHA-256 of the first copy), "structure" or "size"; the last
    two only where no checksum was ever published. `first_time`: its SHA-256 was recorded just now, for later copies to
    match. `source` is the address or file that it came from, where known; `bytes_downloaded` counts this call.
    """

    release: Release
    path: Path
    sha256: str
    verified_by: VerifiedBy
    first_time: bool
    already_there: bool
    bytes_downloaded: int
    source: str | None

    @property
    def explanation(self) -> str:
        """For people: what was checked."""
        name, checksum = self.path.name, self.release.checksum
        if checksum is not None:
            return f"{name} has the published {checksum}"
        if self.verified_by == "record":
            return f"{name} has the sha256 recorded with the first copy, {self.sha256}; none was ever published"
        looked_at = "its structure" if self.verified_by == "structure" else "only its size"
        later = "; it is recorded now, and any later copy must match" if self.first_time else ""
        return (
            f"{name}: no checksum was ever published; {looked_at} was checked, and its sha256 is {self.sha256}{later}"
        )


@dataclass(frozen=True)
class FetchPlan:
    """A fetch that is planned: what to tell a person before a large download.

    Sizes in bytes: `expected_bytes` of the file (None if unknown), `kept_bytes` of it left by an earlier download.
    """

    path: Path
    present: bool
    expected_bytes: int | None
    kept_bytes: int
    free_bytes: int
    urls: tuple[str, ...]

    def seconds_at(self, bytes_per_second: float) -> float | None:
        """The seconds that the download takes at that speed; None if the size is unknown."""
        if self.present:
            return 0.0
        return None if self.expected_bytes is None else (self.expected_bytes - self.kept_bytes) / bytes_per_second


def plan(release: Release | str, *, directory: str | os.PathLike[str] | None = None) -> FetchPlan:
    """The plan of a fetch, which changes nothing."""
    entry = catalogue.release_of(release)
    place = place_of(entry, directory=directory)
    return FetchPlan(
        path=place.path,
        present=place.path.is_file(),
        expected_bytes=entry.expected_bytes,
        kept_bytes=Partial.of(place).size(),
        free_bytes=free_bytes(place.folder),
        urls=addresses(entry.urls, entry.file),
    )


def is_offline() -> bool:
    """True if FCN_PORT_OFFLINE forbids the network."""
    said = os.environ.get(OFFLINE_VARIABLE, "")
    return bool(said.strip()) and not means_no(said)


def fetch(
    release: Release | str,
    *,
    directory: str | os.PathLike[str] | None = None,
    from_file: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    verify: bool = False,
    check: FileCheck | None = None,
    progress: Callback | None = None,
    patience: RetryPolicy | None = None,
) -> FetchResult:
    """The release's caffemodel, verified, in `directory` (else `weights_dir()`).

    `from_file` copies a file obtained elsewhere, through the same checks, instead of downloading. `offline` overrides
    FCN_PORT_OFFLINE. `verify` reads a file again that is there and has not changed since it was verified. `check` looks
    at the structure where no checksum was published. An interruption keeps what has arrived, and the next call goes on
    from there. UnknownReleaseError; FetchError, with OfflineError and ChecksumError.
    """
    entry = catalogue.release_of(release)
    place = place_of(entry, directory=directory)
    job = _Fetch(entry, place, check, Meter(progress, entry.file))
    try:
        if from_file is not None:
            with locked(place, job.meter):
                return job.taken(path_of(from_file).expanduser().absolute())
        return _found(job, verify=verify) or _brought(job, offline=offline, patience=patience or RetryPolicy())
    except OSError as error:
        where = "" if error.filename is not None else f"{place.folder}: "
        raise FetchError(f"{entry.name}: {where}{in_words(error)}") from error


def _found(job: _Fetch, *, verify: bool) -> FetchResult | None:
    """The file if it is there already. A folder that cannot be written to serves too, but is hashed every time."""
    result = None if verify else job.unchanged()
    if result is not None or not job.place.path.exists():
        if result is not None:
            sweep(job.place)
        return result
    if not os.access(job.place.folder, os.W_OK):
        return job.examined(record=False)
    with locked(job.place, job.meter):
        found = job.examined(record=True)
        if found is not None:
            Partial.of(job.place).discard()  # of an earlier download, for the file is here
        return found


def _brought(job: _Fetch, *, offline: bool | None, patience: RetryPolicy) -> FetchResult:
    """The file, from another process, from a download that only had to be checked, or from the network."""
    with locked(job.place, job.meter):
        result = job.unchanged() or job.examined(record=True) or job.completed()
        if result is not None:
            return result
        if job.release.bundled is not None:
            return job.taken(Path(__file__).resolve().parents[1] / job.release.bundled)
        if is_offline() if offline is None else offline:
            raise OfflineError(
                f"{job.release.name}: {job.release.file} is not here, and the network may not be used\n{job.advice()}"
            )
        return job.downloaded(patience)


@dataclass(frozen=True)
class _Fetch:
    """One fetch: the release, where it goes, how it is looked at. All but `unchanged` are called with the lock held."""

    release: Release
    place: StoredFile
    check: FileCheck | None
    meter: Meter

    def unchanged(self) -> FetchResult | None:
        """The file, if it is the one that was verified, going by its size and time."""
        if not self.place.path.is_file():
            return None
        record = self._record()
        if record is None or record.verified_by is None or not record.is_of(self.place.path.stat()):
            return None
        if record.published != self._published():
            return None
        return self._result(record, already_there=True)

    def examined(self, *, record: bool) -> FetchResult | None:
        """The file, if it is there, hashed and checked; ChecksumError if it is another one."""
        path = self.place.path
        if not path.exists():
            return None
        if not path.is_file():
            raise FetchError(f"{path}: a file is expected here, and this is none")
        digests = self._digests()
        self.meter.stage("verifying", total=path.stat().st_size)
        digests.catch_up(path, on_bytes=self.meter.moved)
        try:
            verified_by = judge(path, digests, self._wanted(), self.check)
        except WrongFile as error:
            raise ChecksumError(
                f"{path}: not the file of {self.release.name}: {error}\n  move it away or delete it, and run again"
            ) from error
        known = self._record()
        source = known.source if known is not None else None
        found = self._described(path, digests, verified_by, source)
        if record:
            write_record(self.place.record, found, file=self.place.file)
        return self._result(found, already_there=True, first_time=record and known is None)

    def completed(self) -> FetchResult | None:
        """A download that had all its bytes when its process ended; thrown away if it is not the file."""
        partial, wanted = Partial.of(self.place), self._wanted()
        origin = partial.origin()
        if origin is None or partial.size() != (wanted.size or origin.total):
            return None
        digests = self._digests()
        self.meter.stage("verifying", total=partial.size())
        digests.catch_up(partial.path, on_bytes=self.meter.moved)
        try:
            verified_by = judge(partial.path, digests, wanted, self.check)
        except WrongFile:
            partial.discard()
            return None
        return self._placed(partial.path, digests, verified_by, origin.url)

    def downloaded(self, patience: RetryPolicy) -> FetchResult:
        """The file from the network."""
        from weights.download.release import (  # here, for the network library is slow to import
            NoAddressWorked,
            download,
        )
        from weights.download.transfer import TransferJob

        urls = addresses(self.release.urls, self.release.file)
        if not urls:
            raise FetchError(f"{self.release.name}: no program can fetch {self.release.file}\n{self.advice()}")
        partial, wanted, digests = Partial.of(self.place), self._wanted(), self._digests()
        require_room(self.place.folder, (self.release.expected_bytes or 0) - partial.size())
        try:
            url, verified_by = download(
                urls,
                TransferJob(partial, wanted, digests, self.meter, patience),
                verify=lambda: judge(partial.path, digests, wanted, self.check),
            )
        except NoAddressWorked as error:
            raise self._in_vain(error, kept=partial.size()) from None
        return self._placed(partial.path, digests, verified_by, url)

    def taken(self, source: Path) -> FetchResult:
        """A copy of `source`, if it is the right file; `source` stays as it is."""
        if not source.is_file():
            raise FetchError(f"{source}: this is no file" if source.exists() else f"{source}: there is no such file")
        if self.place.path.exists() and source.samefile(self.place.path):
            result = self.examined(record=True)
            if result is not None:
                return result
        digests, wanted = self._digests(), self._wanted()
        size = source.stat().st_size
        try:
            with fresh_file(self.place.path) as writer:
                incoming = Path(writer.name)
                self._copy(source, writer, digests, wanted, size)
                complete(writer)
                verified_by = judge(incoming, digests, wanted, self.check)
                return self._placed(incoming, digests, verified_by, str(source))
        except WrongFile as error:
            raise ChecksumError(f"{source}: not the file of {self.release.name}: {error}") from error

    def advice(self) -> str:
        """Advice for a file that cannot be downloaded."""
        about = self.release.about
        by_hand = f"  {about.by_hand}\n" if about is not None and about.by_hand else ""
        if by_hand and not self.release.prototxts:
            by_hand += f"  a net definition from there goes to {self.place.folder / self.release.name}.prototxt\n"
        return by_hand + (
            f"  put a copy obtained elsewhere at {self.place.path}\n"
            f"  or give it to `fcn-port fetch {self.release.name} --from-file FILE`; it goes through the same checks\n"
            "  `make demo` does the whole job on the small bundled release, without the network"
        )

    def _copy(self, source: Path, writer: BinaryIO, digests: RunningDigests, wanted: Wanted, size: int) -> None:
        """Copy and hash; WrongFile at once, where size or first bytes already say so."""
        with open_file(source) as reader:
            head = reader.read(HEAD)
            refuse_web_page(head)
            objection = wanted.objection(size)
            if objection is not None:
                raise WrongFile(objection)
            require_room(self.place.folder, size)
            self.meter.stage("copying", total=size)
            piece = head
            while piece:
                writer.write(piece)
                digests.update(piece)
                self.meter.moved(digests.count)
                piece = reader.read(CHUNK)

    def _placed(self, path: Path, digests: RunningDigests, verified_by: VerifiedBy, source: str) -> FetchResult:
        """Give a verified file its name. The record comes first: with it, a death in between loses nothing."""
        with path.open("rb+") as file:
            os.fsync(file.fileno())
        first_time = self._record() is None
        record = self._described(path, digests, verified_by, source)
        write_record(self.place.record, record, file=self.place.file)
        path.replace(self.place.path)
        Partial.of(self.place).discard()
        result = self._result(record, already_there=False, first_time=first_time)
        self.meter.stage("done", done=digests.count, total=digests.count, url=source)
        return result

    def _in_vain(self, error: NoAddressWorked, *, kept: int) -> FetchError:
        tried = "\n".join(f"  {each.url}\n    {each.reason}" for each in error.failures)
        again = f"  {human_bytes(kept)} have arrived and are kept; another run goes on from there\n" if kept else ""
        text = f"{self.release.name}: {self.release.file} could not be downloaded\n{tried}\n{again}{self.advice()}"
        return ChecksumError(text) if all(each.wrong for each in error.failures) else FetchError(text)

    def _wanted(self) -> Wanted:
        return Wanted.of(self.release, self._record())

    def _digests(self) -> RunningDigests:
        published = self.release.checksum
        return RunningDigests([published.algorithm] if published is not None and published.algorithm != "git" else [])

    def _published(self) -> str | None:
        return str(self.release.checksum) if self.release.checksum is not None else None

    def _record(self) -> Record | None:
        """The record beside the file; a damaged one only matters where nothing was published."""
        try:
            return read_record(self.place.record)
        except ChecksumError:
            if self.release.checksum is None:
                raise
            return None

    def _described(self, path: Path, digests: RunningDigests, verified_by: VerifiedBy, source: str | None) -> Record:
        stat = path.stat()
        return Record(
            sha256=digests.hexdigest("sha256"),
            size=stat.st_size,
            mtime_ns=stat.st_mtime_ns,
            verified_by=verified_by,
            published=self._published(),
            source=source,
        )

    def _result(self, record: Record, *, already_there: bool, first_time: bool = False) -> FetchResult:
        assert record.verified_by is not None
        return FetchResult(
            release=self.release,
            path=self.place.path,
            sha256=record.sha256,
            verified_by=record.verified_by,
            first_time=first_time and record.verified_by in ("structure", "size"),
            already_there=already_there,
            bytes_downloaded=self.meter.received,
            source=record.source,
        )
