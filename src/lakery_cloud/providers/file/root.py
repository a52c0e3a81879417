"""The folder of a storage: making it, and errors that say why it can't be made. It never changes an existing folder."""

import errno
import os
import stat
from pathlib import Path

from lakery_cloud.errors import ConfigError
from lakery_cloud.files import make_folder


def check_root(root: Path) -> None:
    """Refuse a path that can't be a folder because of what is there now.

    Raises:
        ConfigError: The path, or one above it, is a file or a link whose target does not exist.
    """
    for place in (root, *root.parents):
        try:
            status = place.stat()  # one look at each, since others may make and remove folders meanwhile
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            if place.is_symlink():
                raise ConfigError(
                    f"{str(root)!r} can't be the folder of a storage: the target of the link {str(place)!r} does not exist"
                ) from error
            continue
        if not stat.S_ISDIR(status.st_mode):
            raise ConfigError(f"{str(root)!r} can't be the folder of a storage: {str(place)!r} is not a folder")
        return


def make_root(root: Path) -> None:
    """Make the folder of a storage if it does not exist.

    Raises:
        ConfigError: It can't be a folder, or the file system above it has no new folders, as /proc.
        OSError: Any other failure, such as missing rights.
    """
    if root.is_dir():
        return
    check_root(root)
    make_folder(root.parent)
    parent = os.open(root.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)  # held: no other gets its inode number
    try:
        make_folder(root)
    except FileNotFoundError as error:
        if not os.path.samestat(os.fstat(parent), root.parent.stat()):  # removed meanwhile
            raise
        raise ConfigError(
            f"the folder {str(root)!r} can't be made: {str(root.parent)!r} takes no new folders"
        ) from error
    finally:
        os.close(parent)
