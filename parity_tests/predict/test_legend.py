"""The legend under a picture: names from a file cost no more than a line."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from fcn_port.predict.legend import with_legend

PICTURE = Image.fromarray(np.zeros((40, 60, 3), np.uint8))
RED = (255, 0, 0)

LIMITED = """
import resource
from parity_tests.predict.test_legend import PICTURE, RED, with_legend
with_legend(PICTURE, [("x", RED)])
now = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + (64 << 20), now + (64 << 20)))
print(with_legend(PICTURE, [("x" * 1_000_000 + " 12.3%", RED)] * 255).size)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")
def test_long_names_cost_no_memory() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    width, height = eval(done.stdout)
    assert width < 2000 and height < 40 * 256


@pytest.mark.parametrize("name", ["two\nlines", "\ud800", "a\0b", "\u202eright to left", "\x1b]0;title\x07", "\r"])
def test_what_cannot_be_shown_is_one_question_mark_each(name: str) -> None:
    shown = with_legend(PICTURE, [(name, RED)])
    expected = with_legend(PICTURE, [("".join(c if c.isprintable() else "?" for c in name), RED)])
    assert np.array_equal(np.asarray(shown), np.asarray(expected))


def test_the_share_at_the_end_stays() -> None:
    shown = [np.asarray(with_legend(PICTURE, [("x" * 100 + share, RED)])) for share in (" 12.3%", " 45.6%")]
    assert not np.array_equal(*shown)
    assert np.array_equal(shown[0], np.asarray(with_legend(PICTURE, [("x" * 200 + " 12.3%", RED)])))
