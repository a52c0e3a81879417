"""`python -m lakery_cloud` is the command."""

from lakery_cloud.cli.main import main

if __name__ == "__main__":  # not in the processes of `--processes`, which import it too
    main()
