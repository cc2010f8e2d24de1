"""A chat template in Ollama's language writes what the model's own writes, or is left out and said to be."""

import json
import re

import jinja2
import pytest
from tests.conftest import CHATML

from limbeck.models.modelfile import FORMATS, GONE_ON, INSTRUCTED, modelfile

LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' +"
    " message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
GEMMA3 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set prefix = messages[0]['content'] + '\n\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- set role = 'model' if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\n' + (prefix if loop.first else "") + message['content'] | trim + '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{'<start_of_turn>model\n'}}{%- endif -%}
"""
GEMMA2 = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else 'user') + '\n'"
    " + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
GO_TO_JINJA = {
    "{{- range .Messages }}": "{% for m in messages %}",
    "{{ range .Messages }}": "{% for m in messages %}",
    "{{ .Role }}": "{{ m.role }}",
    "{{ .Content }}": "{{ m.content }}",
    '{{- $system := "" }}': "{% set s = namespace(ystem='') %}",
    '{{ if eq .Role "system" }}': "{% if m.role == 'system' %}",
    '{{ else if eq .Role "assistant" }}': "{% elif m.role == 'assistant' %}",
    '{{ $system = print .Content "\\n\\n" }}': "{% set s.ystem = m.content ~ '\\n\\n' %}",
    '{{ $system = "" }}': "{% set s.ystem = '' %}",
    "{{ $system }}": "{{ s.ystem }}",
    "{{ else }}": "{% else %}",
    "{{ end }}{{ end }}": "{% endif %}{% endfor %}",
    "{{ end }}": "{% endfor %}",
}


def write(tmp_path, template, bos="<s>", system=None):
    (tmp_path / "chat_template.jinja").write_text(template)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": bos}))
    return modelfile(tmp_path, "model-f16.gguf", system)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_both_languages_write_the_same(form):
    template = form.ollama
    for go, jinja in GO_TO_JINJA.items():
        template = template.replace(go, jinja)
    assert not re.search(r"\{\{-? (range|if|else|end|\$)", template), "the test knows every construct that is used"
    environment = jinja2.Environment(keep_trailing_newline=True)
    for turns in (GONE_ON, INSTRUCTED):
        assert environment.from_string(template).render(messages=turns) == form.write(turns)


@pytest.mark.parametrize(
    ("template", "bos", "name"),
    [
        (CHATML.replace("You are helpful.", ""), "<s>", None),
        (LLAMA3, "<|begin_of_text|>", "Llama 3"),
        (GEMMA3, "<bos>", "Gemma"),
        (GEMMA2, "<bos>", "Gemma"),
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "<s>", None),
    ],
)
def test_a_known_template_is_translated_and_another_is_left_out_and_said_to_be(template, bos, name, tmp_path):
    made = write(tmp_path, template, bos)
    assert made.startswith("FROM ./model-f16.gguf\n")
    known = next((form for form in FORMATS if form.name == name), None)
    if known is None:
        assert 'TEMPLATE "' not in made and "# No TEMPLATE: the model's chat template is none of those" in made
    else:
        assert f'TEMPLATE """{known.ollama}"""' in made and f'PARAMETER stop "{known.ends[0]}"' in made


@pytest.mark.parametrize("bos", ["<s>", "<|im_start|>"])  # SmolLM2's first token is that of every turn
def test_a_system_prompt_that_the_template_puts_itself_becomes_system(tmp_path, bos):
    made = write(tmp_path, CHATML, bos)
    assert 'SYSTEM """You are helpful."""' in made and 'PARAMETER stop "<|im_end|>"' in made


@pytest.mark.parametrize("template", [CHATML, "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}"])
def test_the_system_prompt_that_was_learned_comes_before_the_templates_own(tmp_path, template):
    made = write(tmp_path, template, system="Name the intent.")
    assert 'SYSTEM """Name the intent."""' in made and "You are helpful" not in made
    assert "# No SYSTEM" in write(tmp_path, template, system='Answer in """quotes""".')


def test_a_template_that_cannot_be_translated_still_says_where_turns_end(tmp_path):
    made = write(tmp_path, "{% for m in messages %}[{{ m.role }}] {{ m.content }}</s>{% endfor %}")
    assert "# No TEMPLATE" in made and 'PARAMETER stop "</s>"' in made


def test_a_model_without_a_template_is_said_to_have_none(tmp_path):
    assert "the model has no chat template" in modelfile(tmp_path, "model-f16.gguf")


def test_a_template_that_runs_wild_is_only_left_out(tmp_path):
    assert "# No TEMPLATE" in write(tmp_path, "{{ ().__class__.__mro__[1].__subclasses__() }}")
