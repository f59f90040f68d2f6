"""The step behind the scaler of a weighted `a+b`: each column times its weight.

Conventions
-----------
- Weights in front of a scaler would be undone by it; behind it they say how much the columns of a
  part count in distances, inner products and what a head's penalty costs.
- The only type of ours in a saved head; heads of models without weights hold scikit-learn's alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils import Tags
from sklearn.utils.validation import validate_data

Matrix = NDArray[np.float64]


class ColumnWeights(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Multiplies each column by a weight that is given, not learned.

    Parameters
    ----------
    weights : float, or float64 of shape (n_columns,)
        One number is that of all columns.

    Raises
    ------
    ValueError
        X has another number of columns than there are weights, or a value that is not finite.

    Examples
    --------
    >>> ColumnWeights(np.array([1.0, 0.5])).fit_transform([[3.0, 4.0]]).tolist()
    [[3.0, 2.0]]
    """

    def __init__(self, weights: float | Matrix = 1.0) -> None:
        self.weights = weights

    def __sklearn_tags__(self) -> Tags:
        """Nothing is learned."""
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags

    def fit(self, X: Any, y: Any = None) -> ColumnWeights:
        """Check the number of columns.

        Parameters
        ----------
        X : float, shape (n, n_columns)
        y : ignored
        """
        self._refuse_other_width(validate_data(self, X, dtype=np.float64))
        return self

    def transform(self, X: Any) -> Matrix:
        """Each column times its weight.

        Parameters
        ----------
        X : float, shape (n, n_columns)

        Returns
        -------
        float64, shape (n, n_columns)
        """
        X = validate_data(self, X, dtype=np.float64, reset=False)
        self._refuse_other_width(X)
        return np.asarray(X * self.weights)

    def _refuse_other_width(self, X: Matrix) -> None:
        if np.ndim(self.weights) and np.shape(self.weights) != X.shape[1:]:
            raise ValueError(
                f"X has {X.shape[1]} columns, there are weights for {np.size(self.weights)}"
            )
