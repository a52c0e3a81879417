"""The AWS configuration: files, profiles and variables. Any fault in it becomes an error that names where the fault is."""

import asyncio
import getpass
import logging
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit

from botocore import exceptions as botocore_errors
from botocore.config import Config
from botocore.session import Session

from lakery_cloud.engine.model import without_none
from lakery_cloud.engine.tokens import RENEW_PAUSE
from lakery_cloud.errors import AccessDenied, ConfigError, CredentialsError, LakeryCloudError, StorageUnavailable
from lakery_cloud.http.exchange import Origin
from lakery_cloud.http.trust import Bundle
from lakery_cloud.providers.s3.refusals import REFUSED_CREDENTIALS, SET_CREDENTIALS
from lakery_cloud.redaction import Secrets, redact_error

if TYPE_CHECKING:
    from aiobotocore.session import AioSession
    from botocore.credentials import Credentials

logger = logging.getLogger("lakery_cloud")

# Settings of a profile, and environment variables, that lead to credentials (AWS SDKs and Tools Reference Guide,
# "Standardized credential providers").
_CREDENTIAL_SETTINGS = (
    *("aws_access_key_id", "role_arn", "sso_session", "sso_start_url", "login_session", "credential_process"),
    "web_identity_token_file",
)
_CREDENTIAL_VARIABLES = (
    *("AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
)
_SECRET = re.compile("secret|access_key_id|session_token|security_token|authorization_token$", re.IGNORECASE)

# Error of the SDK -> our error, and what to do. The first row that fits counts.
_ADVICE: tuple[tuple[tuple[type[Exception], ...], type[LakeryCloudError], str], ...] = (
    ((botocore_errors.ProfileNotFound,), ConfigError, "`aws configure list-profiles` shows the profiles"),
    ((botocore_errors.ConfigParseError,), ConfigError, "Correct the file"),
    ((botocore_errors.InfiniteLoopConfigError,), ConfigError, "Give one of these profiles credentials of its own"),
    (
        (botocore_errors.RefreshWithMFAUnsupportedError,),
        CredentialsError,
        "Set the variables that `aws configure export-credentials --format env` prints, in place of the profile",
    ),
    (
        (botocore_errors.SSOError, botocore_errors.TokenRetrievalError),
        CredentialsError,
        "Log in again: `aws sso login` with the profile",
    ),
    ((botocore_errors.PartialCredentialsError,), CredentialsError, "Add what is missing"),
    (
        (botocore_errors.NoCredentialsError, botocore_errors.CredentialRetrievalError),
        CredentialsError,
        SET_CREDENTIALS,
    ),
    ((botocore_errors.ConnectionError, botocore_errors.HTTPClientError), StorageUnavailable, "Try again later"),
    ((botocore_errors.ClientError,), CredentialsError, "Check the role, its trust policy and its principals"),
    ((botocore_errors.BotoCoreError, ValueError), ConfigError, "Correct it"),
    ((Exception,), CredentialsError, SET_CREDENTIALS),
)


_SUBJECTS: Mapping[type[LakeryCloudError], str] = {
    ConfigError: "the AWS configuration can't be used",
    CredentialsError: "no credentials",
    AccessDenied: "no credentials",
    StorageUnavailable: "no credentials could be fetched",
}


_ROLE = "assume-role"
"""The SDK's name for credentials of a role that a profile names."""
_MFA = "mfa_serial of profile"


def _refuse_prompt(_: str) -> NoReturn:
    raise botocore_errors.RefreshWithMFAUnsupportedError


class AWSConfiguration:
    """What a session of the SDK reads from files and the environment.

    Args:
        session: The session, of botocore, aiobotocore or aioboto3.
        given: Settings of the storage that count before it.
    """

    def __init__(self, session: Any, given: Mapping[str, str | None]) -> None:
        self._session: Session = getattr(session, "_session", session)  # aioboto3 has no public attribute for it
        self._given = without_none(**given)

    def credential_source(self) -> str:
        """The first place where the SDK will find credentials.

        Raises:
            ConfigError: The configuration is broken.
        """
        with self.explained():
            settings, name = self._session.get_scoped_config(), self._profile
            if any(setting in settings for setting in _CREDENTIAL_SETTINGS):
                return f"profile {name!r} of the AWS configuration files"
        for variable in _CREDENTIAL_VARIABLES:
            if os.environ.get(variable):
                return f"{variable} in the environment"
        return "the instance's role, if it has one"

    async def credentials(self) -> Any:
        """The session's credentials; None without any. A role that needs an MFA code has only those of its cache.

        Raises:
            ConfigError, CredentialsError: The configuration is broken.
        """
        with self.explained():
            found = await self._session.get_credentials()
            if getattr(found, "method", None) != _ROLE or not self._needs_mfa or not found.refresh_needed(0):
                return found
            provider = self._session.get_component("credential_provider").get_provider(_ROLE)
            if getattr(provider, "_prompter", None) is not getpass.getpass:  # one of the user's own
                return found
            return await self._loaded(_ROLE, cache=provider.cache)

    async def credentials_again(self, method: str) -> Any:
        """The credentials of a source, past all caches of the SDK; None if it is unknown to the SDK.

        Args:
            method: The SDK's name of the source.
        """
        with self.explained():
            return await self._loaded(method)

    async def _loaded(self, method: str, *, cache: Any = None) -> Any:
        from aiobotocore.credentials import create_credential_resolver

        session = self._asynchronous_session()
        # A source of the session itself may not load twice: it takes the same profile for a loop.
        fresh = create_credential_resolver(session, cache=cache, region_name=self._given.get("region"))
        # The SDK asks for the code on the terminal, and blocks the event loop meanwhile.
        fresh.get_provider(_ROLE)._prompter = _refuse_prompt
        for resolver in (fresh, session.get_component("credential_provider")):
            for provider in resolver.providers:
                if method == provider.METHOD:
                    return await provider.load()
        return None

    def _asynchronous_session(self) -> "AioSession":
        from aiobotocore.session import AioSession

        if isinstance(self._session, AioSession):
            return self._session
        return AioSession(profile=self._session.instance_variables().get("profile"))

    @property
    def _needs_mfa(self) -> bool:
        return any(name.startswith(_MFA) for name, _ in self._values())

    def bundle(self) -> Bundle | None:
        """The certificates that the configuration names: by `AWS_CA_BUNDLE`, or as `ca_bundle` of the profile."""
        with self.explained():
            path = self._session.get_config_variable("ca_bundle")
        if not path:
            return None
        return Bundle(path, "AWS_CA_BUNDLE" if os.environ.get("AWS_CA_BUNDLE") else f"ca_bundle of {self._place}")

    def check(self) -> None:
        """Refuse what makes the SDK fail without saying why.

        Raises:
            ConfigError: The configuration is broken.
        """
        with self.explained():
            section = self._session.get_scoped_config().get("s3")
            # These count for the clients that fetch credentials.
            attempts = self._session.get_config_variable("max_attempts")
            mode = self._session.get_config_variable("retry_mode")
            Config(retries=without_none(total_max_attempts=attempts, mode=mode))
        if isinstance(section, str):
            raise ConfigError(
                f"s3 of {self._place} is a text, and must be a section: remove the text, and indent the settings below it"
            )

    def check_endpoint(self, url: str) -> None:
        """Refuse the URL of the SDK's client if no request can go there.

        Raises:
            ConfigError: It has no port, or no host, or contains credentials.
        """
        with self.explained():
            if not Origin.of(url).host:
                raise ValueError(f"Invalid endpoint: {url}")
        if "@" in urlsplit(url).netloc:
            raise ConfigError(
                f"the URL of the endpoint must not contain credentials, and comes from {self._sources}. Set keys in the "
                "environment or a profile"
            )

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn any error of the SDK, and of the code and files that it uses, into an error that names what is wrong.

        Raises:
            ConfigError, CredentialsError: The configuration is broken, or has no credentials.
            StorageUnavailable: A service that issues credentials can't be reached.
        """
        cause: Exception | None = None
        failure: LakeryCloudError | None = None
        try:
            yield
        except LakeryCloudError:
            raise
        except botocore_errors.ConfigParseError as error:
            cause, failure = error, self._failure(error)
            error.kwargs.pop("error", None)  # it quotes lines of the file, and so does the context
            error.__context__ = None
        except (botocore_errors.BotoCoreError, botocore_errors.ClientError) as error:
            cause, failure = error, self._failure(error)
        except Exception as error:  # noqa: BLE001, credentials come from code of any kind
            failure = self._failure(error)
            _empty(error)
        if failure is not None:
            raise failure from cause

    def _failure(self, error: Exception) -> LakeryCloudError:
        said = " ".join(redact_error(error).split()).rstrip(".")
        kind, advice = next((kind, advice) for types, kind, advice in _ADVICE if isinstance(error, types))
        if isinstance(error, botocore_errors.ConfigParseError):
            said += _line_of(error.kwargs.get("error"))
        elif isinstance(error, botocore_errors.RefreshWithMFAUnsupportedError):
            said = "the role needs an MFA code, which lakery-cloud does not ask for"
        elif isinstance(error, botocore_errors.ClientError):
            if error.response["Error"].get("Code") == "AccessDenied":
                kind, advice = AccessDenied, f"Grant sts:{error.operation_name}, and check the role's trust policy"
            said = f"{error.operation_name} was refused: {said}"
        elif isinstance(error, OSError) and error.filename:
            kind, advice, said = (
                CredentialsError,
                "Correct it",
                f"{str(error.filename)!r} can't be used: {error.strerror}",
            )
        elif self._process and not isinstance(error, botocore_errors.BotoCoreError):
            kind, advice = CredentialsError, "It must print a JSON object with Version, AccessKeyId and SecretAccessKey"
            said = f"what credential_process prints has not the right form ({type(error).__name__})"
        return kind(f"{_SUBJECTS[kind]}: {said}; see {self._origins(said, error) or self._sources}. {advice}")

    def _origins(self, said: str, error: Exception) -> str:
        """The settings and variables whose values a message quotes."""
        quoted = re.findall(r"(?:^|[\s(])['\"`]([^'\"`]{3,})['\"`]", said)
        named: list[str] = []
        if isinstance(error, botocore_errors.PartialCredentialsError) and error.kwargs["provider"] == "env":
            named.append("AWS_ACCESS_KEY_ID in the environment")
        if self._process and "process" in said:
            named.append(f"credential_process of profile {self._profile!r}")
        for name, value in self._values():
            is_quoted = any(text in value for text in quoted)
            # What an empty file leads to.
            is_quoted |= "WebIdentityToken" in said and name.lower().removeprefix("aws_").startswith(
                "web_identity_token"
            )
            is_quoted |= "MFA code" in said and name.startswith(_MFA)
            if value and (is_quoted or re.search(rf"(?<![\w./-]){re.escape(value)}(?![\w/-])", said)):
                named.append(name)
        named = list(dict.fromkeys(named))
        is_in_file = any(" of " in name for name in named) or isinstance(error, botocore_errors.ProfileNotFound)
        return " and ".join(named) + (f" in {self._files}" if is_in_file else "")

    def _values(self) -> Iterator[tuple[str, str]]:
        """What was configured, with the name of its place; without secrets."""
        yield from ((f"the setting {name}", value) for name, value in self._given.items())
        yield from ((name, value) for name, value in os.environ.items() if name.startswith("AWS_") and _is_shown(name))
        configuration, name, seen = self._full_config, self._profile, set[str]()
        profiles = configuration.get("profiles", {})
        while name in profiles and name not in seen:
            seen.add(name)
            yield from ((f"{setting} of profile {name!r}", value) for setting, value in _flat(profiles[name]))
            name = profiles[name].get("source_profile", "")
        for kind, title in (("sso_sessions", "sso-session"), ("services", "services")):
            for section, settings in configuration.get(kind, {}).items():
                yield from ((f"{setting} of [{title} {section}]", value) for setting, value in _flat(settings))

    @property
    def _full_config(self) -> Mapping[str, Any]:
        try:
            found: Mapping[str, Any] = self._session.full_config
        except botocore_errors.BotoCoreError:
            return {}
        return found

    @property
    def _process(self) -> str:
        """The program that prints the credentials; empty without one."""
        return str(self._full_config.get("profiles", {}).get(self._profile, {}).get("credential_process", ""))

    @property
    def _profile(self) -> str:
        return str(self._session.get_config_variable("profile") or "default")

    @property
    def _place(self) -> str:
        return f"profile {self._profile!r} in {self._files}"

    @property
    def _sources(self) -> str:
        """All that the SDK reads: profile, files and variables."""
        variables = sorted(name for name in os.environ if name.startswith("AWS_") and not name.endswith("_FILE"))
        return " and ".join([self._place, ", ".join(variables)] if variables else [self._place])

    @property
    def _files(self) -> str:
        """The files that exist; those that were looked for if none does."""
        paths = [
            os.path.expanduser(str(self._session.get_config_variable(name)))
            for name in ("config_file", "credentials_file")
        ]
        return " and ".join(filter(os.path.exists, paths)) or " or ".join(paths)


_RENEWED = "lakery_cloud_renewed"
_signed_with: ContextVar[Any] = ContextVar("signed_with", default=None)
"""The keys of the latest request of the running task."""


class ExplainedCredentials:
    """The SDK's credentials, whose renewal fails with the errors of `AWSConfiguration.explained`.

    Credentials that are still valid stay in use after that. The SDK uses none in the last ten minutes. Credentials that
    the store refuses are loaded again from their source.

    Args:
        credentials: The SDK's credentials.
        configuration: Where they come from.
        secrets: Keys and tokens are added to these.
    """

    def __init__(self, credentials: Any, configuration: AWSConfiguration, secrets: Secrets) -> None:
        self._use(credentials)
        self._configuration = configuration
        self._secrets = secrets
        self._keys: Any = None
        self._next_attempt = 0.0
        self._renewing = asyncio.Lock()
        self._renewals = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._credentials, name)

    async def get_frozen_credentials(self) -> Any:
        """The keys, renewed if they expire soon."""
        if not self._are_current():
            await self._ask()
        _signed_with.set(self._keys)
        return self._keys

    async def _ask(self) -> None:
        now = time.monotonic()
        if now < self._next_attempt and self._are_valid():
            return
        try:
            with self._configuration.explained():
                keys = await self._credentials.get_frozen_credentials()
        except LakeryCloudError as error:
            if not self._are_valid():
                raise
            logger.info("credentials that expire soon could not be renewed: %s", error)
            self._next_attempt = now + RENEW_PAUSE
        else:
            self._note(keys)

    async def renew(self) -> bool:
        """Load the credentials again after the store has refused a request; return whether there are others now."""
        refused, renewals = _signed_with.get(), self._renewals
        async with self._renewing:
            if self._keys == refused and self._renewals == renewals:
                self._renewals += 1
                await self._load_again()
        return bool(self._keys != refused)

    async def renew_refused(self, response: Any, request_dict: Any, **_: Any) -> int | None:
        """A handler for the SDK's event `needs-retry`: repeats a request once whose credentials the store refused.

        Args:
            response: The SDK's response and the parsed one; None if the request got none.
            request_dict: The request.
        """
        if response is None or str(response[1].get("Error", {}).get("Code")) not in REFUSED_CREDENTIALS:
            return None
        is_first, request_dict["context"][_RENEWED] = _RENEWED not in request_dict["context"], True
        return 0 if is_first and await self.renew() else None

    async def _load_again(self) -> None:
        try:
            with self._configuration.explained():
                found = await self._configuration.credentials_again(self._credentials.method)
                keys = await found.get_frozen_credentials() if found is not None else None
        except LakeryCloudError as error:
            logger.info("credentials that the store refused could not be renewed: %s", error)
            return
        if keys is not None and keys != self._keys:
            self._use(found)
            self._next_attempt = 0.0
            self._note(keys)

    def _use(self, credentials: Any) -> None:
        self._credentials, self._is_fixed = credentials, _is_fixed(credentials)

    def _note(self, keys: Any) -> None:
        self._keys = keys
        self._secrets.add(keys.secret_key, keys.token)

    def _are_current(self) -> bool:
        """Whether the SDK would return the same keys."""
        if self._is_fixed:
            return self._keys is not None
        needs_renewal = getattr(self._credentials, "refresh_needed", None)
        return self._keys is not None and needs_renewal is not None and not needs_renewal()

    def _are_valid(self) -> bool:
        needs_renewal = getattr(self._credentials, "refresh_needed", None)
        return self._keys is not None and needs_renewal is not None and not needs_renewal(0)


class KeySession(Session):  # type: ignore[misc]  # it has no types
    """A session of keys that a configuration file holds, not the AWS configuration."""


class FixedCredentials:
    """Credentials of botocore that never change, with the interface of aiobotocore's.

    Args:
        credentials: The credentials.
    """

    def __init__(self, credentials: "Credentials") -> None:
        self._credentials = credentials

    def __getattr__(self, name: str) -> Any:
        return getattr(self._credentials, name)

    async def get_frozen_credentials(self) -> Any:
        """The keys."""
        return self._credentials.get_frozen_credentials()


def _is_fixed(credentials: Any) -> bool:
    if isinstance(credentials, FixedCredentials):
        return True
    from aiobotocore.credentials import AioCredentials

    return type(credentials) is AioCredentials  # those of a subclass may change


def secrets_of(client: Any) -> Iterator[Any]:
    """The keys of a client of the user's own, as far as they can be read without renewing them."""
    credentials = client._request_signer._credentials
    found = getattr(credentials, "__dict__", {})
    yield from (found.get(name) for name in ("secret_key", "token", "_secret_key", "_token"))


def _empty(error: BaseException | None) -> None:
    """Remove all from an error and its context that may show what a file or a program has."""
    while error is not None:
        error.args = ()
        vars(error).clear()
        error.__traceback__ = None
        if isinstance(error, UnicodeDecodeError):
            error.object = b""
        error = error.__cause__ or error.__context__


def _line_of(error: Any) -> str:
    """Where a parser of INI files found a mistake; empty if it does not say."""
    mistakes: Any = getattr(error, "errors", None) or [(getattr(error, "lineno", None), "")]
    return f", line {mistakes[0][0]}" if mistakes[0][0] else ""


def _flat(settings: Any) -> Iterator[tuple[str, str]]:
    """Names and values of settings, and of the sections among them; without secrets."""
    for name, value in settings.items() if isinstance(settings, Mapping) else ():
        if isinstance(value, Mapping):
            yield from ((f"{name}.{inner}", text) for inner, text in _flat(value))
        elif _is_shown(name):
            yield name, str(value)


def _is_shown(name: str) -> bool:
    return not _SECRET.search(name) or name.upper().endswith("_FILE")
