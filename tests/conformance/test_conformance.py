"""The conformance suite on every storage and every server that can tell the truth."""

from lakery_cloud.testing import StorageConformance


class TestConformance(StorageConformance):
    """The fixture `rig` stands in `tests/conftest.py`, the pairs in `tests/rigs/pairs.py`."""
