"""A proxy whose faults a test scripts with functions: for what rules can't say, such as a header or the size of a body."""

from collections.abc import Callable

from lakery_cloud.testing.faults.exchange import Exchange
from lakery_cloud.testing.faults.flows import RequestBody
from lakery_cloud.testing.faults.forwarding import NO_FAULT, ForwardingProxy
from lakery_cloud.testing.faults.rules import Answer, Armed, CutAnswer, Fault, Meeting, SwallowAnswer

__all__ = ["Exchange", "Script", "ScriptedProxy"]


class Script(Armed):
    """What happens to the requests that match, for so many of them.

    Attributes:
        matches: Which requests.
        fault: What happens to them.
        times: How many of them.
        met: How many requests have met it.
        fired: How often it took effect.
    """

    def __init__(self, matches: Callable[[Exchange], bool], fault: Fault, times: int) -> None:
        super().__init__(fault, times)
        self.matches = matches


class ScriptedProxy(ForwardingProxy):
    """A proxy in front of `upstream`, on a free port of 127.0.0.1, for the length of an `async with` block.

    It takes each request's body into memory before it asks the scripts, and does not mind scripts that never fire.

    Args:
        upstream: URL of the server, such as `http://127.0.0.1:8333`.

    Attributes:
        url: URL of the proxy.
        exchanges: What passed, in the order in which the requests were complete.
    """

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self._scripts: list[Script] = []

    def answer(self, matches: Callable[[Exchange], bool], *, status: int, body: bytes = b"", times: int = 1) -> Script:
        """Answer the next matching requests without passing them on."""
        headers = {"Content-Type": "application/xml"}
        answer = Answer(status, headers=headers, body=body.decode(errors="surrogateescape"))
        return self.script(matches, answer, times=times)

    def swallow(self, matches: Callable[[Exchange], bool], *, times: int = 1) -> Script:
        """Let the server act on the next matching requests, and cut the connection before its answer."""
        return self.script(matches, SwallowAnswer(), times=times)

    def cut(self, matches: Callable[[Exchange], bool], *, after: int, times: int = 1) -> Script:
        """Cut the connection after so many bytes of the answers' bodies to the next matching requests."""
        return self.script(matches, CutAnswer(after), times=times)

    def script(self, matches: Callable[[Exchange], bool], fault: Fault, *, times: int = 1) -> Script:
        """Let any fault happen to the next matching requests."""
        script = Script(matches, fault, times)
        self._scripts.append(script)
        return script

    async def _meet(self, exchange: Exchange, body: RequestBody) -> Meeting:
        await body.hold()
        self.exchanges.append(exchange)
        for script in self._scripts:
            if not script.is_spent and script.matches(exchange):
                script.met += 1
                return Meeting(script)
        return NO_FAULT
