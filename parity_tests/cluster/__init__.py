"""Images on a cluster: what needs no Ray runs with the suite, the rest by `make test-ray`."""
