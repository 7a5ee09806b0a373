"""The work itself. It knows operations, slices and records; it knows no queue, request or page.

    listing    the archive's directory is read once; users and rooms are staged      (preparing)
    counting   every message is decoded once: counts per room, unknown authors, bad records
    ---------- the person chooses ---------------------------------------------------------------
    users      staged users -> accounts                                              (importing)
    rooms      staged rooms -> rooms and memberships
    messages   the archive is read again, straight into `Message` and `File`
    finishing  the sums are checked, the operation is done

A phase is slices, a slice is batches, a batch is one transaction that holds the rows, the slice's
cursor, its tally and its failures (`slices.py`). `running.py` takes one slice through all that.
"""
