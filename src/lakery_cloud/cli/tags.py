"""Parsing of `--tag` options."""

from lakery_cloud.errors import InvalidTags


def read_tags(pairs: tuple[str, ...]) -> dict[str, str]:
    """Parse tags of the form key=value.

    Raises:
        InvalidTags: A tag has no `=`, or two tags have the same key.
    """
    tags: dict[str, str] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator:
            raise InvalidTags(f"tag {pair!r} has no value; write it as key=value")
        if key in tags:
            raise InvalidTags(f"tag key {key!r} is given twice")
        tags[key] = value
    return tags
