"""Bounds on untrusted input, as the importers see them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what an untrusted export may make us do. Set by `IMPORTOPS_*`, see `conf.py`."""

    max_entries: int = 2_000_000
    max_entry_bytes: int = 4 * 1024**3
    """Unpacked size of one entry."""
    max_total_bytes: int = 1024**4
    """Unpacked size of all entries together."""
    max_ratio: int = 200
    """Unpacked : packed, over the whole archive and for entries past a mebibyte."""
    max_record_bytes: int = 4 * 1024**2
    """One record (a message, a user); larger ones fail alone."""
    whole_entry_bytes: int = 4 * 1024**2
    """Entries up to this size are decoded at once, larger ones record by record. Hostile JSON may
    take forty times its size once decoded, so this bounds memory too."""
