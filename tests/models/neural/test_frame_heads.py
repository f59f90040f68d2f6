"""Heads on frames: each a second time, utterance by utterance, and padding that changes nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.neural.frame_heads import FRAME_HEADS, LEAST_VARIANCE, Hgfm, local_norm

N_COLUMNS, N_OUTPUTS = 12, 4
LENGTHS = (3, 57, 58, 121, 60, 1)

Numbers = dict[str, np.ndarray]


def softmax(scores: np.ndarray) -> np.ndarray:
    powers = np.exp(scores - scores.max())
    return powers / powers.sum()


def linear(p: Numbers, name: str, x: np.ndarray) -> np.ndarray:
    return x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", 0)


def convolved(p: Numbers, name: str, x: np.ndarray, stride: int = 1) -> np.ndarray:
    """Frame by frame; x is (n_frames, n_in), zeros on both sides."""
    weight, bias = p[f"{name}.weight"], p[f"{name}.bias"]
    width = weight.shape[2]
    x = np.pad(x, ((width // 2, width // 2), (0, 0)))
    starts = range(0, len(x) - width + 1, stride)
    return np.array([np.einsum("oik,ki->o", weight, x[t : t + width]) + bias for t in starts])


def pooled(p: Numbers, x: np.ndarray) -> np.ndarray:
    shares = softmax(linear(p, "pooled.score", x)[:, 0])
    hidden = np.maximum(linear(p, "pooled.hidden", shares @ x), 0)
    return linear(p, "pooled.out", hidden)


def emobox(p: Numbers, x: np.ndarray) -> np.ndarray:
    return linear(p, "out", np.maximum(linear(p, "first", x), 0).mean(0))


def attention(p: Numbers, x: np.ndarray) -> np.ndarray:
    x = linear(p, "projection", x)
    shares = softmax(linear(p, "score", np.tanh(linear(p, "first", x)))[:, 0])
    mean = shares @ x
    variance = shares @ (x**2) - mean**2
    deviation = np.sqrt(np.maximum(variance, LEAST_VARIANCE))
    return linear(p, "out", np.concatenate([mean, deviation]))


def cnn_attention(p: Numbers, x: np.ndarray) -> np.ndarray:
    x = linear(p, "projection", x)
    x = np.pad(x, ((2, 6), (0, 0)))[: 2 + len(x) + 6]
    n = -(-(len(x) - 8) // 5)
    x = np.array([x[5 * i : 5 * i + 5].mean(0) for i in range(n)])
    for i in range(3):
        x = convolved(p, f"convolutions.{i}", x)
        x = np.maximum(x, 0) if i < 2 else x
    return pooled(p, x)


def local(x: np.ndarray) -> np.ndarray:
    """Normalisation over as many channels as there are, half of them on each side."""
    n = x.shape[1]
    squares = np.pad(x**2, ((0, 0), (n // 2, (n - 1) // 2)))
    sums = np.array([squares[:, c : c + n].sum(1) for c in range(n)]).T
    return x / (1 + 1e-4 * sums / n) ** 0.75


def most_of_three(x: np.ndarray) -> np.ndarray:
    return np.array([x[t : t + 3].max(0) for t in range(0, len(x) - 2, 2)])


def fcn(p: Numbers, x: np.ndarray) -> np.ndarray:
    x = linear(p, "projection", x)
    x = np.pad(x, ((0, max(0, 57 - len(x))), (0, 0)))
    x = most_of_three(np.maximum(local(convolved(p, "convolutions.0", x, 4)), 0))
    x = most_of_three(np.maximum(local(convolved(p, "convolutions.1", x)), 0))
    x = np.maximum(local(convolved(p, "convolutions.2", x)), 0)
    x = np.maximum(local(convolved(p, "convolutions.3", x)), 0)
    return pooled(p, most_of_three(local(convolved(p, "convolutions.4", x))))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def recurrent(p: Numbers, x: np.ndarray, suffix: str) -> np.ndarray:
    """A gated recurrent layer, frame by frame."""
    n = p["recurrent.weight_hh_l0"].shape[1]
    h, states = np.zeros(n), []
    for frame in x:
        a = p[f"recurrent.weight_ih_l0{suffix}"] @ frame + p[f"recurrent.bias_ih_l0{suffix}"]
        b = p[f"recurrent.weight_hh_l0{suffix}"] @ h + p[f"recurrent.bias_hh_l0{suffix}"]
        reset, update = sigmoid(a[:n] + b[:n]), sigmoid(a[n : 2 * n] + b[n : 2 * n])
        new = np.tanh(a[2 * n :] + reset * b[2 * n :])
        h = (1 - update) * new + update * h
        states.append(h)
    return np.array(states)


def remembering(p: Numbers, x: np.ndarray) -> np.ndarray:
    """A layer of long short-term memory, frame by frame; gates: in, forget, new, out."""
    n = p["recurrent.weight_hh_l0"].shape[1]
    h, cell, states = np.zeros(n), np.zeros(n), []
    for frame in x:
        sums = p["recurrent.weight_ih_l0"] @ frame + p["recurrent.bias_ih_l0"]
        sums = sums + p["recurrent.weight_hh_l0"] @ h + p["recurrent.bias_hh_l0"]
        into, forget, new, out = np.split(sums, 4)
        cell = sigmoid(forget) * cell + sigmoid(into) * np.tanh(new)
        h = sigmoid(out) * np.tanh(cell)
        states.append(h)
    return np.array(states)


def cnn_lstm(p: Numbers, x: np.ndarray) -> np.ndarray:
    x = np.maximum(convolved(p, "convolutions.0", x, 2), 0)
    x = np.maximum(convolved(p, "convolutions.1", x), 0)
    above = {key.removeprefix("hgfm."): p[key] for key in p if key.startswith("hgfm.")}
    return hgfm(above, remembering(p, x))


def hgfm(p: Numbers, x: np.ndarray) -> np.ndarray:
    features = linear(p, "projection", x)
    halves = [recurrent(p, features, ""), recurrent(p, features[::-1], "_reverse")[::-1]]
    last = [halves[0][-1], halves[1][0]]
    attended = []
    for i, (half, query) in enumerate(zip(halves, last, strict=True)):
        inner = np.tanh(linear(p, f"first.{i}", half) + linear(p, f"query.{i}", query))
        attended.append(softmax(linear(p, f"score.{i}", inner)[:, 0]) @ half)
    return linear(p, "out", np.concatenate([*last, *attended, features.mean(0)]))


SECOND: dict[str, Callable[[Numbers, np.ndarray], np.ndarray]] = {
    "emobox": emobox,
    "attention": attention,
    "fcn": fcn,
    "cnn-attention": cnn_attention,
    "hgfm": hgfm,
    "cnn-lstm": cnn_lstm,
}


def head_of(name: str) -> nn.Module:
    torch.manual_seed(3)
    return FRAME_HEADS[name](N_COLUMNS, N_OUTPUTS).eval()


def batch(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Utterances with numbers behind them that are no zeros."""
    x = torch.randn(len(LENGTHS), 130, N_COLUMNS, generator=torch.Generator().manual_seed(0))
    return x.to(dtype), torch.tensor(LENGTHS)


