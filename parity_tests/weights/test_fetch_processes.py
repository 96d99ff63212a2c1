"""Two that want the same file at once, and one that is killed in the middle of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import filelock
import pytest

import weights
from parity_tests.fetching import BODY, assert_nothing, assert_whole, get, published, sha256
from parity_tests.http_server import HostileServer, honest, slow, stall
from weights.store import place_of

pytest_plugins = ["parity_tests.fetch_fixtures"]

FETCH = """
import json, sys
from parity_tests.fetching import get, published
from pathlib import Path
result = get(published([sys.argv[1]], checksums=["sha1"]), Path(sys.argv[2]))
print(json.dumps([result.bytes_downloaded, result.already_there, result.sha256]))
"""


def start(url: str, folder: Path) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", FETCH, url, str(folder)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_two_processes_download_once(server: HostileServer, tmp_path: Path) -> None:
    server.script = [slow]
    both = [start(server.url("x"), tmp_path) for _ in range(2)]
    results = sorted(json.loads(process.communicate(timeout=30)[0]) for process in both)
    assert results == [[0, True, sha256(BODY)], [len(BODY), False, sha256(BODY)]]
    assert server.starts() == [0]
    assert_whole(get(published([server.url("x")], checksums=["sha1"]), tmp_path))


def two_threads(server: HostileServer, folder: Path) -> None:
    server.script = [slow]
    entry = published([server.url("x")], checksums=["sha1"])
    threads = [threading.Thread(target=get, args=(entry, folder)) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(timeout=30)
    assert server.starts() == [0]


def test_two_threads_download_once(server: HostileServer, tmp_path: Path) -> None:
    two_threads(server, tmp_path)
    assert_whole(get(published([server.url("x")], checksums=["sha1"]), tmp_path))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_without_the_lock_both_would_download(
    server: HostileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["weights.download.fetching"], "locked", lambda place, meter: nullcontext())
    with pytest.raises(AssertionError):
        two_threads(server, tmp_path)


def test_whoever_waits_is_told_and_can_leave(tmp_path: Path) -> None:
    entry = published(["http://127.0.0.1:1/x"])

    def leave(moment: weights.Progress) -> None:
        assert moment.stage == "waiting" and moment.note is not None
        raise KeyboardInterrupt

    with filelock.FileLock(place_of(entry, directory=tmp_path).lock), pytest.raises(KeyboardInterrupt):
        get(entry, tmp_path, progress=leave)


def test_a_killed_process_leaves_a_download_that_goes_on(server: HostileServer, tmp_path: Path) -> None:
    server.script = [stall(after=180_000), honest]
    entry = published([server.url("x")], checksums=["sha1"])
    part = place_of(entry, directory=tmp_path).part
    process = start(server.url("x"), tmp_path)
    deadline = time.monotonic() + 20
    while (not part.exists() or part.stat().st_size < 180_000) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait(timeout=10) == (-signal.SIGKILL if os.name == "posix" else 1)
    assert_nothing(tmp_path)
    result = get(entry, tmp_path)  # the lock went with the process
    assert_whole(result)
    assert result.bytes_downloaded == len(BODY) - 180_000
    assert server.seen[-1].start == 180_000
