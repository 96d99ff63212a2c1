"""A process that forks after a pass of several threads: parent, child and grandchild all go on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fcn_port.fastpath.native import build, why_not
from parity_tests.test_architecture import ROOT

pytestmark = [
    pytest.mark.skipif(why_not() is not None, reason="no C compiler"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork"),
]

CODE = """
import multiprocessing, os, sys
import numpy as np, torch
import fcn_port
from converters import CaffeNet, parse_prototxt
from fcn_port.exporting import with_random_weights
from fcn_port.fastpath.numpy_net import NumpyNet

KIND = 'convolution_param { num_output: 16 kernel_size: 3 pad: 1 }'
net = with_random_weights(CaffeNet(parse_prototxt(
    'input: "x" input_shape { dim: 1 dim: 3 dim: 64 dim: 64 }'
    + "".join(f'layer {{ name: "{b}" type: "Convolution" bottom: "{a}" top: "{b}" {KIND} }}' for a, b in ("xa", "ab"))
)))
torch.set_num_threads(2)
x = torch.arange(3 * 64 * 64).reshape(1, 3, 64, 64).float().sin()
quick, plain = fcn_port.fast(net), NumpyNet(net.spec, {k: v.numpy() for k, v in net.state_dict().items()}, threads=2)
ways = {"fast": lambda: quick(x), "numpy_net": lambda: torch.from_numpy(plain(x.numpy())), "torch": lambda: net(x)}
run = ways[sys.argv[1]]
right = run()

def same(_=None):
    return torch.equal(run(), right) and torch.equal(run(), right)

with multiprocessing.get_context("fork").Pool(2) as pool:
    assert all(pool.map(same, range(4)))
child = os.fork()
if child == 0:
    good, grandchild = same(), os.fork()
    good = good and same() and (grandchild == 0 or os.waitpid(grandchild, 0)[1] == 0)
    os._exit(0 if good else 1)
assert os.waitpid(child, 0)[1] == 0 and same()
"""


@pytest.mark.parametrize("way", ["fast", "numpy_net", "torch"])
def test_passes_before_and_after_a_fork(way: str, tmp_path: Path) -> None:
    """The child waited for ever for threads that it does not have; PyTorch's did, too."""
    if not hasattr(build.library(), "omp_pause_resource_all"):
        pytest.skip("an OpenMP that cannot let its threads go")
    code = tmp_path / "code.py"
    code.write_text(CODE)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    with subprocess.Popen([sys.executable, str(code), way], env=environment, start_new_session=True) as process:
        try:
            assert process.wait(timeout=60) == 0
        finally:
            if process.poll() is None:
                os.killpg(process.pid, 9)
