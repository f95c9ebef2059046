"""The version of svdbench, for modules below the package's face."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("svdbench")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"
