"""A strict stand-in for the providers, on loopback."""
