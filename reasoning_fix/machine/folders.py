"""Where this person's files lie: the one answer for every command and for the addon."""

from pathlib import Path

import platformdirs

_APPLICATION = "reasoning-fix"


def configuration() -> Path:
    """The folder of the CA, of mitmproxy's own settings for `run`, and of the person's provider table."""
    return Path(platformdirs.user_config_dir(_APPLICATION, appauthor=False))


def data() -> Path:
    """The folder of what is recorded."""
    return Path(platformdirs.user_data_dir(_APPLICATION, appauthor=False))


def store() -> Path:
    """The file of recorded turns, unless another one is named."""
    return data() / "turns.sqlite3"


def logs() -> Path:
    """The folder of the logs."""
    return Path(platformdirs.user_log_dir(_APPLICATION, appauthor=False))


def state() -> Path:
    """The folder of what was set before on this machine."""
    return Path(platformdirs.user_state_dir(_APPLICATION, appauthor=False))


def shown(path: Path) -> str:
    """A path as a person of this machine writes it."""
    home = Path.home()
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else str(path)


def user_providers() -> Path | None:
    """The person's own provider table, if there is one."""
    path = configuration() / "providers.toml"
    return path if path.is_file() else None
