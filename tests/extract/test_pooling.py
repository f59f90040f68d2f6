"""Masked statistics against the mean of each row alone."""

import numpy as np
import pytest
import torch

from extract.encoders.pooling import masked_mean


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equals_the_mean_of_each_row_alone(dtype: torch.dtype) -> None:
    states = torch.from_numpy(np.random.default_rng(0).normal(3, 5, (4, 50, 6))).to(dtype)
    n_frames = [50, 1, 17, 49]
    expected = [row[:n].double().mean(0) for row, n in zip(states, n_frames, strict=True)]
    mean = masked_mean(states, torch.tensor(n_frames))
    assert mean.dtype == torch.float32
    torch.testing.assert_close(mean.double(), torch.stack(expected), rtol=1e-5, atol=1e-6)


def test_what_lies_behind_the_frames_is_not_read() -> None:
    states = torch.ones(1, 3, 2)
    states[0, 2] = torch.nan
    assert masked_mean(states, torch.tensor([2])).tolist() == [[1.0, 1.0]]


def test_half_precision_is_summed_in_float32() -> None:
    # 4096 + 1 is 4096 in float16 and 65504 its largest number.
    states = torch.full((1, 100_000, 1), 1.0, dtype=torch.float16)
    assert masked_mean(states, torch.tensor([100_000])).item() == 1.0
