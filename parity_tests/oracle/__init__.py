"""Real Caffe as an oracle: a folder with Debian 11 and its python3-caffe, and calls into it.

``install`` makes the folder, ``client`` asks Caffe things, ``worker`` is what runs inside, and ``server`` has a copy of
it answer each question, because a failed CHECK ends the process; ``record`` re-records the goldens. See docs/oracle.md.
"""
