"""What is private is found by its form and its check digits; what only looks like it stays."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.curation.made import answered

from limbeck.curation import privacy
from limbeck.curation.masking import mask
from limbeck.curation.privacy import KINDS, Mask, checked_kinds, find
from limbeck.errors import InvalidInput

# Made up, and put together here so that no scanner takes this file for a leak.
SECRETS = {
    "aws-key": "AKIA" + "IOSFODNN7EXAMPLE",
    "github-token": "ghp_" + "a1B2" * 9,
    "gitlab-token": "glpat-" + "x1Y2z3" * 4,
    "slack-token": "xoxb-" + "123456789012-abcdefABCDEF",
    "stripe-key": "sk_live_" + "4eC39HqLyjWDarjtT1zdp7dc",
    "anthropic-key": "sk-ant-" + "api03-" + "Ab1_" * 10,
    "openai-key": "sk-proj-" + "Ab1_" * 12,
    "google-key": "AIza" + "Sy1_" * 8 + "abc",
    "hugging-face-token": "hf_" + "aB3d" * 9,
    "npm-token": "npm_" + "aB3d" * 9,
    "pypi-token": "pypi-AgE" + "IcHlwaS5vcmc_-" * 5,
    "jwt": "eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0In0" + ".dozjgNryP4J3jVmNHl0w5N",
    "private-key": "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----",
}
PERSONAL = {
    "email": "jane.doe+desk@mail.example.co.uk",
    "card": "4111 1111 1111 1111",
    "iban": "DE89 3704 0044 0532 0130 00",
    "ssn": "123-45-6789",
    "ip": "192.168.10.254",
    "phone": "+44 20 8366 1177",
}


@pytest.mark.parametrize(("kind", "text"), [*SECRETS.items(), *PERSONAL.items()])
def test_each_kind_is_found_where_it_stands_and_nothing_else_with_it(kind, text):
    whole = f"Please note: {text}, and call me back."
    assert [(one.kind, whole[one.start : one.end]) for one in find(whole)] == [(kind, text)]


@pytest.mark.parametrize("text", ["请看{}谢谢", "これは{}です", "지금 {}를 보세요", "(это {})", "ask {}. Then wait"])
@pytest.mark.parametrize("kind", [kind for kind in (*SECRETS, *PERSONAL) if kind not in ("phone", "private-key")])
def test_each_kind_is_found_whatever_script_stands_beside_it(kind, text):
    private = {**SECRETS, **PERSONAL}[kind]
    assert [one.kind for one in find(text.format(private))] == [kind]
    assert Mask().text(text.format(private)) == text.format(f"[{kind.upper()}-1]")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("IBAN ES91 2100 0418 4502 0005 1332 BIC CAIXESBB", "IBAN [IBAN-1] BIC CAIXESBB"),
        ("REF AB12 3456 7891 BE68 5390 0754 7034 ASAP", "REF AB12 3456 7891 [IBAN-1] ASAP"),
        ("ref 3456 4111 1111 1111 1111", "ref 3456 [CARD-1]"),
        ("2221 0000 0000 0009 or 3056 930902 5904", "[CARD-1] or [CARD-2]"),
        ("10.0.0.1..10.0.0.9 of 1.2.3.4.5", "[IP-1]..[IP-2] of 1.2.3.4.5"),
        ("jörg@bücher.de, иван@пример.рф, محمد@example.com", "[EMAIL-1], [EMAIL-2], [EMAIL-3]"),
        ('{"SecretAccessKey": "' + "aB3/" * 10 + '"}', '{"SecretAccessKey": "[AWS-SECRET-1]"}'),
    ],
)
def test_what_stands_around_it_hides_nothing(text, masked):
    assert Mask().text(text) == masked


def test_a_password_in_a_url_goes_without_its_url():
    said = Mask().text("postgres://ada:hunter22@db.internal/app and aws_secret_access_key = '" + "aB3/" * 10 + "'")
    assert said == "postgres://ada:[PASSWORD-IN-URL-1]@db.internal/app and aws_secret_access_key = '[AWS-SECRET-1]'"


@pytest.mark.parametrize(
    "text",
    [
        "about my kettle number 5: noise please",
        "order 4111 1111 1111 1112 of 2024-05-06, 1,234.56 EUR",  # a wrong check digit
        "DE89 3704 0044 0532 0130 01",
        "version 1.2.3.4.5 and 256.1.1.1 and 10:30:15",
        "see task-sk-learning and @mentions, a@b",
        "risk-assessment-of-the-whole-plant-2024",
        "900-12-3456 is no such number, nor is 123-00-6789",
        "sha256 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ],
)
def test_what_only_looks_private_stays(text):
    assert find(text) == []


@pytest.mark.parametrize(
    "address",
    [
        "2001:db8::ff00:42:8329",
        "2001:db8:0:0:0:ff00:42:8329",
        "fe80::1%eth0",
        "::1",
        "2001:DB8::A",
        "::ffff:192.0.2.128",
    ],
)
@pytest.mark.parametrize("whole", ["from {}, twice", "[{}]:443", "{}: refused", "ip:{}.", "{}"])
def test_an_address_of_ipv6_is_found_however_it_is_written(address, whole):
    assert [whole.format(address)[one.start : one.end] for one in find(whole.format(address))] == [address]


@pytest.mark.parametrize(
    "text",
    [
        "std::vector<int> a :: b",
        "dead::beef",
        "00:1a:2b:3c:4d:5e",
        "2001:db8::1::2",
        "1:2:3:4:5:6:7:8:9",
        "a::b::c",
    ],
)
def test_what_no_machine_answers_to_is_no_address(text):
    assert find(text) == []


def test_a_region_lets_local_numbers_be_found():
    text = "call (415) 555-2671 tomorrow"
    assert find(text) == []
    assert [text[one.start : one.end] for one in find(text, region="US")] == ["(415) 555-2671"]


def test_one_text_has_one_placeholder_throughout_an_example():
    (masked,) = mask([answered("I am a@b.org, not c@d.org", "Dear a@b.org, thank you")], KINDS, None)
    assert masked.one.example.prompt.messages[0].text == "I am [EMAIL-1], not [EMAIL-2]"
    assert masked.one.answer.text == "Dear [EMAIL-1], thank you"
    assert masked.kinds == ("email",)
    assert masked.one.example.unmasked == answered("I am a@b.org, not c@d.org").example.id


def test_a_masked_prompt_keeps_the_seed_it_was_written_from_and_knows_the_id_it_had():
    written = answered("I am a@b.org", origin="teacher", parent="5" * 64).example
    masked = Mask().example(written)
    assert (masked.parent, masked.unmasked) == ("5" * 64, written.id)
    assert Mask().example(masked) == masked


def test_a_text_that_holds_the_search_up_is_hidden_whole(monkeypatch):
    monkeypatch.setattr(privacy, "SECONDS", 1e-6)
    text = "-----BEGIN PRIVATE KEY-----" * 4000
    assert [(one.start, one.end) for one in find(text, ["private-key"])] == [(0, len(text))]
    assert Mask(["private-key"]).text(text) == "[PRIVATE-KEY-1]"


def test_a_kind_nobody_looks_for_is_named():
    assert checked_kinds(()) == KINDS
    with pytest.raises(InvalidInput, match=r'curation\.private: found "name"; expected some of anthropic-key'):
        checked_kinds(("name",))


@given(st.lists(st.one_of(st.text(max_size=20), st.sampled_from([*SECRETS.values(), *PERSONAL.values()])), max_size=6))
def test_findings_never_overlap_and_masking_twice_changes_nothing(parts):
    text = " ".join(parts)
    found = find(text)
    assert all(one.end <= other.start for one, other in pairwise(found))
    once = Mask().text(text)
    assert Mask().text(once) == once
