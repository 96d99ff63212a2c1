"""Nets in both engines of OpenCV 5, in an environment of its own: `make test-opencv5`."""
