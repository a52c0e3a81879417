"""The library's log on standard error, for `--verbose`. The library itself keeps secrets out of its log lines."""

import logging
import sys


class StandardError(logging.Handler):
    """A handler that looks up `sys.stderr` for each line, since progress bars replace it while they are shown."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        print(self.format(record), file=sys.stderr)


def show_log(level: int) -> None:
    """Show lakery-cloud's log lines of at least this level, and no other library's."""
    logger = logging.getLogger("lakery_cloud")
    handler = StandardError()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(level)


def mute_other_libraries() -> None:
    """Print no warnings of SDKs, which Python prints where no log is set up: the command reports their errors itself."""
    for name in ("adlfs", "aiobotocore", "azure", "boto3", "botocore", "fsspec", "gcsfs", "google", "msal", "urllib3"):
        logging.getLogger(name).addHandler(logging.NullHandler())
