"""Tags as the command is given them."""

from lakery_cloud.errors import InvalidTags


def read_tags(pairs: tuple[str, ...]) -> dict[str, str]:
    """Tags given as key=value.

    Raises:
        InvalidTags: One has no `=`, or a key is given twice.
    """
    tags: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise InvalidTags(f"a tag is given as key=value, not {pair!r}")
        if key in tags:
            raise InvalidTags(f"the tag {key!r} was given twice")
        tags[key] = value
    return tags
