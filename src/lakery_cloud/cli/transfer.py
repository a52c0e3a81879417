"""`put` and `get`."""

from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from lakery_cloud.cli.common import Quiet, StorageUrl, Transfers, open_storage, record_of
from lakery_cloud.cli.files import chunks_of_stdin, read_line_of_stdin, write_stdout
from lakery_cloud.cli.tags import read_tags
from lakery_cloud.digest import DigestingStream
from lakery_cloud.engine.attributes import check_tags
from lakery_cloud.engine.object_storage import ObjectStorage
from lakery_cloud.errors import ConfigError
from lakery_cloud.files import DEFAULT_TYPE, chunks_of, guess_content_type, write_file
from lakery_cloud.registry import ContentRecord, StorageRegistry
from lakery_cloud.storage import Digest, SerializedDataStream

STANDARD_INPUT = "-"


async def put(
    *files: Annotated[str, Parameter(allow_leading_hyphen=True)],
    storage: StorageUrl = None,
    content_type: Annotated[str | None, Parameter(name=["--content-type", "-t"])] = None,
    content_encoding: str | None = None,
    tag: Annotated[tuple[str, ...], Parameter(name="--tag", negative="", consume_multiple=False)] = (),
    quiet: Quiet = False,
) -> None:
    """Save files, and print one record (a line of JSON) for each.

    A record is what `get` needs. Content that is stored already is not stored again, and large files not sent again.

    Example: `lakery-cloud put report.pdf --tag project=apollo --storage s3://bucket/reports`

    Args:
        files: Files to save; `-` is standard input.
        storage: URL of the storage.
        content_type: Media type; by default guessed from the file's name.
        content_encoding: Content coding of the bytes, such as gzip.
        tag: A tag as key=value; may be given up to 10 times.
        quiet: Show no progress.
    """
    tags = check_tags(read_tags(tag))
    _check_files(files)
    transfers = Transfers(quiet=quiet)
    async with open_storage(storage) as target:
        for file in files:
            with transfers.show():
                record = await _put(file, target, transfers, tags, content_type, content_encoding)
            print(record.to_json(), flush=True)


async def get(
    target: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    storage: StorageUrl = None,
    quiet: Quiet = False,
) -> None:
    """Load content, verified, to standard output or a file.

    Example: `lakery-cloud put a.bin | lakery-cloud get - -o b.bin`

    Args:
        target: A record's JSON, a bare content hash, or `-` for a record on standard input.
        output: File to write; it is replaced only when all content has arrived and is right.
        storage: URL of the storage.
        quiet: Show no progress.
    """
    if output is not None and not output.parent.is_dir():
        raise ConfigError(f"the folder {str(output.parent)!r} of the output is not there")
    if output is not None and output.is_dir():
        raise ConfigError(f"the output {str(output)!r} is a folder; name a file")
    transfers = Transfers(quiet=quiet)
    async with open_storage(storage) as source:
        record = await record_of(await read_line_of_stdin() if target == STANDARD_INPUT else target, source)
        stream = StorageRegistry([source]).load_stream(record)["data_stream"]
        with transfers.show():
            name = output.name if output else record.content_hash[:12]
            counted = transfers.counted(stream, description=name, total=record.content_size)
            async with aclosing(counted) as chunks:
                await (write_file(output, chunks) if output else write_stdout(chunks))


async def _put(
    file: str,
    target: ObjectStorage[Any],
    transfers: Transfers,
    tags: dict[str, str],
    content_type: str | None,
    content_encoding: str | None,
) -> ContentRecord:
    path = Path(file)
    is_stdin = file == STANDARD_INPUT
    size = path.stat().st_size if path.is_file() and not is_stdin else None
    guessed = DEFAULT_TYPE if is_stdin else guess_content_type(path)

    def opened(what: str) -> SerializedDataStream:
        chunks = chunks_of_stdin() if is_stdin else chunks_of(path)
        return SerializedDataStream(
            data_stream=transfers.counted(chunks, description=f"{what} {path.name}", total=size),
            content_type=content_type or guessed,
            content_encoding=content_encoding,
        )

    # A file that takes many requests is hashed first: one request then tells whether any of it must be sent.
    digest: Digest | None = None
    if size is not None and size > target.settings.part_size:
        digest = await _digest(opened("hashing"))
    return await StorageRegistry([target]).save_stream(opened("sending"), tags=tags, digest=digest)


async def _digest(stream: SerializedDataStream) -> Digest:
    digesting = DigestingStream(stream)
    async for _ in digesting:
        pass
    return digesting.get_digest()


def _check_files(files: tuple[str, ...]) -> None:
    if not files:
        raise ConfigError("no file was given; name one or more, or - for standard input")
    for file in files:
        if file != STANDARD_INPUT and not Path(file).exists():
            raise ConfigError(f"there is no file {file!r}")
        if file != STANDARD_INPUT and Path(file).is_dir():
            raise ConfigError(f"{file!r} is a folder; name files")
    if files.count(STANDARD_INPUT) > 1:
        raise ConfigError("standard input can be read only once")
