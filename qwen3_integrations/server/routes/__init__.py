"""Internal: the routes of the server, one module for each API."""

__all__: list[str] = []
