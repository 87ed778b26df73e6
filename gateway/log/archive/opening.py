"""The archive that a configuration means."""

from importlib.util import find_spec
from pathlib import Path

from gateway.config import ArchiveConfig
from gateway.errors import ConfigError
from gateway.log.archive.reader import Archive
from gateway.log.archive.store import Store, open_store

MISSING = "pyarrow is not installed (the extra `archive`: pip install 'bestow-gateway[archive]')"


def archives(settings: ArchiveConfig) -> bool:
    """Whether records are moved to an archive: it is wanted, and what writes it is installed."""
    return settings.enabled and find_spec("pyarrow") is not None


def archive_url(settings: ArchiveConfig, data_dir: Path) -> str:
    return settings.url or str(data_dir.expanduser().absolute() / "archive")


def store_of(settings: ArchiveConfig, data_dir: Path) -> Store:
    """Raises ConfigError where log.archive.url cannot be used."""
    url = archive_url(settings, data_dir)
    try:
        return open_store(url)
    except (ValueError, ImportError, OSError) as error:
        raise ConfigError(f"log.archive.url: {url} cannot be used: {error}") from None


def archive_of(settings: ArchiveConfig, data_dir: Path) -> Archive | None:
    """None where there is none."""
    return Archive(lambda: store_of(settings, data_dir)) if archives(settings) else None
