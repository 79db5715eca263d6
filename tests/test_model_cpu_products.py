"""Products through oneDNN are products: values and gradients against float64, and only where they were asked for."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vla.model import cpu_products
from vla.model.cpu_products import attention, fast_products, gated, linear, product

if not torch.backends.mkldnn.is_available():
    pytest.skip("this torch has no oneDNN", allow_module_level=True)


@pytest.fixture(autouse=True)
def _on_any_processor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpu_products, "_mkl_is_slow", lambda: True)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(7, 33), (2, 5, 33), (2, 1, 4, 33)])
@pytest.mark.parametrize("biased", [True, False])
def test_values_and_gradients_are_those_of_float64(shape: tuple[int, ...], biased: bool):
    single = [numbers(*shape), numbers(17, 33, seed=1), numbers(17, seed=2)][: 2 + biased]
    double = [part.double().requires_grad_() for part in single]
    single = [part.requires_grad_() for part in single]
    ours, wanted = linear(*single), F.linear(*double)
    pull = numbers(*ours.shape, seed=3)
    found = torch.autograd.grad(ours, single, pull)
    true = torch.autograd.grad(wanted, double, pull.double())
    for one, other in zip((ours, *found), (wanted, *true), strict=True):
        assert torch.allclose(one.double(), other, atol=1e-4)


def test_a_frozen_weight_gets_no_gradient():
    layer, x = nn.Linear(4, 3).requires_grad_(False), numbers(2, 4).requires_grad_()
    with fast_products("cpu"):
        layer(x).sum().backward()
    assert x.grad is not None and layer.weight.grad is None and layer.bias.grad is None


def test_what_is_kept_for_gradients_is_what_they_need():
    layer, x = nn.Linear(4, 3).requires_grad_(False), numbers(2, 4).requires_grad_()
    kept: list[Tensor] = []

    def keep(part: Tensor) -> Tensor:
        kept.append(part)
        return part

    with fast_products("cpu"), torch.autograd.graph.saved_tensors_hooks(keep, lambda part: part):
        layer(x)
    assert [part.shape for part in kept] == [layer.weight.shape]


@torch.no_grad()
def test_a_bias_may_have_gaps():
    x, weight, bias = numbers(2, 4), numbers(3, 4, seed=1), numbers(3, 2, seed=2)[:, 0]
    with fast_products("cpu"):
        assert torch.allclose(F.linear(x, weight, bias), x @ weight.t() + bias, atol=1e-5)


def test_modules_are_answered_inside_only():
    layer, x = nn.Linear(4, 3), numbers(2, 4)
    assert "Product" not in type(layer(x).grad_fn).__name__
    with fast_products("cpu"):
        assert "Product" in type(layer(x).grad_fn).__name__
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        assert layer.double()(x.double()).dtype == torch.float64
    assert "Product" not in type(layer.float()(x).grad_fn).__name__


@pytest.mark.parametrize("masked", [True, False])
@torch.no_grad()
def test_attention_is_torchs_own(masked: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpu_products, "WORTHWHILE", 0)
    q, k, v = numbers(2, 3, 5, 8), numbers(2, 3, 9, 8, seed=1), numbers(2, 3, 9, 8, seed=2)
    allowed = torch.zeros(2, 1, 5, 9).masked_fill_(numbers(2, 1, 5, 9, seed=3) > 1, -1e30) if masked else None
    wanted = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    assert torch.allclose(attention(q, k, v, allowed), wanted, atol=1e-5)
    with fast_products("cpu"):
        inside = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=0.3)
        causal = F.scaled_dot_product_attention(q, k[:, :, :5], v[:, :, :5], is_causal=True)
    assert torch.allclose(inside, F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=0.3), atol=1e-5)
    assert torch.equal(causal, F.scaled_dot_product_attention(q, k[:, :, :5], v[:, :, :5], is_causal=True))


def test_attention_learns(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpu_products, "WORTHWHILE", 0)
    q, mask = numbers(1, 2, 3, 8).requires_grad_(), numbers(1, 2, 3, 3, seed=1).requires_grad_()
    pull = numbers(1, 2, 3, 8, seed=2)
    with fast_products("cpu"):
        (of_q,) = torch.autograd.grad(F.scaled_dot_product_attention(q, q, q), q, pull)
        given = [q.detach()] * 3
        (of_mask,) = torch.autograd.grad(F.scaled_dot_product_attention(*given, attn_mask=mask), mask, pull)
    assert of_q.abs().min() > 0 and of_mask.abs().max() > 0


@pytest.mark.parametrize(("key", "value"), [((2, 3, 9, 8), (2, 3, 9, 8)), ((1, 3, 9, 8), (1, 3, 9, 16))])
@torch.no_grad()
def test_attention_of_other_shapes_is_torchs(key: tuple[int, ...], value: tuple[int, ...], monkeypatch: Any):
    monkeypatch.setattr(cpu_products, "WORTHWHILE", 0)
    parts = numbers(1, 3, 5, 8), numbers(*key, seed=1), numbers(*value, seed=2)
    with fast_products("cpu"):
        inside = F.scaled_dot_product_attention(*parts)
    assert torch.equal(inside, F.scaled_dot_product_attention(*parts))


@torch.no_grad()
def test_a_product_may_use_the_room_it_is_given_and_a_gate_is_gelu():
    x, gate, up = numbers(6, 8), numbers(5, 8, seed=1), numbers(5, 8, seed=2)
    assert torch.allclose(product(x, gate, torch.empty(6, 5)), x @ gate.t(), atol=1e-5)
    wanted = F.gelu(x @ gate.t(), approximate="tanh") * (x @ up.t())
    assert torch.allclose(gated(x, gate, up), wanted, atol=1e-5)


def test_one_inside_another_ends_with_the_outer_one():
    layer, x = nn.Linear(4, 3), numbers(2, 4)
    with fast_products("cpu"):
        with fast_products("cpu"):
            assert "Product" in type(layer(x).grad_fn).__name__
        assert "Product" in type(layer(x).grad_fn).__name__
    assert "Product" not in type(layer(x).grad_fn).__name__


def test_where_mkl_is_fast_nothing_changes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpu_products, "_mkl_is_slow", lambda: False)
    layer = nn.Linear(4, 3)
    with fast_products("cpu"):
        assert "Product" not in type(layer(numbers(2, 4)).grad_fn).__name__
    assert not cpu_products.fast(numbers(2, 4))
