"""Bridges to other projects; each needs its project and an extra."""
