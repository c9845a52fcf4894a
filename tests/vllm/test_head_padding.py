"""A Llama with padded heads computes what it did before."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from models.vllm_plugin.head_padding import HEAD_SIZES, HeadPadding

PREFIX = "model.language_model."


def llama(head_size: int, rope: dict[str, object] | None = None) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50,
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=head_size,
        max_position_embeddings=512,
        attention_bias=True,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, **(rope or {})},
    )
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def padded(model: LlamaForCausalLM) -> LlamaForCausalLM:
    padding = HeadPadding(model.config)
    stored = {name.replace("model.", PREFIX, 1): weight for name, weight in model.state_dict().items()}
    weights = {name.replace(PREFIX, "model.", 1): weight for name, weight in padding.pad(stored.items())}
    result = LlamaForCausalLM(padding.config).eval()
    result.load_state_dict(weights)
    return result


@torch.inference_mode()
@pytest.mark.parametrize("head_size", [8, 16, 24, 48])
@pytest.mark.parametrize("rope", [{}, {"rope_type": "linear", "factor": 2.0}], ids=["default", "linear"])
def test_padded_heads_change_nothing(head_size: int, rope: dict[str, object]) -> None:
    model = llama(head_size, rope)
    ids = torch.randint(0, 50, (1, 300), generator=torch.Generator().manual_seed(1))
    larger = padded(model)
    assert larger.config.head_dim in HEAD_SIZES
    assert larger.config.head_dim > head_size
    torch.testing.assert_close(larger(ids).logits, model(ids).logits, atol=1e-4, rtol=1e-4)


def test_heads_that_vllm_knows_are_left_alone() -> None:
    model = llama(32)
    padding = HeadPadding(model.config)
    assert padding.config is model.config
    weights = [(name.replace("model.", PREFIX, 1), weight) for name, weight in model.state_dict().items()]
    assert all(a is b for (_, a), (_, b) in zip(padding.pad(weights), weights, strict=True))


@pytest.mark.parametrize(
    ("head_size", "rope"), [(512, {}), (16, {"rope_type": "dynamic", "factor": 2.0})], ids=["large", "dynamic"]
)
def test_heads_that_cannot_be_padded_are_an_error(head_size: int, rope: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"no attention for heads of {head_size}"):
        HeadPadding(llama(head_size, rope).config)
