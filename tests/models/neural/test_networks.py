"""Networks against a second implementation, in values and gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.neural.draws import hashed
from models.neural.networks import (
    EPSILON,
    Mlp,
    Network,
    Pass,
    Superb,
    initial,
    layout,
)
from models.neural.stacks import Layout, kept, normed, product

N_OUTPUTS = 5


def stack(network: Network, n_columns: int, n_models: int, dtype: torch.dtype) -> tuple:
    """Parameters and running statistics of models of their own seeds."""
    specs = network.parameters(n_columns, N_OUTPUTS)
    flat = np.stack([initial(specs, seed, "f") for seed in range(n_models)])
    p = layout(specs).views(torch.from_numpy(flat).to(dtype))
    leaves = {name: value.detach().requires_grad_() for name, value in p.items()}
    running = {
        name: torch.full((n_models, *spec.shape), spec.middle, dtype=dtype)
        for name, spec in network.running().items()
    }
    return leaves, running


def gradients(outputs: Tensor, p: dict[str, Tensor], slopes: Tensor) -> dict[str, Tensor]:
    found = torch.autograd.grad((outputs * slopes).sum(), list(p.values()))
    return dict(zip(p, found, strict=True))


class Reference(nn.Module):
    """The same network by torch's own modules, with a given mask in place of each dropout."""

    def __init__(self, network: Mlp, n_columns: int, masks: list[Tensor]) -> None:
        super().__init__()
        widths = [n_columns, *network.hidden]
        self.lines = nn.ModuleList(
            nn.Linear(a, b) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(b) for b in network.hidden)
        self.out = nn.Linear(widths[-1], N_OUTPUTS)
        self.masks, self.batch_norm = masks, network.batch_norm

    def forward(self, x: Tensor) -> Tensor:
        for line, norm, mask in zip(self.lines, self.norms, self.masks, strict=True):
            x = line(x).relu() * mask
            x = norm(x) if self.batch_norm else x
        return self.out(x)


NAMES = {
    "weight": "lines.{}.weight",
    "bias": "lines.{}.bias",
    "norm.gain": "norms.{}.weight",
    "norm.bias": "norms.{}.bias",
}


def theirs(name: str) -> str:
    """What torch calls a parameter of ours."""
    at, _, kind = name.partition(".")
    return name if at == "out" else NAMES[kind].format(at)


@pytest.mark.parametrize("hidden", [(), (7,), (256, 64), (64, 33, 16, 16)])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_mlp_is_that_of_torchs_modules(hidden: tuple[int, ...], batch_norm: bool) -> None:
    network, rows, n = Mlp(hidden, batch_norm), 32, 27
    p, running = stack(network, 19, 3, torch.float64)
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(3, rows, 19)))
    slopes = torch.from_numpy(rng.normal(size=(3, rows, N_OUTPUTS)))
    weight = torch.zeros(3, rows, dtype=torch.float64)
    weight[:, :n] = 1
    slopes[:, n:] = 0
    keys, rates = [(seed, "f", 4) for seed in range(3)], torch.tensor([0.0, 0.3, 0.5])
    run = Pass(dict(running), weight, keys, rates)
    outputs = network.forward(p, x, run)
    grads = gradients(outputs, p, slopes)
    after = Pass(run.running)
    for k in range(3):
        names = [hashed((k, "f", 4, f"{i}"), 4) for i in range(len(hidden))]
        drawn = [kept(rows, width, [name], rates[k : k + 1])
                 for name, width in zip(names, hidden, strict=True)]  # fmt: skip
        masks = [mask[0, :n].double() for mask in drawn]
        module = Reference(network, 19, masks).double()
        own = dict(module.named_parameters())
        with torch.no_grad():
            for name, value in p.items():
                own[theirs(name)].copy_(value[k])
        expected = module(x[k, :n])
        torch.testing.assert_close(outputs[k, :n], expected, rtol=1e-10, atol=1e-12)
        (expected * slopes[k, :n]).sum().backward()
        for name, value in grads.items():
            torch.testing.assert_close(value[k], own[theirs(name)].grad, rtol=1e-8, atol=1e-10)
        module.eval()
        module.masks = [torch.ones(())] * len(hidden)
        applied = network.forward(p, x, after)
        torch.testing.assert_close(applied[k], module(x[k]), rtol=1e-10, atol=1e-12)


def on_frames(p: dict[str, np.ndarray], utterances: list[np.ndarray]) -> np.ndarray:
    """The head of s3prl on frames: utterances of shape (n_layers, n_frames, width), padded.

    Weighted sum of layers, projection of every frame, the mean over an utterance's own frames, the
    linear layer.
    """
    shares = np.exp(p["layers"]) / np.exp(p["layers"]).sum()
    longest = max(one.shape[1] for one in utterances)
    padded = np.zeros((len(utterances), longest, utterances[0].shape[2]))
    for row, one in zip(padded, utterances, strict=True):
        row[: one.shape[1]] = sum(share * states for share, states in zip(shares, one, strict=True))
    projected = padded @ p["projection.weight"].T + p["projection.bias"]
    means = np.array([row[: one.shape[1]].mean(0)
                      for row, one in zip(projected, utterances, strict=True)])  # fmt: skip
    return means @ p["out.weight"].T + p["out.bias"]


