"""Captures that can be shared: no credential, no text, and yet the same matches. Pure but for `flows`."""
