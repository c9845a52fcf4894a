"""A DreamLLM with random weights, small enough to make, load and serve within a test."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import CLIPImageProcessorPil, PreTrainedTokenizerFast

from models.dreamllm import DreamLLMConfig, DreamLLMForConditionalGeneration, DreamLLMProcessor

NUM_DREAM_QUERIES = 8
BASE_TOKENS = ("<unk>", "<s>", "</s>", "[PAD]")
CONTROL_TOKENS = ("<im_start>", "<dream_end>", "<dream_start>", "<im_patch>", "<im_end>")
CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {{- message['role'].upper() + ': ' }}
    {%- if message['content'] is string %}
        {{- message['content'] }}
    {%- else %}
        {%- for part in message['content'] %}
            {%- if part['type'] == 'text' %}
                {{- part['text'] }}
            {%- else %}
                {{- '<dream><image>' if message['role'] == 'assistant' else '<image>' }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- eos_token if message['role'] == 'assistant' else ' ' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'ASSISTANT:' }}
{%- endif %}
"""


def make_random_checkpoint(path: Path, *, seed: int = 0) -> Path:
    """Save a float32 model, its tokenizer and its processor to a folder, in the layout of a trained checkpoint."""
    tokenizer = make_tokenizer()
    torch.manual_seed(seed)
    config = make_config(tokenizer)
    model = DreamLLMForConditionalGeneration(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # Wide weights: what a test compares must depend on every layer, and greedy choices must not be near ties.
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    model.save_pretrained(path)
    processor = DreamLLMProcessor(
        CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer,
        num_image_tokens=config.num_image_tokens,
        num_dream_queries=config.num_dream_queries,
        chat_template=CHAT_TEMPLATE,
    )
    processor.save_pretrained(path)
    return path


def make_config(tokenizer: PreTrainedTokenizerFast) -> DreamLLMConfig:
    """Two Llama layers, three CLIP layers, sixteen patches a picture."""
    im_start, dream_end, dream_start, im_patch, im_end = tokenizer.convert_tokens_to_ids(list(CONTROL_TOKENS))
    return DreamLLMConfig(
        text_config={
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "max_position_embeddings": 512,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        vision_config={
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
        },
        dream_token_id=dream_start,
        dream_end_token_id=dream_end,
        dream_query_token_id=tokenizer.convert_tokens_to_ids("<dream_query_0>"),
        num_dream_queries=NUM_DREAM_QUERIES,
        image_start_token_id=im_start,
        image_end_token_id=im_end,
        image_token_id=im_patch,
    )


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A Llama-like tokenizer without merges: printable ASCII is one token a character, all else falls back to bytes."""
    letters = ["▁", *(chr(code) for code in range(33, 127))]
    tokens = [*BASE_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    queries = [f"<dream_query_{index}>" for index in range(NUM_DREAM_QUERIES)]
    tokenizer.add_special_tokens([*BASE_TOKENS, *CONTROL_TOKENS, *queries])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="[PAD]",
        chat_template=CHAT_TEMPLATE,
    )
