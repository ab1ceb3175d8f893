"""Settings of every test: no network for models, one thread a library, a cache of its own, and where recorded data
lies."""

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell that starts the tests in the background has Ctrl-C ignored, and every child would inherit that.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Before any test module is imported, as some open a shop then; in the environment, so that child processes share it.
_cache = tempfile.TemporaryDirectory(prefix="branchwise-tests-", ignore_cleanup_errors=True)
os.environ["BRANCHWISE_CACHE"] = _cache.name


class PlainRoot:
    """The checkout's folder is the package ``branchwise``, whatever the folder is called. Pytest would import it under
    that name, which fails where it is none (``my project``) or another module's (``copy``)."""

    @staticmethod
    def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == Path(__file__).resolve().parents[1] else None


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(PlainRoot())


@pytest.fixture(scope="session", autouse=True)
def cache_of_this_session() -> Iterator[Path]:
    """The folder in ``BRANCHWISE_CACHE``, which goes with the session."""
    with _cache:
        yield Path(_cache.name)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded data: ``BRANCHWISE_SHARED_DATA``, or ``../shared/data`` beside the checkout."""
    named = os.environ.get("BRANCHWISE_SHARED_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}: set BRANCHWISE_SHARED_DATA to the folder that holds it")
    return folder
