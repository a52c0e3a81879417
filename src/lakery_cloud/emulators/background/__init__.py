"""Servers of `lakery-cloud emulators up`, which run in keeper processes and can outlive the command."""
