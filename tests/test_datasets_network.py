"""A server that does not answer is one of our errors, whatever library says so."""

import fsspec
import httpx
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from vla.datasets import storage
from vla.datasets.network import network_errors
from vla.errors import DataError
from vla.plugins import open_source


class Unreachable(MemoryFileSystem):
    """As hf:// without a network."""

    protocol = "unreachable"

    def cat_file(self, *args, **kwargs):
        raise httpx.ConnectError("Name or service not known")

    info = ls = open = cat_file  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def unreachable():
    fsspec.register_implementation("unreachable", Unreachable, clobber=True)


def test_errors_of_loaded_libraries():
    assert httpx.HTTPError in network_errors() and OSError in network_errors()


def test_opening_names_the_url():
    with pytest.raises(DataError, match=r"unreachable://user/name.*Name or service not known"):
        open_source("unreachable://user/name")


def test_storage_names_the_url():
    url = "unreachable://user/name"
    for call in (storage.read, storage.stored, storage.open_stream, lambda url: storage.stored_in(url, ["x"])):
        with pytest.raises(DataError, match=r"unreachable://user/name.*Name or service not known"):
            call(url)
    with pytest.raises(DataError, match="byte 3"):
        storage.read_range(storage.Stored(url, 9, ""), 3, 4)
