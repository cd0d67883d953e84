"""What the environment decides: the marketplace's address, the API key, the store's place, the clock's speed; and what of it
child processes are given.

=====================  =====================================================================================
``VAST_URL``           the marketplace (default ``https://console.vast.ai``); the official client reads it too
``VAST_API_KEY``       the API key; without it the official client's own files are read
``VASTBENCH_STORE``    the store: a file path or a database URL (default: the platform's data directory)
``VASTBENCH_SPEED``    the speed of an emulator started by hand; refused unless ``VAST_URL`` is on loopback
=====================  =====================================================================================
"""

import ipaddress
import logging
import os
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from vastbench.errors import SettingsError

log = logging.getLogger(__name__)

LIVE_URL = "https://console.vast.ai"

_KEY, _STORE = frozenset({"VAST_API_KEY"}), frozenset({"VASTBENCH_STORE", "PGPASSWORD"})
"""Variables that hold secrets: the API key; the store's password."""


class Settings(BaseSettings):
    """The environment's settings, checked. ``vast_api_key`` never shows in a repr."""

    model_config = SettingsConfigDict(extra="ignore")

    vast_url: str = LIVE_URL
    vast_api_key: SecretStr | None = None
    vastbench_speed: float = Field(default=1.0, gt=0, lt=10_000)

    @classmethod
    def from_environment(cls, *, api_key_file: Path | None = None) -> "Settings":
        """Read the environment and, for the key, ``api_key_file`` first and the official client's files last.

        Raises SettingsError for a malformed value, an unreadable key file, or a scaled clock on a remote marketplace.
        """
        try:
            settings = cls()
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]).upper()
            raise SettingsError(f"{name} has an unusable value: {first['msg']}.", hint=f"Correct or unset {name}.") from None
        if settings.vastbench_speed != 1 and not is_loopback(settings.vast_url):
            raise SettingsError(
                f"VASTBENCH_SPEED is {settings.vastbench_speed:g}, but VAST_URL is not on this machine.",
                hint="Only an emulator's clock can run faster: unset VASTBENCH_SPEED.",
            )
        if api_key_file is not None:
            settings.vast_api_key = _key_from(Path(api_key_file))
        elif settings.vast_api_key is None:
            found = [path for path in official_key_files() if path.is_file()]
            settings.vast_api_key = _key_from(found[0]) if found else None
        return settings

    def require_key(self) -> SecretStr:
        """The API key. Raises SettingsError when there is none."""
        if self.vast_api_key is None or not self.vast_api_key.get_secret_value().strip():
            raise SettingsError(
                "There is no API key.",
                hint="Set VAST_API_KEY, give --api-key-file FILE, or run `vastai set api-key`. A notebook that vastbench or "
                "papermill executes is given VAST_API_KEY only when its parameter live is True.",
            )
        return self.vast_api_key


def environment_for_child(*, key: bool = False, store: bool = False) -> dict[str, str]:
    """The environment for a process that we start: ours, without the secrets that it has no use for.

    ``key``: it rents live; ``store``: it may open the default store.
    """
    withheld = frozenset() if key else _KEY
    withheld |= frozenset() if store else _STORE
    return {name: value for name, value in os.environ.items() if name.upper() not in withheld}


def official_key_files() -> list[Path]:
    """Where the official client keeps its key, in its own order of preference."""
    ensure_home()
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "vastai"
    return [config / "vast_tfa_key", config / "vast_api_key", Path.home() / ".vast_api_key"]


def ensure_home() -> None:
    """Give this process and its children a home where the user has none: no HOME, or one that is no absolute path; without an
    entry among the users either, as in containers, a temporary one. Raises SettingsError when somebody else has taken its
    place."""
    given = os.environ.get("HOME", "")
    if Path(given).is_absolute():
        return
    os.environ.pop("HOME", None)
    try:
        home = Path.home()
    except RuntimeError:
        home = Path(tempfile.gettempdir()) / f"vastbench-home-{os.geteuid()}"
        home.mkdir(mode=0o700, exist_ok=True)
        if home.lstat().st_uid != os.geteuid():
            raise SettingsError(
                f"There is no home directory, and {home} belongs to somebody else.", hint="Set HOME to a folder of yours."
            ) from None
        log.warning("There is no home directory (HOME is %s): %s is used instead.", repr(given) if given else "not set", home)
    else:
        if given:
            log.warning("HOME is %r, no absolute path: %s is used instead.", given, home)
    os.environ["HOME"] = str(home)


def data_folder() -> Path:
    """Where our files lie when no place is named: the platform's data directory."""
    from platformdirs import user_data_path

    ensure_home()
    return user_data_path("vastbench")


def is_loopback(url: str) -> bool:
    """Whether ``url`` names this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def default_store() -> str | Path:
    """The store where none is named: what VASTBENCH_STORE says, else a file in :func:`data_folder`."""
    return os.environ.get("VASTBENCH_STORE") or data_folder() / "vastbench.sqlite"


def _key_from(path: Path) -> SecretStr:
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SettingsError(
            f"The API key file {path} cannot be read: {reason}.", hint="Give --api-key-file a readable file."
        ) from None
    if not text or any(c.isspace() for c in text):
        raise SettingsError(f"The API key file {path} does not hold one key.", hint="It must hold the key and nothing else.")
    return SecretStr(text)
