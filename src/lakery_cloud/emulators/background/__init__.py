"""Emulators that run in the background of a shell."""
