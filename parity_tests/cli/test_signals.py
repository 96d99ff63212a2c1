"""Ctrl-C, a polite kill and a closed terminal, from the first import to the last byte."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from parity_tests.test_architecture import ROOT
from parity_tests.verbs import PICTURE, SAMPLE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")
STARTS = {
    "module": ["-m", "fcn_port"],
    "console script": ["-c", "import sys\nfrom fcn_port.cli import main\nsys.exit(main())"],
}
SIGNALS = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143), signal.SIGHUP: ("hung up", 129)}

LONG = "[time.sleep(0.05) for _ in range(2000)]"
"""Work that a handler gets into. One long sleep is not: a signal that the system gives to another thread, such as that
of the checksum, does not wake the main thread, and its handler waits for the end of the sleep."""


def ended(command: Sequence[str], number: int, *, path: Path | None = None, ignored: bool = False) -> tuple[int, str]:
    """The status and the messages of a process that got a signal once it had said "ready"."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, filter(None, (path, ROOT))))}
    pipe = subprocess.PIPE
    prepare = (lambda: signal.signal(number, signal.SIG_IGN)) if ignored else None
    with subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, env=variables, stdout=pipe, stderr=pipe, text=True, preexec_fn=prepare
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            process.send_signal(number)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, err


def slow_module(folder: Path, name: str, body: str = "") -> None:
    """A module that takes long to import, and swallows what interrupts it, as C code may."""
    (folder / f"{name}.py").write_text(
        f"{body}\nimport time\nprint('ready', flush=True)\n"
        f"try:\n    {LONG}\nexcept BaseException as error:\n    raise ImportError('C code failed') from error\n"
    )


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: signal.Signals(number).name)
@pytest.mark.parametrize("module", ["click", "numpy", "torch"])
@pytest.mark.parametrize("start", STARTS)
def test_while_python_imports(start: str, module: str, number: int, tmp_path: Path) -> None:
    """The first seconds: the program's own imports, and torch, which a verb brings."""
    slow_module(tmp_path, module)
    argv = ["predict", SAMPLE, PICTURE, "-o", str(tmp_path), "--padded"]  # which torch does
    status, err = ended([*STARTS[start], *argv], number, path=tmp_path)
    words, expected = SIGNALS[signal.Signals(number)]
    assert (status, err) == (expected, f"fcn-port: {words}\n")


SLOW_WRITER = """
import time
import converters.conversion as c
real = c.write_safetensors
def slow(file, tensors, metadata, *, watch=None):
    def wait(*a):
        print('ready', flush=True); IMPORT; LONG
    real(file, tensors, metadata, watch=wait)
c.write_safetensors = slow
from fcn_port.cli import main
main(['convert', SAMPLE, '-o', OUT])
"""


@pytest.mark.parametrize("importing", [False, True], ids=["writing", "importing meanwhile"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: signal.Signals(number).name)
def test_in_the_middle_of_a_file_nothing_is_left(number: int, importing: bool, tmp_path: Path) -> None:
    out = tmp_path / "out"
    slow_module(tmp_path, "slow_module_of_a_test")
    code = SLOW_WRITER.replace("LONG", LONG).replace("SAMPLE", repr(SAMPLE))
    code = code.replace("OUT", repr(str(out / "x.safetensors")))
    code = code.replace("print('ready', flush=True); IMPORT", "import slow_module_of_a_test") if importing else code
    status, err = ended(["-c", code.replace("IMPORT; ", "")], number, path=tmp_path)
    words, expected = SIGNALS[signal.Signals(number)]
    assert status == expected and err.endswith(f"fcn-port: {words}\n") and "Traceback" not in err, err
    assert list(out.iterdir()) == []


AT_A_PART = """
import time
from pathlib import Path
import fcn_port.cli.program as program
from converters.safety import fresh_file, fresh_folder
from fcn_port.cli import main
real = Path.CALL
def slow(self, *a, **k):
    BEFORE
    given = real(self, *a, **k)
    AFTER
    return given
def work(argv=None):
    Path.CALL = slow
    with fresh_KIND(Path(OUT)):
        pass
program.answer = work
main([])
"""
MOMENTS = [("file", "open", "AFTER"), ("folder", "mkdir", "AFTER"), ("file", "unlink", "BEFORE")]
"""Where an exception out of nowhere finds the part there, and nobody who would take it away."""


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: signal.Signals(number).name)
@pytest.mark.parametrize("moment", MOMENTS, ids=" ".join)
def test_a_part_is_taken_away_whenever_the_signal_comes(
    moment: tuple[str, str, str], number: int, tmp_path: Path
) -> None:
    kind, call, when = moment
    code = AT_A_PART.replace("CALL", call).replace("KIND", kind).replace("OUT", repr(str(tmp_path / "x")))
    wait = f"Path.{call} = real; print('ready', flush=True); {LONG}"
    code = code.replace(when, wait).replace("BEFORE", "").replace("AFTER", "")
    words, expected = SIGNALS[signal.Signals(number)]
    assert ended(["-c", code], number) == (expected, f"fcn-port: {words}\n")
    assert list(tmp_path.iterdir()) == []