def test_every_head_has_a_second_implementation() -> None:
    assert set(SECOND) == set(FRAME_HEADS)


@pytest.mark.parametrize("name", SECOND)
def test_outputs_are_those_of_each_utterance_alone(name: str) -> None:
    head = head_of(name)
    x, lengths = batch()
    p = {key: value.detach().double().numpy() for key, value in head.named_parameters()}
    with torch.no_grad():
        together = head(x, lengths).double().numpy()
        for i, n in enumerate(LENGTHS):
            expected = SECOND[name](p, x[i, :n].double().numpy())
            np.testing.assert_allclose(together[i], expected, atol=2e-6)
            alone = head(x[i : i + 1, :n], lengths[i : i + 1])
            np.testing.assert_allclose(together[i], alone[0].double().numpy(), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", SECOND)
def test_gradients_are_those_of_each_utterance_alone(name: str) -> None:
    head = head_of(name).double()
    x, lengths = batch(torch.float64)
    x.requires_grad_()
    leaves = list(head.parameters())
    slopes = torch.randn(len(LENGTHS), N_OUTPUTS, dtype=torch.float64)
    together = torch.autograd.grad((head(x, lengths) * slopes).sum(), [*leaves, x])
    rows = [head(x[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(LENGTHS)]
    alone = torch.autograd.grad((torch.cat(rows) * slopes).sum(), [*leaves, x])
    for found, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_the_last_states_of_hgfm_are_those_of_own_frames() -> None:
    head = head_of("hgfm")
    assert isinstance(head, Hgfm)
    assert head.out.in_features == 4 * 128 + 128


@pytest.mark.parametrize("n_channels", [5, 8, 96])
def test_the_norm_over_channels_is_torchs(n_channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 30 * torch.randn(3, n_channels, 7, dtype=torch.float64, generator=generator)
    slope = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    x.requires_grad_()
    found, expected = local_norm(x), nn.functional.local_response_norm(x, n_channels)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
    gradients = [torch.autograd.grad((y * slope).sum(), x) for y in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)
