"""The library's log on standard error, for `--verbose`. Log lines hold no secret; that is the library's own rule."""

import logging
import sys


class StandardError(logging.Handler):
    """Writes to standard error as it is at that moment: progress bars replace it for a while."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        print(self.format(record), file=sys.stderr)


def show_log(level: int) -> None:
    """Show the log lines of lakery-cloud, and of no other library, from a level on."""
    logger = logging.getLogger("lakery_cloud")
    handler = StandardError()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level)
