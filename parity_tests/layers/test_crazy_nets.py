"""Layers with numbers that nobody would write: only our own errors come out, and what runs has the shapes we say."""

from __future__ import annotations

import random
import sys
import time
import traceback

from converters.errors import CaffeFormatError
from converters.execution.caffe_net import CaffeNet
from converters.formats.prototxt import parse_prototxt
from converters.net.layer import all_layers
from converters.net.shapes import infer_shapes
from parity_tests.crazy_nets import crazy_net
from parity_tests.limited import linux_only, run_limited

EACH = 25
"""Nets of each type here; 50 take ten seconds. `python -m parity_tests.layers.test_crazy_nets 1000` makes more."""


def try_net(text: str) -> bool:
    """Whether the net runs; what escapes but our own errors is a fault."""
    import torch

    import fcn_port

    try:
        net = CaffeNet(parse_prototxt(text))
        fcn_port.trace(net, (6, 6))
        shapes = infer_shapes(net.spec)
        inputs = {name: torch.rand(shape) for name, shape in net.inputs.items()}
        with torch.no_grad():
            net(**inputs)
            blobs = net.blobs(**inputs)
    except CaffeFormatError:
        return False
    found = {name: tuple(blob.shape) for name, blob in blobs.items()}
    assert "Filter" in text or found == shapes, (found, shapes)
    return True


def main(each: int) -> None:
    """Try the nets of all types, and say which did not end as they should."""
    import torch

    torch.set_num_threads(1)
    ran = failed = 0
    for kind in sorted(all_layers()):
        for seed in range(each):
            text = crazy_net(random.Random(f"{kind} {seed}"), kind)
            began = time.process_time()
            try:
                ran += try_net(text)
            except Exception:  # whatever it is, it is what this looks for
                failed += 1
                print(f"{kind} {seed}:\n{text}", traceback.format_exc(limit=-3), file=sys.stderr)
            if time.process_time() - began > 5:
                failed += 1
                print(f"{kind} {seed} takes {time.process_time() - began:.1f} s:\n{text}", file=sys.stderr)
    print(ran)
    raise SystemExit(failed > 0)


@linux_only
def test_only_our_own_errors_come_out() -> None:
    """In a child that may take 2 GB more, so that what asks for much is refused soon."""
    imports = "import torch, fcn_port\nfrom parity_tests.layers.test_crazy_nets import main"
    ran = run_limited(f"main({EACH})", imports=imports, more=2 << 30, timeout=200)
    assert int(ran) > 200


if __name__ == "__main__":
    main(int(sys.argv[1]))
