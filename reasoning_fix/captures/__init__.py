"""Flow files of mitmproxy: read, explained, played again, and made fit to be shared."""
