"""The parts of the forward against PyTorch's own layers, in float64 where it matters."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from extract.encoders.exact import products as of_products
from extract.encoders.exact.front_end import FrontEnd
from extract.encoders.exact.packing import EqualRows, Packing, equal_runs
from extract.encoders.exact.products import (
    GroupedProducts,
    gelu_in_place,
    has_onednn,
    linear,
    plain_convolution,
    positional,
)

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def off(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative to the deviation of what is expected."""
    return float((found.double() - expected.double()).norm() / (expected - expected.mean()).norm())


def convolutions(norm: str, width: int = 12, kernels=KERNELS, strides=STRIDES) -> nn.Module:
    """A feature encoder as transformers builds it, with weights that are not at rest."""
    layers, before = nn.ModuleList(), 1
    for i, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
        layer = nn.Module()
        layer.conv = nn.Conv1d(before, width, kernel, stride, bias=norm == "layer")
        layer.activation = nn.GELU()
        if norm == "layer":
            layer.layer_norm = nn.LayerNorm(width)
        elif i == 0:
            layer.layer_norm = nn.GroupNorm(width, width)
        for parameter in layer.parameters():
            parameter.data.add_(0.2 * torch.randn_like(parameter))
        layers.append(layer)
        before = width
    return SimpleNamespace(conv_layers=layers)


def convolved(layers: nn.ModuleList, samples: torch.Tensor) -> torch.Tensor:
    """The definition: shape (n_frames, width)."""
    states = samples[None, None]
    for layer in layers:
        states = layer.conv(states)
        norm = getattr(layer, "layer_norm", None)
        if isinstance(norm, nn.LayerNorm):
            states = norm(states.mT).mT
        elif norm is not None:
            states = norm(states)
        states = layer.activation(states)
    return states[0].T


