"""reasoning-fix: puts back the reasoning that clients drop between two requests to a reasoning model."""

__version__ = "0.1.0"
