"""The account of local Blob Storage servers."""

NAME = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Microsoft publishes it for Azurite; it is no secret."""


def connection_string(url: str) -> str:
    """Return the connection string of a local server."""
    scheme = url.partition(":")[0]
    return f"DefaultEndpointsProtocol={scheme};AccountName={NAME};AccountKey={KEY};BlobEndpoint={url}/{NAME};"
