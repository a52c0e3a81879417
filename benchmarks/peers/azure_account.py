"""The account that local servers of Blob Storage know."""

NAME = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Published by Microsoft for Azurite, and no secret."""


def connection_string(url: str) -> str:
    """What clients take."""
    scheme = url.partition(":")[0]
    return f"DefaultEndpointsProtocol={scheme};AccountName={NAME};AccountKey={KEY};BlobEndpoint={url}/{NAME};"
