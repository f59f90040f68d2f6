"""HGFM for many models: one scan over frames for both directions, its gradients by hand.

Conventions
-----------
- Parameters carry the names that they have in `frame_heads.Hgfm`, with a leading axis of models.
- What both directions do alike is done side by side: matrices are (direction, model), and the
  second direction reads its frames from the last to the first. An attention over frames does not
  mind their order.
- The gates of a frame lie side by side as `new`, `reset`, `update`, `asked` (what the state says
  to `new` before `reset` scales it): what frames say and what states say is one piece each.
- Behind an utterance's own frames `update` is 1: the state stays what it was, and no gradient
  comes from there. The second direction starts there with a state of zeros and keeps it.
- tanh(a) is 2 sigmoid(2 a) - 1, which a CPU makes three times as fast.
- On a CPU one model is computed after the other, each with the longest of its own utterances and
  in memory that begins where it would if it were alone: no bit depends on which others there are.
  A step is little but its matrix products there, so that a stack would gain nothing. On other
  devices all models make a step in one batched call; there the bits may depend on the stack.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from models.neural.masks import own_frames

ALIGNED_BYTES = 64
"""Where memory that torch asks for begins on a CPU."""
FRAMES_AT_ONCE = 32
"""Of the loops over frames: so many views are alive at a time, which keeps the collector away."""


def _multiply(out: Tensor, a: Tensor, b: Tensor, beta: float = 0.0) -> Tensor:
    """In place of `out`, beta * out + a @ b; the first axis is that of matrices."""
    if out.device.type != "cpu":
        return out.baddbmm_(a, b, beta=beta)
    for into, left, right in zip(out, a, b, strict=True):
        into.addmm_(left, right, beta=beta)
    return out


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Of each matrix of `a` and that of `b`."""
    return _multiply(a.new_empty(len(a), a.shape[1], b.shape[2]), a, b)


def _turned(weight: Tensor) -> Tensor:
    """Matrices with rows for columns, in memory of their own."""
    return weight.transpose(1, 2).contiguous()


