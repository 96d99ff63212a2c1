"""A published data set on disk: downloaded like a release, resumably and verified, then unpacked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from converters.safety import remove_abandoned, write_whole
from weights.download import (
    Callback,
    Meter,
    Partial,
    RetryPolicy,
    RunningDigests,
    Wanted,
    WrongFile,
    human_bytes,
    is_offline,
    judge,
    locked,
    sweep,
)
from weights.errors import ChecksumError, FetchError, OfflineError
from weights.store import StoredFile

from .archives import ARCHIVES, Archive
from .errors import DataError
from .places import data_dir
from .unpacking import unpack

Unpacked = Callable[[int, int], None]


def fetch_archive(
    archive: Archive,
    *,
    root: str | os.PathLike[str] | None = None,
    from_file: str | os.PathLike[str] | None = None,
    keep: bool = False,
    offline: bool | None = None,
    progress: Callback | None = None,
    unpacked: Unpacked = lambda files, done: None,
    patience: RetryPolicy | None = None,
) -> Path:
    """The path of the archive's contents, below `root` (else `data_dir()`); at once if they are there already.

    `from_file` takes a file obtained elsewhere, through the same checks, and leaves it where it is. The downloaded
    archive is deleted once it is unpacked, unless `keep`. `progress` is told of bytes downloaded and verified,
    `unpacked` of files and bytes. FetchError says what was tried; DataError what is wrong with the contents.
    """
    base = data_dir() if root is None else Path(root).expanduser().absolute()
    home = base / archive.home
    place = StoredFile(base / "downloads", archive.file if archive.unpacked else f"{archive.name}.txt")
    if archive.here(base):
        remove_abandoned(home)
        sweep(place, also=_unpacked_before(home))
        return home
    if archive.after is not None and not ARCHIVES[archive.after].here(base):
        raise FetchError(
            f"{archive.name}: it goes into the folder of {archive.after}, which is not in {base}\n"
            f"  fcn-port data {archive.after} --fetch, or name the folder that has it with --root"
        )
    meter = Meter(progress, archive.file)
    try:
        with locked(place, meter):
            if not archive.here(base):
                if from_file is not None:
                    source = Path(from_file).expanduser()
                    _verified(archive, source, meter)
                else:
                    source = _brought(archive, place, meter, offline=offline, patience=patience or RetryPolicy())
                _put(archive, source, home, unpacked)
                if from_file is None and not keep:
                    source.unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and from_file is not None:
            raise FileNotFoundError(f"{from_file}: there is no such file") from None
        raise FetchError(f"{archive.name}: {error.filename or base}: {error.strerror or error}") from error
    return home


def _brought(archive: Archive, place: StoredFile, meter: Meter, *, offline: bool | None, patience: RetryPolicy) -> Path:
    """The file, verified, under its own name in the folder for downloads."""
    if place.path.is_file():
        _verified(archive, place.path, meter)
        Partial.of(place).discard()  # a download that was killed before its note went
        return place.path
    if is_offline() if offline is None else offline:
        raise OfflineError(
            f"{archive.name}: {archive.file} is not here, and the network may not be used\n{_advice(archive, place)}"
        )
    from weights.download import (  # here, for the network library is slow to import
        NoAddressWorked,
        TransferJob,
        addresses,
        download,
    )

    partial, wanted, digests = Partial.of(place), _wanted(archive), _digests(archive)
    try:
        download(
            addresses(archive.urls, archive.file),
            TransferJob(partial, wanted, digests, meter, patience),
            verify=lambda: judge(partial.path, digests, wanted, None),
        )
    except NoAddressWorked as error:
        tried = "\n".join(f"  {each.url}\n    {each.reason}" for each in error.failures)
        size = partial.size()
        kept = f"\n  {human_bytes(size)} have arrived and are kept; another run goes on from there" if size else ""
        text = f"{archive.name}: {archive.file} could not be downloaded\n{tried}{kept}\n{_advice(archive, place)}"
        raise (ChecksumError if all(each.wrong for each in error.failures) else FetchError)(text) from None
    partial.sync()
    partial.path.replace(place.path)
    partial.discard()
    return place.path


def _verified(archive: Archive, path: Path, meter: Meter) -> None:
    """ChecksumError if a file is not the published one."""
    if path.is_dir():
        raise FetchError(f"{path}: a folder; give the file {archive.file}")
    digests = _digests(archive)
    meter.stage("verifying", total=path.stat().st_size)
    digests.catch_up(path, on_bytes=meter.moved)
    try:
        judge(path, digests, _wanted(archive), None)
    except WrongFile as error:
        raise ChecksumError(
            f"{path}: not {archive.file} of {archive.name}: {error}\n  move it away or delete it, and run again"
        ) from None


def _put(archive: Archive, source: Path, home: Path, unpacked: Unpacked) -> None:
    if archive.marker is not None:
        shutil.rmtree(_unpacked_before(home), ignore_errors=True)
        unpack(source, home, marker=archive.marker, largest=archive.largest, progress=unpacked)
        return
    if home.exists():
        raise DataError(f"another {home.name} is in the way; move it away and run again", path=home)
    write_whole(home, source.read_bytes(), follow=False)


def _unpacked_before(home: Path) -> Path:
    """The folder where earlier versions unpacked, and left all when they were killed; theirs only while `locked`."""
    return home.with_name(f".{home.name}.unpacking")


def _wanted(archive: Archive) -> Wanted:
    return Wanted(at_most=archive.largest, checksum=archive.checksum)


def _digests(archive: Archive) -> RunningDigests:
    return RunningDigests([archive.checksum.algorithm] if archive.checksum is not None else [])


def _advice(archive: Archive, place: StoredFile) -> str:
    return (
        f"  it was announced at {archive.page}\n"
        f"  put a copy obtained elsewhere at {place.path}\n"
        f"  or give it to `fcn-port data {archive.name} --from-file FILE`; it goes through the same checks"
    )
