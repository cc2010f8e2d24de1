"""Chat templates are found where transformers finds them, and written as it writes them."""

import json

import pytest
from tests.conftest import CHATML, make_tokenizer
from transformers import AutoTokenizer

from limbeck.models.template import chat_template, chat_templates, render, turn_end
from limbeck.models.tokenizer import Tokenizer

OTHER = "{{ tools | length }}"
TURNS = [{"role": "user", "content": "<é> & 'x'"}, {"role": "assistant", "content": "yes"}]


def layouts(folder):
    """Each way in which a folder may hold templates, made in it, one after another."""
    config = json.loads((folder / "tokenizer_config.json").read_text())

    def configured(template):
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "chat_template": template}))

    jinja, more = folder / "chat_template.jinja", folder / "additional_chat_templates"
    jinja.unlink()
    yield "none"
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": OTHER}))  # a processor's, no tokenizer's
    yield "a processor's"
    configured(CHATML)
    yield "in the configuration"
    configured([{"name": "default", "template": CHATML}, {"name": "tool_use", "template": OTHER}])
    yield "several in the configuration"
    jinja.write_text("over it")
    yield "a file beside the configuration"
    more.mkdir()
    (more / "tool_use.jinja").write_text(OTHER)
    yield "several files"


def test_templates_are_found_where_transformers_finds_them(tmp_path):
    make_tokenizer().save_pretrained(tmp_path)
    for layout in layouts(tmp_path):
        theirs = AutoTokenizer.from_pretrained(tmp_path).chat_template
        assert Tokenizer.open(tmp_path).chat_template == theirs, layout
        named = theirs if isinstance(theirs, dict) else {"default": theirs} if theirs else {}
        assert chat_templates(tmp_path) == named, layout
        assert chat_template(tmp_path) == named.get("default"), layout


@pytest.mark.parametrize(
    "template",
    [
        CHATML,
        "{% for m in messages %}{{ m | tojson }}{% if loop.first %}{% continue %}{% endif %};{% endfor %}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{{ eos_token }}{% endfor %}",
        "{{ documents is none }}{{ tools is none }}{{ bos_token }}{{ messages[0].content }}",
    ],
)
def test_an_export_sees_what_a_conversation_will_be(template):
    theirs = make_tokenizer()
    theirs.chat_template = template
    names = {"bos_token": theirs.bos_token, "eos_token": {"content": theirs.eos_token}}
    assert render(template, TURNS, names, answer_follows=False) == theirs.apply_chat_template(TURNS, tokenize=False)


def test_a_template_that_marks_what_an_assistant_says_tells_how_its_turns_end():
    template = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}<end>{% endfor %}"
    assert turn_end(template, {}) == "<end>"
    assert turn_end("{{ raise_exception('never') }}", {}) is None