@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize(
    ("kernels", "strides"),
    [(KERNELS, STRIDES), ((8, 3, 5, 2, 2, 2, 2), (4, 3, 2, 2, 2, 1, 2))],
)
@torch.no_grad()
def test_convolutions_are_products_of_views(
    norm: str, kernels: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    extractor = convolutions(norm, kernels=kernels, strides=strides)
    front_end = FrontEnd(extractor, torch.float32)
    files = [torch.randn(n) for n in (16_000, 15_993, 9_000, 2_011)]
    expected = [convolved(extractor.conv_layers, waveform) for waveform in files]
    stride = math.prod(strides)
    length = -(-(16_000 + stride) // stride) * stride
    rows = torch.stack(
        [nn.functional.pad(waveform, (0, length - len(waveform))) for waveform in files]
    )
    found = front_end.rows(rows, torch.tensor([len(waveform) for waveform in files]))
    for waveform, row, correct in zip(files, found, expected, strict=True):
        assert off(row[: len(correct)], correct) < 3e-6
        for chunk in (1, 7, 1000):
            assert off(front_end.alone(waveform, len(correct), chunk), correct) < 3e-6


@torch.no_grad()
def test_a_group_norm_of_channels_that_nearly_cancel() -> None:
    """A difference filter on a slow wave upon an offset: float32 alone would lose its variance."""
    extractor = convolutions("group")
    weight = extractor.conv_layers[0].conv.weight
    weight[0] = 0
    weight[0, 0, :2] = torch.tensor([1.0, -1.0])
    samples = 3 + torch.sin(torch.arange(16_000) / 300)
    front_end = FrontEnd(extractor, torch.float32)
    states = front_end.fold(samples.unfold(0, 10, 5)[None])
    windows = samples.unfold(0, 10, 5).double()
    convolved = windows @ weight[:, 0].double().T
    norm = extractor.conv_layers[0].layer_norm
    scale = norm.weight.double() / (convolved.var(0, correction=0) + norm.eps).sqrt()
    expected = weight[:, 0].double() * scale[:, None]
    torch.testing.assert_close(states.weight[0].double(), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("kernel", [19, 32, 128])
@pytest.mark.parametrize("n_frames", [1, 7, 8, 150])
@torch.no_grad()
def test_grouped_products_are_the_convolution(
    kernel: int, n_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    convolution = nn.Conv1d(48, 48, kernel, padding=kernel // 2, groups=4)
    states = torch.randn(3, n_frames, 48).mT
    expected = convolution.double()(states.double())
    products = GroupedProducts(convolution.float())
    found = products(states)
    assert found.shape == expected.shape
    assert off(found, expected) < 1e-6
    monkeypatch.setattr("extract.encoders.exact.products.PRODUCT_ELEMENTS", 1)  # a group at a time
    assert off(products(states), found.double()) < 1e-6


@torch.no_grad()
def test_a_weight_norm_is_multiplied_out() -> None:
    convolution = nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 8, 3, groups=2), dim=2)
    states = torch.randn(2, 8, 20)
    expected = convolution(states)
    plain = plain_convolution(convolution)
    assert torch.equal(plain(states), expected)
    assert [name for name, _ in plain.named_parameters()] == ["bias", "weight"]
    assert plain_convolution(plain) is plain
    assert positional(plain, torch.device("cpu")) is plain


def test_products_stand_for_the_positional_convolution_on_cuda_in_half_precision_alone() -> None:
    convolution = nn.Conv1d(8, 8, 3, groups=2, padding=1, dtype=torch.bfloat16)
    assert positional(convolution, torch.device("cpu")) is convolution
    with torch.device("meta"):  # a device of that name is not at hand
        cuda = torch.device("cuda")
        single = nn.Conv1d(8, 8, 3, groups=1, padding=1, dtype=torch.bfloat16)
        assert positional(single, cuda) is single
        wide = nn.Conv1d(8, 8, 3, groups=2, padding=1)
        assert positional(wide, cuda) is wide


@pytest.mark.parametrize(("channels", "groups", "kernel"), [(24, 4, 32), (48, 4, 128), (96, 2, 19)])
@torch.no_grad()
def test_a_positional_convolution_in_half_precision_is_near_float32(
    channels: int, groups: int, kernel: int
) -> None:
    """The convolution of oneDNN is wrong by its whole length on some processors."""
    torch.manual_seed(0)
    convolution = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=groups)
    states = torch.randn(2, channels, 70)
    expected = convolution(states)
    found = positional(convolution.bfloat16(), torch.device("cpu"))(states.bfloat16()).float()
    assert torch.linalg.norm(found - expected) < 0.02 * torch.linalg.norm(expected)


def test_products_stand_for_a_convolution_that_is_wrong_in_half_precision() -> None:
    class Wrong(nn.Conv1d):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            right = states.dtype == torch.float32
            return super().forward(states) if right else states.new_zeros(1, 8, states.shape[2] + 1)

    wrong = Wrong(8, 8, 4, groups=2, padding=2)
    assert positional(wrong, torch.device("cpu")) is wrong
    assert isinstance(positional(wrong.bfloat16(), torch.device("cpu")), GroupedProducts)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_linear_is_pytorchs(dtype: torch.dtype) -> None:
    states, weight, bias = (torch.randn(n).to(dtype) for n in ((50, 40), (30, 40), (30,)))
    near = 1e-6 if dtype == torch.float32 else 1e-2
    expected = nn.functional.linear(states.double(), weight.double(), bias.double())
    assert off(linear(states, weight, bias), expected) < near
    assert off(linear(states, weight, bias, with_gelu=True), nn.functional.gelu(expected)) < near
    assert off(linear(states, weight, None), expected - bias.double()) < near


def test_linear_goes_another_way_where_onednn_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    states, weight = torch.randn(5, 4), torch.randn(3, 4)
    has_onednn.cache_clear()
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", None)
    try:
        assert not has_onednn()
        assert torch.equal(linear(states, weight, None), nn.functional.linear(states, weight))
    finally:
        has_onednn.cache_clear()


def test_gelu_goes_another_way_where_it_cannot_overwrite(monkeypatch: pytest.MonkeyPatch) -> None:
    states = torch.randn(5, 4)
    expected = nn.functional.gelu(states)
    given = states.clone()
    assert torch.equal(gelu_in_place(given), expected)
    assert torch.equal(given, expected)
    of_products._overwriting_gelu.cache_clear()
    monkeypatch.setattr(torch.ops.aten, "gelu_", lambda values: values + 1)  # there, and wrong
    try:
        given = states.clone()
        assert torch.equal(gelu_in_place(given), expected)
        assert torch.equal(given, states)
    finally:
        of_products._overwriting_gelu.cache_clear()


def test_means_of_runs_and_of_padded_rows_agree() -> None:
    lengths = [6, 6, 4, 1]
    rows = [torch.randn(n, 5) for n in lengths]
    expected = torch.stack([row.mean(0) for row in rows])
    runs = equal_runs(lengths)
    assert runs == (EqualRows(0, 2, 6), EqualRows(12, 1, 4), EqualRows(16, 1, 1))
    torch.testing.assert_close(Packing(runs).means(torch.cat(rows)), expected)
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=math.nan)
    layout = Packing((EqualRows(0, 4, 6),), torch.tensor(lengths))
    torch.testing.assert_close(layout.means(padded.flatten(0, 1)), expected)
