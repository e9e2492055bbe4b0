"""Where samples come from: folders and manifests, on disk or behind any fsspec URL."""

from __future__ import annotations

from mining.sources.files import read_bytes, sha256
from mining.sources.folder import FolderSource
from mining.sources.keys import key_from_os_path, os_path_from_key, url_for
from mining.sources.manifest import ManifestSource
from mining.sources.opening import Source, open_source
from mining.sources.roots import resolve_under_roots

__all__ = [
    "FolderSource",
    "ManifestSource",
    "Source",
    "key_from_os_path",
    "open_source",
    "os_path_from_key",
    "read_bytes",
    "resolve_under_roots",
    "sha256",
    "url_for",
]
