"""`make pictures`: make the terminal pictures of the README, in docs/pictures/, by the real commands on a local S3.

A picture shows the output of the command in its first line. Times and rates are those of this machine.
"""

import asyncio
import contextlib
import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import aioboto3
from rich.console import Console
from rich.text import Text

from lakery_cloud.emulators import MotoServer
from lakery_cloud.testing import FaultProxy, Rule, content
from lakery_cloud.testing.faults import Throttle

MiB = 1024**2
FOLDER = Path(__file__).parent.parent / "docs" / "pictures"
COMMAND = [sys.executable, "-c", "from lakery_cloud.cli.main import main; main()"]
BUCKET = "my-bucket"
WIDTH = 110
FILES = {"2025/january.parquet": 60, "2025/february.parquet": 48, "2025/march.parquet": 24, "README.md": 0}
"""Names of files -> MiB of random content."""
BYTES_PER_SECOND = 8 * MiB
"""The rate of each part, slow enough to show progress."""

# How rich replaces its own output.
ERASE_LINE, LINE_UP = "\x1b[2K", "\x1b[1A"
IGNORED = ("\r", "\x1b[?25h", "\x1b[?25l")
_WORDS = re.compile(r"\x1b\[\??\d*[KAhl]|\r|\n|(?:(?!\x1b\[\??\d*[KAhl])[^\r\n])+")


@asynccontextmanager
async def local_s3() -> AsyncGenerator[str]:
    """Create a bucket behind a slow proxy, set credentials and storage in the environment, and yield the server's URL."""
    with MotoServer() as server:
        os.environ.update(server.environment(), AWS_DEFAULT_REGION=server.region)
        async with FaultProxy(
            server.endpoint_url, [Rule(Throttle(BYTES_PER_SECOND), "upload_part", times=None)]
        ) as proxy:
            os.environ["LAKERY_CLOUD_STORAGE"] = f"s3://{BUCKET}?endpoint_url={proxy.url}&part_size={5 * MiB}"
            async with aioboto3.Session().client("s3", endpoint_url=server.endpoint_url) as client:
                await client.create_bucket(Bucket=BUCKET)
            yield server.endpoint_url


def make_files(folder: Path) -> None:
    """Write the files that the commands save."""
    for seed, (name, size) in enumerate(FILES.items()):
        path = folder / "reports" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(size * MiB, seed=seed) or b"# Reports\n")


def printed(folder: Path, *arguments: str) -> str:
    """Run a command on a terminal, and return its output with every frame of its progress."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(WIDTH)}
    with subprocess.Popen([*COMMAND, *arguments], cwd=folder, env=env, stdout=theirs, stderr=theirs):  # noqa: S603, our own
        os.close(theirs)
        shown = bytearray()
        with contextlib.suppress(OSError):  # Linux raises this when the command has ended
            while chunk := os.read(ours, 65536):
                shown += chunk
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def screens(shown: str) -> list[str]:
    """Return the screen before each change by rich, and at the end."""
    found, lines, row = [], [""], 0
    for word in _WORDS.findall(shown):
        if word == ERASE_LINE:
            found.append("\n".join(lines))
            lines[row] = ""
        elif word == LINE_UP:
            row -= 1
        elif word == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif word not in IGNORED:
            lines[row] += word
    return [*found, "\n".join(lines)]


def save(name: str, command: str, text: str) -> None:
    """Write a picture of a command and its output."""
    console = Console(record=True, file=io.StringIO(), width=WIDTH, force_terminal=True, color_system="truecolor")
    console.print(Text.assemble(("$ ", "dim"), (command, "bold")))
    console.print(Text.from_ansi(text.strip("\n")))
    FOLDER.mkdir(parents=True, exist_ok=True)
    svg = console.export_svg(title="", unique_id=f"lakery-cloud-{name}")
    (FOLDER / f"{name}.svg").write_text(f"{svg.rstrip()}\n", "utf-8")
    print(f"{FOLDER.name}/{name}.svg: {command}")


async def main() -> None:
    """Make all pictures."""
    with tempfile.TemporaryDirectory(prefix="lakery-pictures-") as name:
        folder = Path(name)
        make_files(folder)
        async with local_s3() as endpoint_url:

            async def run(*arguments: str) -> str:
                return await asyncio.to_thread(printed, folder, *arguments)

            put = "put -r reports --records reports.jsonl --tag project=apollo"
            shown = screens(await run(*put.split()))
            most = max(screen.count("sending") for screen in shown)
            in_progress = [screen for screen in shown if screen.count("sending") == most]
            save("put", f"lakery-cloud {put}", f"{in_progress[len(in_progress) // 3]}\n...\n{shown[-1]}")
            for command in ("ls", "doctor"):
                save(command, f"lakery-cloud {command}", screens(await run(command))[-1])
            await damage(endpoint_url)
            save("verify", "lakery-cloud verify", screens(await run("verify"))[-1])


async def damage(endpoint_url: str) -> None:
    """Change one byte of stored content."""
    async with aioboto3.Session().client("s3", endpoint_url=endpoint_url) as client:
        listed = await client.list_objects_v2(Bucket=BUCKET)
        key = min(listed["Contents"], key=lambda entry: entry["Size"])["Key"]
        await client.put_object(Bucket=BUCKET, Key=key, Body=b"# reports\n")


if __name__ == "__main__":
    asyncio.run(main())
