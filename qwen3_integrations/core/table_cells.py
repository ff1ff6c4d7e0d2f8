"""The styles of cells in plain tables: some hosts (marimo) style no tables, and columns without padding would run into each other."""

LEFT = "text-align:left;padding:2px 8px"

CELL = f"style='{LEFT}'"
"""The attribute of a cell with text."""

CELL_RIGHT = "style='text-align:right;padding:2px 8px'"
"""The attribute of a cell with a number."""
