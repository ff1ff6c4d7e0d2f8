"""Modules that a server's process imports: they use the standard library alone, because its environment may lack this package."""

__all__: list[str] = []
