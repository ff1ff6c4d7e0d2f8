"""Vectors that show themselves in one line, as the result of a cell."""

from __future__ import annotations

from typing import Any

import numpy as np

FEW = 4
"""Values of each vector that are shown."""


class Vectors(np.ndarray[Any, np.dtype[np.float32]]):
    """A float32 array of shape (texts, dimensions) with a short repr. Results of arithmetic and parts of it are plain arrays."""

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        """The result of arithmetic, as a plain array."""
        return array[()] if return_scalar else np.asarray(array)

    def __getitem__(self, key: Any) -> Any:
        """A part, as a plain array."""
        return np.asarray(self)[key]

    def __repr__(self) -> str:
        if self.ndim != 2:
            return repr(np.asarray(self))
        texts, width = self.shape
        first = ", ".join(f"{value:.4f}" for value in np.asarray(self)[0, :FEW]) if texts else ""
        more = ", ..." if width > FEW else ""
        return f"Vectors({texts:,} {'text' if texts == 1 else 'texts'} x {width:,} dimensions, float32; first: [{first}{more}])"

    __str__ = __repr__
