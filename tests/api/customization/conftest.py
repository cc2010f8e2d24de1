"""A server with its worker over a home of tiny real models, whose bucket `desk` has rows to learn from."""

import pytest
from tests.api.customization.orders import FOREIGN
from tests.api.server import serving
from tests.factory import pairs, write_rows
from tests.families import make as make_family
from tests.homes import ENTRY, tiny_home

NOUNS = [f"{size} {thing}" for size in ("old", "new", "red", "big") for thing in ("kettle", "washer", "hob", "fridge")]


@pytest.fixture(scope="module")
def home(tmp_path_factory, taught_folder):
    home = tiny_home(tmp_path_factory.mktemp("service"), taught_folder)
    make_family("qwen3", home / "foreign", words=380)
    with (home / "catalog.yaml").open("a") as catalog:
        catalog.write(ENTRY.format(id=FOREIGN, name="foreign", path=home / "foreign"))
    bucket = home / "buckets" / "desk"
    bucket.mkdir(parents=True)
    pairs(bucket / "pairs.jsonl", 60)
    pairs(bucket / "prompts.jsonl", 130, labelled=False)
    pairs(bucket / "few.jsonl", 99, labelled=False)
    pairs(bucket / "watched.jsonl", 12, start=700)
    pairs(bucket / "watched-too.jsonl", 9, start=800)
    faulty = [{"prompt": f"prompt {i}"} if i % 3 else {"prompt": ""} for i in range(120)]
    write_rows(bucket / "faulty.jsonl", faulty)
    write_rows(bucket / "text.jsonl", [{"input": f"The {noun} leaks, and the floor is wet. " * 6} for noun in NOUNS])
    return home


@pytest.fixture(scope="module")
def server(home):
    with serving(home, LIMBECK_THREADS="1") as made:
        yield made


@pytest.fixture(scope="module")
def client(server):
    return server.client()
