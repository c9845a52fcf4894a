"""A real tokenizer and a configuration for stand-ins of the language model."""

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from models.dreamllm.configuration import DreamLLMConfig

VICUNA_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] == 'user' %}
        {{- 'USER: ' }}
    {%- elif message['role'] == 'assistant' %}
        {{- 'ASSISTANT: ' }}
    {%- endif %}
    {%- for part in message['content'] %}
        {%- if part['type'] == 'text' %}
            {{- part['text'] }}
        {%- elif message['role'] == 'assistant' %}
            {{- '<dream><image>' }}
        {%- else %}
            {{- '<image>' }}
        {%- endif %}
    {%- endfor %}
    {{- eos_token if message['role'] == 'assistant' else ' ' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'ASSISTANT:' }}
{%- endif %}
"""


def byte_tokenizer(num_dream_queries: int = 4) -> Tokenizer:
    """A byte-level BPE without merges: ids 3 to 258 are the bytes, then the control tokens, then the dream queries."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<unk>", "<s>", "</s>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    control = ["[PAD]", "<im_start>", "<dream_end>", "<dream_start>", "<im_patch>", "<im_end>", "<image>", "<dream>"]
    queries = [f"<dream_query_{i}>" for i in range(num_dream_queries)]
    special = ["<unk>", "<s>", "</s>", *control, *queries]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


def token_id(tokenizer: Tokenizer, token: str) -> int:
    """Id of a token that must be there."""
    found = tokenizer.token_to_id(token)
    assert found is not None, f"no token {token}"
    return found


def tiny_config(tokenizer: Tokenizer, num_dream_queries: int = 4) -> DreamLLMConfig:
    """A configuration that fits a tokenizer with the published control tokens: pictures of four patches."""
    return DreamLLMConfig(
        text_config={"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "intermediate_size": 8},
        vision_config={"image_size": 32, "patch_size": 16},
        dream_token_id=token_id(tokenizer, "<dream_start>"),
        dream_end_token_id=token_id(tokenizer, "<dream_end>"),
        dream_query_token_id=token_id(tokenizer, "<dream_query_0>"),
        num_dream_queries=num_dream_queries,
        image_start_token_id=token_id(tokenizer, "<im_start>"),
        image_end_token_id=token_id(tokenizer, "<im_end>"),
        image_token_id=token_id(tokenizer, "<im_patch>"),
    )
