"""The attributes of a blob as its headers, metadata and tags. It sends nothing."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from lakery_cloud.engine.attributes import METADATA_ALGORITHM, METADATA_HASH, METADATA_SIZE, ObjectAttributes
from lakery_cloud.http.headers import quoted

if TYPE_CHECKING:
    from lakery_cloud.providers.azure.settings import AzureSettings

METADATA_TAGS = "content_tags"
"""Where tags are kept as JSON if they are not index tags. The name is permanent."""
TAG_COUNT = "x-ms-tag-count"
"""The header with the number of index tags."""
METADATA = "x-ms-meta-"
"""How the names of headers with metadata begin."""

# Azure's names of metadata are C# identifiers.
_NAMES = {name.replace("-", "_"): name for name in (METADATA_HASH, METADATA_ALGORITHM, METADATA_SIZE)}


def described(attributes: ObjectAttributes, settings: "AzureSettings", *, is_temporary: bool = False) -> dict[str, str]:
    """The headers of a blob's attributes and tier. A temporary blob has the account's default tier."""
    headers = {METADATA + name: value for name, value in metadata_of(attributes, settings).items()}
    headers["x-ms-blob-content-type"] = attributes.content_type
    if attributes.content_encoding is not None:
        headers["x-ms-blob-content-encoding"] = attributes.content_encoding
    if settings.access_tier is not None and not is_temporary:
        headers["x-ms-access-tier"] = settings.access_tier
    return headers | tagged(index_tags_of(attributes, settings))


def tagged(tags: Mapping[str, str]) -> dict[str, str]:
    """The header with index tags; none without tags."""
    return {"x-ms-tags": "&".join([f"{quoted(key)}={quoted(value)}" for key, value in tags.items()])} if tags else {}


def index_tags_of(attributes: ObjectAttributes, settings: "AzureSettings") -> dict[str, str]:
    """The tags that are index tags of a blob."""
    return dict(attributes.tags) if settings.blob_tags else {}


def metadata_of(attributes: ObjectAttributes, settings: "AzureSettings") -> dict[str, str]:
    """The metadata of a blob, with tags that are no index tags."""
    metadata = {name.replace("-", "_"): value for name, value in attributes.metadata.items()}
    if attributes.tags and not settings.blob_tags:
        metadata[METADATA_TAGS] = json.dumps(dict(attributes.tags), separators=(",", ":"))
    return metadata


def tags_in_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The tags in a blob's metadata; none if another program wrote them."""
    try:
        tags = json.loads(metadata.get(METADATA_TAGS, "{}"))
    except ValueError:
        return {}
    return tags if isinstance(tags, dict) else {}


def known_tags(metadata: Mapping[str, str]) -> dict[str, str] | None:
    """The tags in a blob's metadata, or None if it has no place for them."""
    return tags_in_metadata(metadata) if METADATA_TAGS in metadata else None


def our_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a blob by the names of `ObjectAttributes`, without tags."""
    return {_NAMES.get(name.lower(), name): value for name, value in metadata.items() if name != METADATA_TAGS}
