"""Real Caffe as an oracle: a folder with Debian 11 and its python3-caffe, and calls into it.

``install`` makes the folder, ``client`` asks Caffe things (one process for each question, because a failed CHECK ends
the process), ``worker`` is what runs inside, ``record`` re-records the goldens. See docs/oracle.md.
"""
