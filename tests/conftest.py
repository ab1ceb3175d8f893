"""Settings of every test: no network for models, one thread a library, and where recorded data lies."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded data: ``BRANCHWISE_SHARED_DATA``, or ``../shared/data`` beside the checkout."""
    named = os.environ.get("BRANCHWISE_SHARED_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}: set BRANCHWISE_SHARED_DATA to the folder that holds it")
    return folder
