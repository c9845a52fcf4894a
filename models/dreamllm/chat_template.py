"""Vicuna v1.1's chat template, with a place for pictures."""

# As the official code has it for training; its VQA evaluation puts a space in front, as a system message can.
SYSTEM_PROMPT = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


def chat_template(system_prompt: str | None) -> str:
    """The Jinja source.

    A user's picture is shown; one of the model's own is dreamt, then shown. A system message without parts leaves the
    system prompt out.

    Args:
        system_prompt: comes first in conversations that begin without a system message.
    """
    return _TEMPLATE.replace("SYSTEM_PROMPT ", f"{system_prompt} " if system_prompt else "")


_TEMPLATE = """\
{{- bos_token }}
{%- if messages[0]['role'] != 'system' %}
    {{- "SYSTEM_PROMPT " }}
{%- endif %}
{%- for message in messages %}
    {%- if message['content'] is string %}
        {%- set text = message['content'] %}
    {%- else %}
        {%- set pieces = namespace(text='') %}
        {%- for part in message['content'] %}
            {%- if part['type'] == 'text' %}
                {%- set pieces.text = pieces.text + part['text'] %}
            {%- elif message['role'] == 'assistant' %}
                {%- set pieces.text = pieces.text + '<dream><image>' %}
            {%- else %}
                {%- set pieces.text = pieces.text + '<image>' %}
            {%- endif %}
        {%- endfor %}
        {%- set text = pieces.text %}
    {%- endif %}
    {%- if message['role'] == 'system' %}
        {{- text + ' ' if text else '' }}
    {%- elif message['role'] == 'user' %}
        {{- 'USER: ' + text + ' ' }}
    {%- else %}
        {{- 'ASSISTANT: ' + text + eos_token }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'ASSISTANT:' }}
{%- endif %}
"""
