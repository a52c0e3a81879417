"""A proxy whose faults are scripted with functions, for conditions that rules can't express, such as a header's value."""

from collections.abc import Callable

from lakery_cloud.testing.faults.exchange import Exchange
from lakery_cloud.testing.faults.flows import RequestBody
from lakery_cloud.testing.faults.forwarding import NO_FAULT, ForwardingProxy
from lakery_cloud.testing.faults.rules import Answer, Armed, CutAnswer, Fault, FaultMatch, SwallowAnswer

__all__ = ["Exchange", "Script", "ScriptedProxy"]


class Script(Armed):
    """A fault for the next requests that a function accepts.

    Attributes:
        matches: Tells whether a request gets the fault.
        fault: The fault.
        times: How many requests get it.
        met: How many requests got it so far.
        fired: How often it took effect.
    """

    def __init__(self, matches: Callable[[Exchange], bool], fault: Fault, times: int) -> None:
        super().__init__(fault, times)
        self.matches = matches


class ScriptedProxy(ForwardingProxy):
    """A proxy in front of `upstream`, on a free port of 127.0.0.1, for the duration of an `async with` block.

    It buffers each request body before it consults the scripts, and raises no error if a script never fires.

    Args:
        upstream: URL of the server, such as `http://127.0.0.1:8333`.

    Attributes:
        url: URL of the proxy.
        exchanges: The requests, in the order in which they were completely received.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self._scripts: list[Script] = []

    def answer(self, matches: Callable[[Exchange], bool], *, status: int, body: bytes = b"", times: int = 1) -> Script:
        """Respond to the next matching requests without forwarding them."""
        headers = {"Content-Type": "application/xml"}
        answer = Answer(status, headers=headers, body=body.decode(errors="surrogateescape"))
        return self.script(matches, answer, times=times)

    def swallow(self, matches: Callable[[Exchange], bool], *, times: int = 1) -> Script:
        """Forward the next matching requests, and close the connection before the response."""
        return self.script(matches, SwallowAnswer(), times=times)

    def cut(self, matches: Callable[[Exchange], bool], *, after: int, times: int = 1) -> Script:
        """Close the connection after `after` bytes of the response body, for the next matching requests."""
        return self.script(matches, CutAnswer(after), times=times)

    def script(self, matches: Callable[[Exchange], bool], fault: Fault, *, times: int = 1) -> Script:
        """Apply a fault to the next matching requests."""
        script = Script(matches, fault, times)
        self._scripts.append(script)
        return script

    async def match_fault(self, exchange: Exchange, body: RequestBody) -> FaultMatch:
        await body.buffer()
        self.exchanges.append(exchange)
        for script in self._scripts:
            if not script.is_spent and script.matches(exchange):
                script.met += 1
                return FaultMatch(script)
        return NO_FAULT