IN_THE_WORK = """
import time
import fcn_port.cli.progress as progress
from fcn_port.cli import main
import fcn_port.cli.program as program
class Dying:
    def __del__(self):
        print("ready", flush=True); LONG
def work(argv=None):
    with progress.progress_bar("images", active=True, kept="what is done is written"):
        WORK
    return 0
program.answer = work
main([])
"""
FATES = {
    "raised": 'print("ready", flush=True); LONG',
    "turned into another error": (
        'try:\n            print("ready", flush=True); LONG\n'
        '        except BaseException as error:\n            raise ValueError("a writing handle is open") from error'
    ),
    "lost in a destructor": "Dying()",
    "a destructor complains": (
        'import weakref\n        class Open:\n            def __del__(self): raise ValueError("still open")\n'
        '        held = Open()\n        print("ready", flush=True); LONG'
    ),
}


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: signal.Signals(number).name)
@pytest.mark.parametrize("fate", FATES)
def test_what_is_kept_is_said_whatever_becomes_of_the_exception(fate: str, number: int) -> None:
    """As an archive does that is interrupted while it opens a file: ValueError, and a traceback of its destructor."""
    status, err = ended(["-c", IN_THE_WORK.replace("WORK", FATES[fate]).replace("LONG", LONG)], number)
    words, expected = SIGNALS[signal.Signals(number)]
    assert (status, err) == (expected, f"images: what is done is written\nfcn-port: {words}\n")


SECOND = """
import signal, time
from pathlib import Path
import fcn_port.cli as cli
import fcn_port.cli.program as program
from converters.safety import fresh_file
held = fresh_file(Path(OUT))
real = cli._say
def say(message, status):
    print("ready", flush=True); LONG
    return real(message, status)
def work(argv=None):
    held.__enter__()
    signal.raise_signal(signal.SIGINT)
cli._say, program.answer = say, work
cli.main([])
"""


def test_a_second_signal_while_the_program_says_goodbye(tmp_path: Path) -> None:
    """It ends at once, without a traceback, and takes along what was in the making; the status is the first one's."""
    code = SECOND.replace("OUT", repr(str(tmp_path / "x"))).replace("LONG", LONG)
    assert ended(["-c", code], signal.SIGTERM) == (130, "fcn-port: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_what_the_parent_ignores_stays_ignored(tmp_path: Path) -> None:
    """`nohup` and a shell's background jobs."""
    code = "import time, sys\nfrom fcn_port.cli import main\n" + (
        "import click\nreal = click.echo\ndef slow(*a, **k):\n"
        "    print('ready', flush=True); time.sleep(0.3); real(*a, **k)\n"
        "click.echo = slow\nmain(['--version'])"
    )
    status, err = ended(["-c", code], signal.SIGHUP, ignored=True)
    assert (status, err) == (0, "")


def test_an_interrupt_that_becomes_another_error_is_still_one() -> None:
    """C code that calls back, and the machinery of others, turn a KeyboardInterrupt into what they like."""
    code = (
        "import time\nimport fcn_port.cli as program\n"
        "def answer(argv=None):\n    print('ready', flush=True)\n    try:\n        time.sleep(60)\n"
        "    except KeyboardInterrupt as error:\n        raise SystemError('error set') from error\n"
        "program.run = answer\nprogram.main()"
    )
    assert ended(["-c", code], signal.SIGINT) == (130, "fcn-port: interrupted\n")


IN_A_MESSAGE = """
import io, os, signal, sys
from fcn_port.cli import streams
from fcn_port.cli.output import note
from fcn_port.cli.signals import stopping

class Interrupted(streams._Dropping):
    def write(self, data, /):
        if b"update 7" in bytes(data):
            signal.raise_signal(signal.SIGTERM)
        return super().write(data)

streams._Dropping = Interrupted
streams.make_safe()
with stopping(note) as stop:
    note("update 7")
    assert stop()
    note("saved")
"""


KILLED_TWICE = """
import signal, sys, time
from fcn_port.cli import signals
signals.listen()
signals._AGAIN_SECONDS = float(sys.argv[1])
try:
    with signals.stopping(lambda message: None) as stop:
        signal.raise_signal(signal.SIGTERM)
        time.sleep(0.01)
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        print("went on")
except signals.Ended as ended:
    print("ended by", ended.number)
"""


@pytest.mark.parametrize(("seconds", "said"), [("0", "ended by 15"), ("60", "went on")])
def test_a_second_kill_ends_what_does_not_stop(seconds: str, said: str) -> None:
    """Only a second Ctrl-C did; two in the same moment are one, as `timeout` sends them."""
    run = subprocess.run([sys.executable, "-c", KILLED_TWICE, seconds], cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == said, run.stderr


def test_a_signal_in_the_middle_of_a_message_stops_the_run_politely() -> None:
    """Standard error takes no message while it is at another one: a training was lost by it."""
    run = subprocess.run([sys.executable, "-c", IN_A_MESSAGE], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr.splitlines()[-1]) == (0, "saved"), run.stderr
    assert run.stderr.count("stopping after this update, and saving; Ctrl-C again stops at once\n") == 1
    assert run.stderr.count("update 7\n") == 1


LEFT_COMPUTING = """
import sys, threading, torch
from fcn_port import cli

def run(argv):
    began = threading.Barrier(5)
    def compute():
        began.wait()
        with torch.no_grad():
            while True:
                torch.conv2d(torch.zeros(1, 3, 64, 64), torch.zeros(8, 3, 3, 3))
    for _ in range(4):
        threading.Thread(target=compute, daemon=True).start()
    began.wait()
    print("done")
    return int(argv[0])

cli.run = run
cli.main(sys.argv[1:])
"""


@pytest.mark.parametrize("status", [0, 3])
def test_threads_that_still_compute_change_no_exit_status(status: int) -> None:
    """A server whose nets computed for nobody was ended by SIGABRT, after it had said that it stopped."""
    command = [sys.executable, "-c", LEFT_COMPUTING, str(status)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (run.returncode, run.stdout, run.stderr) == (status, "done\n", "")
