"""Bytes in, values out: content coding and server-sent events. No I/O, no logging, no knowledge of chat."""
