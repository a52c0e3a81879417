"""The event loop of commands, and of the processes that they start."""

from contextlib import suppress


def use_uvloop() -> None:
    """Let this process use uvloop if it is installed: the extra `speed` brings it."""
    import asyncio

    with suppress(ImportError):
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
