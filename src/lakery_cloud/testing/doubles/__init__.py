"""Servers that behave as real stores do, with profiles: tables of documented differences between stores."""
