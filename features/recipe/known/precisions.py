"""The precisions that `[extract] precision` may name; `extract.encoders` computes in them."""

from __future__ import annotations

PRECISIONS = ("float32", "bfloat16", "float16")
"""The names of torch's types."""

FRAME_DTYPES = ("float16", "float32")
"""What `[extract] frames_dtype` may name: numpy and HDF5 have both."""
