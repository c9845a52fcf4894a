"""Stored documents: they go on when their readers leave, and can be read again, here or at another server process."""