def _project(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Features in order and from the last to the first; (2, n_models, longest, n, width)."""
    n_models, n, longest, _ = x.shape
    features = x.new_empty(2, n_models, longest, n, weight.shape[1])
    if x.device.type == "cpu":
        for k, turned in enumerate(_turned(weight)):
            for i in range(n):
                torch.addmm(bias[k], x[k, i], turned, out=features[0, k, :, i])
    else:
        rows = torch.baddbmm(bias.unsqueeze(1), x.flatten(1, 2), weight.transpose(1, 2))
        features[0] = rows.unflatten(1, (n, longest)).transpose(1, 2)
    features[1] = features[0].flip(1)
    return features


def _gates(features: Tensor, weight: Tensor, bias: Tensor, own: Tensor) -> Tensor:
    """What frames say to their gates, and biases.

    Twice that for `new`; infinity for `update` behind an utterance's own frames.
    """
    n_matrices, longest, n, _ = features.shape
    hidden = bias.shape[1] // 4
    twice, turned = bias.clone(), _turned(weight)
    twice[:, :hidden] *= 2
    turned[..., :hidden] *= 2
    gates = features.new_empty(n_matrices, longest, n, 4 * hidden)
    gates.copy_(twice.unflatten(0, (n_matrices, 1, 1)))
    gates[..., 2 * hidden : 3 * hidden].masked_fill_(~own.unsqueeze(3), float("inf"))
    _multiply(gates.flatten(1, 2)[..., : 3 * hidden], features.flatten(1, 2), turned, beta=1.0)
    return gates


def _scan(gates: Tensor, weight: Tensor) -> Tensor:
    """Go over frames; the gates become what they are there.

    Parameters
    ----------
    gates : float, shape (n_matrices, longest, n, 4 * hidden)
        Of `_gates`.
    weight : float, shape (n_matrices, hidden, 3 * hidden)
        What states say to `reset`, `update`, `asked`.

    Returns
    -------
    float, shape (n_matrices, longest + 1, n, hidden)
        The states before the first frame and after each.
    """
    n_matrices, longest, n, width = gates.shape
    hidden = width // 4
    states = gates.new_empty(n_matrices, longest + 1, n, hidden)
    states[:, 0] = 0
    shift = gates.new_tensor(-1.0)
    for start in range(0, longest, FRAMES_AT_ONCE):
        part = gates[:, start : start + FRAMES_AT_ONCE]
        four = [gate.unbind(1) for gate in part.split(hidden, 3)]
        both, three = part[..., hidden : 3 * hidden].unbind(1), part[..., hidden:].unbind(1)
        state = states[:, start : start + FRAMES_AT_ONCE + 1].unbind(1)
        frames = zip(*four, both, three, state[:-1], state[1:], strict=True)
        for new, reset, update, asked, two, said, before, after in frames:
            said.baddbmm_(before, weight)
            two.sigmoid_()
            new.addcmul_(reset, asked, value=2.0).sigmoid_()
            torch.add(shift, new, alpha=2.0, out=new)
            torch.lerp(new, before, update, out=after)
    return states


def _slopes(gates: Tensor, before: Tensor) -> Tensor:
    """In place of each gate, what it gets of the gradient of the state; returns `update`."""
    new, reset, update, asked = gates.split(before.shape[3], 3)
    kept = update.clone()
    torch.ops.aten.sigmoid_backward.grad_input(before - new, kept, grad_input=update)
    torch.ops.aten.tanh_backward.grad_input(1.0 - kept, new, grad_input=new)
    to_reset = asked * new
    torch.mul(new, reset, out=asked)
    torch.ops.aten.sigmoid_backward.grad_input(to_reset, reset, grad_input=reset)
    return kept


def _scan_back(gates: Tensor, states: Tensor, weight: Tensor, grad: Tensor) -> None:
    """Go back over frames; in place of each gate, the gradient of what was added up in it.

    Parameters
    ----------
    gates, states
        As `_scan` leaves them.
    weight : float, shape (n_matrices, 3 * hidden, hidden)
    grad : float, shape (n_matrices, longest + 1, n, hidden)
        Of the states, but for what they do to later ones; that is added.
    """
    hidden, longest = states.shape[3], gates.shape[1]
    for start in reversed(range(0, longest, FRAMES_AT_ONCE)):
        stop = min(start + FRAMES_AT_ONCE, longest)
        part = gates[:, start:stop]
        update = _slopes(part, states[:, start:stop]).unbind(1)
        four = part.unflatten(3, (4, hidden)).unbind(1)
        three = part[..., hidden:].unbind(1)
        of_state = grad[:, start : stop + 1].unbind(1)
        for t in reversed(range(stop - start)):
            four[t].mul_(of_state[t + 1].unsqueeze(2))
            of_state[t].addcmul_(of_state[t + 1], update[t]).baddbmm_(three[t], weight)


class _Recurrent(torch.autograd.Function):
    """Projection, and both directions over it: all states, and the mean of the features."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, lengths: Tensor, own: Tensor, projection: Tensor,
        projection_bias: Tensor, by_frames: Tensor, by_states: Tensor, bias: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        features = _project(x, projection, projection_bias)
        gates = _gates(features.flatten(0, 1), by_frames, bias, own)
        states = _scan(gates, _turned(by_states))
        forward = own[: len(x)].unsqueeze(3)
        mean = (features[0] * forward).sum(1) / lengths.unsqueeze(2)
        ctx.save_for_backward(
            x, lengths, own, projection, by_frames, by_states, features, gates, states
        )
        return states, mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, lengths, own, projection, by_frames, by_states, *made = ctx.saved_tensors
        features, gates, states = made
        hidden = states.shape[3]
        _scan_back(gates, states, by_states, grads[0])  # which `_Attention` alone has made
        flat, rows = gates.flatten(1, 2), features.flatten(0, 1).flatten(1, 2)
        of_frames = flat[..., : 3 * hidden]
        to_by_states = _product(flat[..., hidden:].transpose(1, 2), states[:, :-1].flatten(1, 2))
        to_by_frames = _product(of_frames.transpose(1, 2), rows)
        to_features = _product(of_frames, by_frames).view(features.shape)
        share = (grads[1] / lengths.unsqueeze(2)).unsqueeze(1) * own[: len(x)].unsqueeze(3)
        share += to_features[0]
        share += to_features[1].flip(1)
        by_row = share.transpose(1, 2).contiguous().flatten(1, 2)
        to_projection = _product(by_row.transpose(1, 2), x.flatten(1, 2))
        to_x = _product(by_row, projection).view(x.shape) if ctx.needs_input_grad[0] else None
        return (
            to_x, None, None, to_projection, by_row.sum(1), to_by_frames, to_by_states, flat.sum(1)
        )  # fmt: skip


class _Attention(torch.autograd.Function):
    """What the last state attends to; the last states, and sums of states by their weights."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, own: Tensor, first: Tensor, first_bias: Tensor, query: Tensor,
        score: Tensor, score_bias: Tensor,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        after, last = states[:, 1:], states[:, -1].clone()
        asked = _product(last, query.transpose(1, 2)).add_(first_bias.unsqueeze(1))
        inner = torch.empty_like(after).copy_((2 * asked).unsqueeze(1)).flatten(1, 2)
        _multiply(inner, after.flatten(1, 2), 2 * _turned(first), beta=1.0).sigmoid_()
        # 2 inner - 1 is the tanh; the 1 and the bias add the same to the score of every frame
        scores = _product(inner, 2 * score.transpose(1, 2)).view(own.shape)
        weights = scores.masked_fill_(~own, float("-inf")).softmax(1)
        ctx.save_for_backward(states, first, query, score, inner, weights)
        return last, (after * weights.unsqueeze(3)).sum(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        states, first, query, score, inner, weights = ctx.saved_tensors
        to_last, to_attended = grads[0], grads[1].unsqueeze(1)
        after, last = states[:, 1:], states[:, -1]
        to_states = torch.empty_like(states)
        to_states[:, 0] = 0
        to_after = to_states[:, 1:]
        to_weights = torch.mul(after, to_attended, out=to_after).sum(3)
        torch.mul(weights.unsqueeze(3), to_attended, out=to_after)
        to_scores = (to_weights - (weights * to_weights).sum(1, keepdim=True)).mul_(weights)
        rows = to_scores.flatten(1).unsqueeze(2)
        to_score = _product(inner.transpose(1, 2), 2 * rows).transpose(1, 2)
        to_score -= rows.sum(1, keepdim=True)
        to_inner = rows * (4 * score)
        torch.ops.aten.sigmoid_backward.grad_input(to_inner, inner, grad_input=to_inner)
        _multiply(to_after.flatten(1, 2), to_inner, first, beta=1.0)
        to_first = _product(to_inner.transpose(1, 2), after.flatten(1, 2))
        to_asked = to_inner.view(after.shape).sum(1)
        to_query = _product(to_asked.transpose(1, 2), last)
        to_after[:, -1] += to_last + _product(to_asked, query)
        to_score_bias = score.new_zeros(len(score), 1)
        return to_states, None, to_first, to_asked.sum(1), to_query, to_score, to_score_bias


def _gate_weights(p: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Of frames and of states, and biases, as gates lie."""
    by_frames, by_states, frame_bias, state_bias = (
        torch.cat([p[f"recurrent.{name}_l0"], p[f"recurrent.{name}_l0_reverse"]])
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    )
    hidden = by_states.shape[2]
    frame_bias = frame_bias.roll(hidden, 1)
    bias = functional.pad(frame_bias, (0, hidden)) + functional.pad(state_bias, (hidden, 0))
    return by_frames.roll(hidden, 1), by_states, bias


def _outputs(p: Mapping[str, Tensor], x: Tensor, lengths: Tensor) -> Tensor:
    """Of models side by side; x is (n_models, n, longest, n_columns)."""

    def both(name: str) -> Tensor:
        before, after = name.split(".")
        return torch.cat([p[f"{before}.{i}.{after}"] for i in range(2)])

    own = own_frames(lengths.flatten(), x.shape[2]).unflatten(0, lengths.shape).transpose(1, 2)
    own = torch.cat([own, own.flip(1)])
    states, mean = _Recurrent.apply(
        x, lengths, own, p["projection.weight"], p["projection.bias"], *_gate_weights(p)
    )
    names = ("first.weight", "first.bias", "query.weight", "score.weight", "score.bias")
    last, attended = _Attention.apply(states, own, *(both(name) for name in names))
    parts = torch.cat([*last.chunk(2), *attended.chunk(2), mean], 2)
    return torch.baddbmm(p["out.bias"].unsqueeze(1), parts, p["out.weight"].transpose(1, 2))


def _in_memory_of_its_own(x: Tensor) -> Tensor:
    """In one piece that begins where memory that torch asks for begins."""
    x = x.contiguous()
    return x.clone() if x.data_ptr() % ALIGNED_BYTES else x


def hgfm_outputs(
    p: Mapping[str, Tensor], xs: Sequence[Tensor], lengths: Sequence[Tensor]
) -> Tensor:
    """What `frame_heads.Hgfm` gives with the parameters of each of many models.

    Parameters
    ----------
    p : mapping
        By the names of `Hgfm.state_dict()`, each of shape (n_models, ...).
    xs : sequence of float, shape (n, longest, n_columns)
        Utterances of each model, as many for all; `longest` may differ. Zeros, or other numbers
        that are finite, behind an utterance's own frames. Brought to the type of the parameters.
    lengths : sequence of int64, shape (n,)
        Own frames, 1 or more.

    Returns
    -------
    float, shape (n_models, n, n_outputs)
        Of the type of the parameters, under autocast, too. Gradients go to `p` and `xs`; going
        back once uses up what was kept for it.
    """
    like = p["projection.weight"]
    with torch.autocast(like.device.type, enabled=False):
        xs = [x.to(like.dtype) for x in xs]
        if like.device.type == "cpu":
            every = {name: value.unbind(0) for name, value in p.items()}
            found = []
            for k, (x, n) in enumerate(zip(xs, lengths, strict=True)):
                own = {name: value[k].clone().unsqueeze(0) for name, value in every.items()}
                found.append(_outputs(own, _in_memory_of_its_own(x).unsqueeze(0), n.unsqueeze(0)))
            return torch.cat(found)
        longest = max(x.shape[1] for x in xs)
        padded = [functional.pad(x, (0, 0, 0, longest - x.shape[1])) for x in xs]
        return _outputs(p, torch.stack(padded), torch.stack(list(lengths)))
