"""The attributes of content, kept with its file as one extended attribute."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from lakery_cloud.engine.attributes import ObjectAttributes

logger = logging.getLogger("lakery_cloud")

ATTRIBUTES = "user.lakery_cloud"
"""Extended attribute that holds content type, encoding, tags and metadata as JSON, where the file system has such."""


def set_attributes(path: Path, attributes: ObjectAttributes) -> None:
    """Keep attributes with a file, if its file system can.

    Raises:
        FileNotFoundError: The file is gone.
    """
    text = json.dumps(
        {
            "content_type": attributes.content_type,
            "content_encoding": attributes.content_encoding,
            "tags": dict(attributes.tags),
            "metadata": dict(attributes.metadata),
        },
        sort_keys=True,
    )
    try:
        os.setxattr(path, ATTRIBUTES, text.encode(), follow_symlinks=False)
    except FileNotFoundError:
        raise
    except (OSError, AttributeError) as error:
        # The record is the authority on all of this but the tags.
        logger.log(
            logging.WARNING if attributes.tags else logging.DEBUG,
            "no extended attributes for %s (%s): content type and tags are not kept beside the content",
            path,
            error,
        )


def attributes_of(file: Path | int) -> ObjectAttributes:
    """The attributes that are kept with a file, by its path or descriptor; empty if there are none."""
    try:
        found: Any = json.loads(os.getxattr(file, ATTRIBUTES, follow_symlinks=isinstance(file, int)))
    except (OSError, AttributeError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        found = {}
    content_type, content_encoding = found.get("content_type"), found.get("content_encoding")
    return ObjectAttributes(
        content_type if isinstance(content_type, str) else "",
        content_encoding if isinstance(content_encoding, str) else None,
        _texts(found.get("tags")),
        _texts(found.get("metadata")),
    )


def _texts(found: object) -> dict[str, str]:
    """What others may have written is left out where it is no text."""
    return {name: text for name, text in found.items() if isinstance(text, str)} if isinstance(found, dict) else {}
