"""Tests that start a cluster of their own, on this host: run by `make test-cluster`."""

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cluster", action="store_true", help="Run tests/cluster too.")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return None if config.getoption("--cluster", default=False) else True
