"""Runs LocalStack in the foreground without Docker: `python localstack/launch.py --bucket lakery-test`.

It is `lakery-cloud emulators up localstack` on LocalStack's usual port, and accepts the same options.
"""

import sys

from lakery_cloud.cli.main import main

if __name__ == "__main__":
    sys.argv[1:] = ["emulators", "up", "localstack", "--port", "4566", *sys.argv[1:]]  # a later --port overrides
    main()
