"""`python -m fcn_port`, and how several processes start it: `torchrun --nproc-per-node 2 -m fcn_port evaluate ...`"""

from __future__ import annotations

from fcn_port.cli import main

if __name__ == "__main__":
    main()
