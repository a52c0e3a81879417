"""The tables `[storages.<key>]`: one model for each provider, made from its settings class. No SDK is imported.

A setting that is absent here gets the default of the storage class, which also checks all values.
"""

import functools
import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    create_model,
    field_validator,
)

from lakery_cloud.config.secrets import Secret
from lakery_cloud.engine.settings import EngineSettings, Setting, settings_of
from lakery_cloud.engine.urls import check_endpoint_url, parse_url
from lakery_cloud.providers.azure.settings import AzureSettings
from lakery_cloud.providers.file import FileSettings
from lakery_cloud.providers.gcs.settings import GCSSettings
from lakery_cloud.providers.memory import MemorySettings
from lakery_cloud.providers.s3.settings import S3Settings


def _names(value: Any) -> Any:
    """The list in `a,b`, the text of an environment variable."""
    return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value


Size = Annotated[ByteSize, Field(ge=1), AfterValidator(int)]
Names = Annotated[list[str], BeforeValidator(_names)]


class StorageSection(BaseModel):
    """The keys of every storage."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
    scheme: ClassVar[str]
    title: ClassVar[str]
    settings_class: ClassVar[type[EngineSettings]]
    credential_names: ClassVar[tuple[str, ...]]
    """Settings that become credentials."""

    url: str = Field(description="Storage class, bucket and prefix. Its query may hold settings, instead of the table.")
    name: str | None = Field(
        default=None,
        description="Permanent name, of the form `<dotted.name>@v<N>`. By default the name of the class; a second storage "
        "of the same class needs its own. Records contain it: never change it once data is saved.",
    )

    @field_validator("url")
    @classmethod
    def _without_secrets(cls, url: str) -> str:
        readers = dict.fromkeys(cls.settings_class.url_readers(), str)
        _, _, settings = parse_url(url, scheme=cls.scheme, readers=readers)
        if "endpoint_url" in settings:
            check_endpoint_url(settings["endpoint_url"])
        return url

    @field_validator("endpoint_url", check_fields=False)
    @classmethod
    def _endpoint(cls, url: str | None) -> str | None:
        return check_endpoint_url(url) if url else url


def section_of(settings_class: type[EngineSettings], *, scheme: str, title: str) -> type[StorageSection]:
    """The model of a provider's tables.

    Args:
        settings_class: Its settings.
        scheme: Scheme of its URLs.
        title: Its name in the documentation.
    """
    known = [setting for setting in settings_of(settings_class).values() if setting.in_files]
    known += settings_class.file_credentials
    fields: dict[str, Any] = {
        setting.name: (_type_of(setting) | None, Field(default=None, description=setting.meaning)) for setting in known
    }
    name = settings_class.__name__.replace("Settings", "Section")
    section = create_model(name, __base__=StorageSection, __module__=__name__, __doc__=f"{title}.", **fields)
    section.scheme, section.title, section.settings_class = scheme, title, settings_class
    section.credential_names = tuple(
        setting.name for setting in known if setting.is_secret or setting in settings_class.file_credentials
    )
    return section


def _type_of(setting: Setting) -> Any:
    if setting.is_secret:
        return Secret
    if setting.is_list:
        return Names
    return Size if setting.unit == "bytes" else setting.type


S3Section = section_of(S3Settings, scheme="s3", title="Amazon S3")
GCSSection = section_of(GCSSettings, scheme="gs", title="Google Cloud Storage")
AzureSection = section_of(AzureSettings, scheme="az", title="Azure Blob Storage")
FileSection = section_of(FileSettings, scheme="file", title="Files")
MemorySection = section_of(MemorySettings, scheme="memory", title="Memory")

SECTIONS = (S3Section, GCSSection, AzureSection, FileSection, MemorySection)


def scheme_of(value: Any) -> str | None:
    """The scheme of a section's URL, which determines its model."""
    url = value.get("url") if isinstance(value, Mapping) else getattr(value, "url", None)
    return url.partition("://")[0].lower() if isinstance(url, str) and "://" in url else None


if TYPE_CHECKING:
    Section = StorageSection
else:
    _tagged = (Annotated[section, Tag(section.scheme)] for section in SECTIONS)
    Section = Annotated[functools.reduce(operator.or_, _tagged), Discriminator(scheme_of)]