def frames_by_torch(p: dict[str, Tensor], utterances: list[Tensor]) -> Tensor:
    """As `on_frames`, for gradients, utterance by utterance."""
    shares = p["layers"].softmax(0)
    rows = [
        nn.functional.linear(
            torch.tensordot(shares, one, dims=1), p["projection.weight"], p["projection.bias"]
        ).mean(0)
        for one in utterances
    ]
    return nn.functional.linear(torch.stack(rows), p["out.weight"], p["out.bias"])


def test_superb_from_means_is_that_of_frames() -> None:
    rng = np.random.default_rng(1)
    n_layers, width, rows = 13, 48, 32
    network = Superb(n_layers)
    p, _ = stack(network, n_layers * width, 2, torch.float32)
    with torch.no_grad():
        p["layers"] += torch.from_numpy(rng.normal(size=(2, n_layers))).float()
    utterances = [rng.normal(size=(n_layers, int(t), width)) for t in rng.integers(9, 90, rows)]
    means = np.array([one.mean(1).ravel() for one in utterances], dtype=np.float32)
    x = torch.from_numpy(np.stack([means, means]))
    slopes = torch.from_numpy(rng.normal(size=(2, rows, N_OUTPUTS))).float()
    outputs = network.forward(p, x, Pass({}, torch.ones(2, rows)))
    grads = gradients(outputs, p, slopes)
    frames = [torch.from_numpy(one) for one in utterances]
    for k in range(2):
        numbers = {name: value[k].detach().double().numpy() for name, value in p.items()}
        expected = on_frames(numbers, utterances)
        np.testing.assert_allclose(outputs[k].detach().numpy(), expected, atol=1e-6)
        leaves = {name: torch.from_numpy(value).requires_grad_() for name, value in numbers.items()}
        second = frames_by_torch(leaves, frames)
        np.testing.assert_allclose(second.detach().numpy(), expected, atol=1e-12)
        for name, value in gradients(second, leaves, slopes[k].double()).items():
            error = (grads[name][k].double() - value).abs().max() / value.abs().max()
            assert error < 1e-5, name


def test_superb_weighs_layers_alike_at_the_start() -> None:
    network = Superb(4, 8)
    p, _ = stack(network, 20, 1, torch.float64)
    rows = torch.arange(3 * 20, dtype=torch.float64).view(1, 3, 20)
    plain = Superb(1, 8)
    same = {**p, "layers": torch.zeros(1, 1, dtype=torch.float64)}
    mean = rows.view(1, 3, 4, 5).mean(2)
    torch.testing.assert_close(
        network.forward(p, rows, Pass({})), plain.forward(same, mean, Pass({}))
    )


def double(*shape: int, grad: bool = True) -> Tensor:
    rng = np.random.default_rng(sum(shape))
    return torch.from_numpy(rng.normal(size=shape)).requires_grad_(grad)


def test_gradients_of_the_stacked_functions() -> None:
    torch.autograd.gradcheck(product, (double(2, 3, 4), double(2, 5, 4), double(2, 5)))
    weight = torch.tensor([[1.0, 1, 1, 0], [1, 1, 0, 0]], dtype=torch.float64)

    def counted(x: Tensor) -> Tensor:
        return normed(x, weight, EPSILON)[0] * weight.unsqueeze(2)

    torch.autograd.gradcheck(counted, (double(2, 4, 3),))
    network = Superb(3, 4)
    names = [*network.parameters(6, N_OUTPUTS)]
    values = [double(2, *spec.shape) for spec in network.parameters(6, N_OUTPUTS).values()]
    x = double(2, 4, 6, grad=False)
    torch.autograd.gradcheck(
        lambda *p: network.forward(dict(zip(names, p, strict=True)), x, Pass({})), values
    )


def test_a_start_is_torchs_in_its_spread_and_of_its_seed_and_fold() -> None:
    specs = Mlp((256,)).parameters(100, 3)
    flat = initial(specs, 0, "f")
    p = layout(specs).views(torch.from_numpy(flat)[None])
    weight = p["0.weight"][0].numpy()
    assert np.abs(weight).max() <= 0.1
    assert weight.std() == pytest.approx(0.1 / np.sqrt(3), rel=0.02)
    assert (p["0.norm.gain"] == 1).all()
    assert (p["0.norm.bias"] == 0).all()
    assert (initial(specs, 0, "f") == flat).all()
    for other in (initial(specs, 1, "f"), initial(specs, 0, "g")):
        assert (other != flat).mean() > 0.9


def test_a_layout_begins_every_parameter_at_a_multiple() -> None:
    places = Layout({"a": (3, 5), "b": (33,), "c": ()})
    assert places.offsets == {"a": 0, "b": 32, "c": 96}
    assert places.size == 128
    flat = torch.arange(256.0).view(2, 128)
    views = places.views(flat)
    assert views["b"].tolist() == [list(range(32, 65)), list(range(160, 193))]
    views["a"].zero_()
    assert flat[1, :15].tolist() == [0.0] * 15
