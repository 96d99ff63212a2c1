"""A child process that may take only so much more memory than it has once its imports are done."""

from __future__ import annotations

import subprocess
import sys

import pytest

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS and /proc are Linux's")

_LIMIT = """
import resource, sys
{imports}
now = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
resource.setrlimit(resource.RLIMIT_AS, (now + {more}, now + {more}))
"""


def run_limited(code: str, *arguments: str, imports: str, more: int, timeout: int = 120) -> str:
    """What `code` prints, with `more` bytes of memory beyond what `imports` take; AssertionError where it fails."""
    program = _LIMIT.format(imports=imports, more=more) + code
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
