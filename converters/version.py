"""The version of this project, for provenance and bug reports."""

from importlib.metadata import PackageNotFoundError, version

try:
    VERSION = version("fcn-port")
except PackageNotFoundError:  # run from a checkout without being installed
    VERSION = "0.1.0"
