"""Errors by which the libraries below fsspec say that a server did not answer; not all of them are OSErrors."""

import sys

_CLASSES = (
    ("httpx", "HTTPError"),  # hf://
    ("requests", "RequestException"),
    ("aiohttp", "ClientError"),  # http://, gs://, s3://
    ("botocore.exceptions", "BotoCoreError"),  # s3://
    ("botocore.exceptions", "ClientError"),
    ("google.auth.exceptions", "GoogleAuthError"),  # gs://
)


def network_errors() -> tuple[type[Exception], ...]:
    """Those of the libraries that are loaded, beside OSError: nothing else can have been raised."""
    loaded = ((sys.modules.get(module), name) for module, name in _CLASSES)
    return (OSError, *(getattr(module, name) for module, name in loaded if hasattr(module, name)))
