"""Measurements of jobs on whole buckets, on a server that pretends to hold its objects and on a real one."""
