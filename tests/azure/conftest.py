"""Azurite, one for the whole session, and the rig on it."""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from lakery_cloud.emulators.azurite import Azurite
from tests.azure.rigs import AzureRig
from tests.conformance_table import note_case


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Azurite, in a process of its own."""
    with Azurite() as server:
        yield server


@pytest.fixture(autouse=True)
def _no_azure_configuration_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)


@pytest.fixture
async def azure_rig(
    request: pytest.FixtureRequest, azurite: Azurite, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AzureRig]:
    """An `AzureBlobStorage` on Azurite, with an empty container of its own."""
    for name, value in azurite.environment().items():
        monkeypatch.setenv(name, value)
    async with AzureRig(azurite) as rig:
        note_case(request, rig.name)
        yield rig
