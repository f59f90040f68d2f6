"""HGFM for many models: the module's numbers, whatever the padding, and the bits of one alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from benchmarks.packed_hgfm import PackedHgfm
from models.neural.recurrent import hgfm_outputs

N, N_COLUMNS = 6, 10
LONGEST = (37, 8, 52, 1, 20, 33, 9, 17, 40, 25)
SHAPES = ((128, 128, 4), (5, 9, 1))
"""Projection, hidden width, outputs: as they are by default, and such as no vector divides."""

Batch = tuple[list[Tensor], list[Tensor]]


def modules(shape: tuple[int, int, int], n_models: int, dtype: torch.dtype) -> list[PackedHgfm]:
    projection, hidden, n_outputs = shape
    torch.manual_seed(1)
    return [PackedHgfm(N_COLUMNS, n_outputs, projection, hidden).to(dtype) for _ in range(n_models)]


def stacked(heads: Sequence[nn.Module]) -> dict[str, Tensor]:
    named = [dict(head.named_parameters()) for head in heads]
    return {
        name: torch.stack([each[name].detach() for each in named]).requires_grad_()
        for name in named[0]
    }


def batches(n_models: int, dtype: torch.dtype) -> Batch:
    """Utterances of each model, in no order of their lengths; its longest, and a single frame."""
    generator = torch.Generator().manual_seed(0)
    xs, lengths = [], []
    for longest in LONGEST[:n_models]:
        n = torch.randint(1, longest + 1, (N,), generator=generator)
        n[2], n[4] = longest, 1
        x = torch.randn(N, longest, N_COLUMNS, generator=generator, dtype=torch.float64)
        x[torch.arange(longest) >= n.unsqueeze(1)] = 0
        xs.append(x.to(dtype))
        lengths.append(n)
    return xs, lengths


def slopes(n_models: int, n_outputs: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(n_models, N, n_outputs, generator=generator, dtype=dtype)


def outputs_and_gradients(
    p: dict[str, Tensor], xs: list[Tensor], lengths: list[Tensor], slope: Tensor
) -> list[Tensor]:
    """Outputs, and gradients of each parameter; the first axis is that of models."""
    found = hgfm_outputs(p, xs, lengths)
    return [found.detach(), *torch.autograd.grad((found * slope).sum(), list(p.values()))]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("dtype", "atol", "share"), [(torch.float32, 1e-6, 1e-5), (torch.float64, 1e-14, 1e-12)]
)
def test_outputs_and_gradients_are_those_of_the_module(
    shape: tuple[int, int, int], dtype: torch.dtype, atol: float, share: float
) -> None:
    heads = modules(shape, 4, dtype)
    p = stacked(heads)
    xs, lengths = batches(4, dtype)
    slope = slopes(4, shape[2], dtype)
    found, *gradients = outputs_and_gradients(p, xs, lengths, slope)
    for k, head in enumerate(heads):
        expected = head(xs[k], lengths[k])
        (expected * slope[k]).sum().backward()
        torch.testing.assert_close(found[k], expected.detach(), rtol=0, atol=atol)
        reference = {name: value.grad for name, value in head.named_parameters()}
        largest = max(float(grad.abs().max()) for grad in reference.values() if grad is not None)
        for name, gradient in zip(p, gradients, strict=True):
            torch.testing.assert_close(
                gradient[k], reference[name], rtol=0, atol=share * largest, msg=name
            )


def test_frames_get_gradients_too() -> None:
    heads = modules((20, 24, 3), 3, torch.float64)
    xs, lengths = batches(3, torch.float64)
    slope = slopes(3, 3, torch.float64)
    xs = [x.requires_grad_() for x in xs]
    found = torch.autograd.grad((hgfm_outputs(stacked(heads), xs, lengths) * slope).sum(), xs)
    for head, x, n, own, gradient in zip(heads, xs, lengths, slope, found, strict=True):
        (expected,) = torch.autograd.grad((head(x, n) * own).sum(), x)
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("filling", [0.0, 1e4])
def test_padding_changes_nothing(filling: float) -> None:
    p = stacked(modules((20, 24, 3), 3, torch.float32))
    xs, lengths = batches(3, torch.float32)
    slope = slopes(3, 3, torch.float32)
    longer = []
    for x, n in zip(xs, lengths, strict=True):
        more = torch.full((N, x.shape[1] + 11, N_COLUMNS), filling)
        for row, (frames, length) in enumerate(zip(x, n, strict=True)):
            more[row, :length] = frames[:length]
        longer.append(more)
    found = outputs_and_gradients(p, xs, lengths, slope)
    padded = outputs_and_gradients(p, longer, lengths, slope)
    for few, many in zip(found, padded, strict=True):
        torch.testing.assert_close(many, few, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_models", [2, 4, 10])
def test_a_model_has_the_bits_that_it_has_alone(shape: tuple[int, int, int], n_models: int) -> None:
    p = stacked(modules(shape, n_models, torch.float32))
    xs, lengths = batches(n_models, torch.float32)
    slope = slopes(n_models, shape[2], torch.float32)
    among = outputs_and_gradients(p, xs, lengths, slope)
    for k in range(n_models):
        own = {name: value.detach()[k : k + 1].requires_grad_() for name, value in p.items()}
        alone = outputs_and_gradients(own, xs[k : k + 1], lengths[k : k + 1], slope[k : k + 1])
        for many, single in zip(among, alone, strict=True):
            assert many[k : k + 1].numpy().tobytes() == single.numpy().tobytes()


def test_no_bit_depends_on_where_frames_and_parameters_lie() -> None:
    p = stacked(modules((20, 24, 3), 1, torch.float32))
    xs, lengths = batches(1, torch.float32)
    slope = slopes(1, 3, torch.float32)
    expected = outputs_and_gradients(p, xs, lengths, slope)

    def moved(x: Tensor) -> Tensor:
        room = torch.zeros(x.numel() + 3)[3:]
        return room.view(x.shape).copy_(x.detach())

    shifted = {name: moved(value).requires_grad_() for name, value in p.items()}
    found = outputs_and_gradients(shifted, [moved(xs[0])], lengths, slope)
    assert moved(xs[0]).data_ptr() % 64
    assert [each.numpy().tobytes() for each in found] == [
        each.numpy().tobytes() for each in expected
    ]


def test_all_at_once_is_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other devices do, done on a CPU."""
    from models.neural import recurrent

    p = stacked(modules((20, 24, 3), 3, torch.float64))
    xs, lengths = batches(3, torch.float64)
    slope = slopes(3, 3, torch.float64)
    expected = outputs_and_gradients(p, xs, lengths, slope)
    longest = max(x.shape[1] for x in xs)
    padded = [nn.functional.pad(x, (0, 0, 0, longest - x.shape[1])) for x in xs]
    outputs = recurrent._outputs(p, torch.stack(padded), torch.stack(lengths))
    gradients = torch.autograd.grad((outputs * slope).sum(), list(p.values()))
    for found, alone in zip([outputs.detach(), *gradients], expected, strict=True):
        torch.testing.assert_close(found, alone, rtol=1e-10, atol=1e-13)


def test_autocast_changes_nothing() -> None:
    p = stacked(modules((20, 24, 3), 2, torch.float32))
    xs, lengths = batches(2, torch.float32)
    slope = slopes(2, 3, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = hgfm_outputs(p, [x.bfloat16() for x in xs], lengths)
    assert outputs.dtype == torch.float32
    xs = [x.bfloat16().float() for x in xs]
    expected = outputs_and_gradients(p, xs, lengths, slope)
    found = [outputs.detach(), *torch.autograd.grad((outputs * slope).sum(), list(p.values()))]
    for cast, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(cast, plain, rtol=0, atol=0)


def test_going_back_twice_is_refused() -> None:
    p = stacked(modules((5, 9, 1), 1, torch.float32))
    loss = hgfm_outputs(p, *batches(1, torch.float32)).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
