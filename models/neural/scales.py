"""What columns, or targets, are brought to before a network sees them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Affine:
    """Columns as (x - centre) / scale; both float32, shape (n_columns,)."""

    centre: Vector
    scale: Vector

    @classmethod
    def of(cls, rows: NDArray[np.floating]) -> Affine:
        """Mean 0 and deviation 1 (with n) over rows; a constant column is centred alone."""
        scale = np.asarray(np.std(rows, axis=0, dtype=np.float64))
        scale[scale == 0] = 1
        centre = np.asarray(np.mean(rows, axis=0, dtype=np.float64))
        return cls(centre.astype(np.float32), scale.astype(np.float32))

    def applied(self, rows: Vector) -> Vector:
        """Rows on that scale, shape (n, n_columns)."""
        return np.asarray((rows - self.centre) / self.scale)

    def undone(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values brought back from it, shape (n, n_columns)."""
        return values * self.scale + self.centre
