"""Services for the contract: each on loopback, each a teacher at once."""

from contextlib import contextmanager

import pytest
from tests.api.stage import MODEL, Stage, make_front
from tests.teachers.claude import Claude
from tests.teachers.hostile import Hostile

from limbeck.models.gguf_file import write_gguf
from limbeck.recipe import Budget, Teacher
from limbeck.teachers.budget import Purse
from limbeck.teachers.finding import remote_teacher
from limbeck.teachers.openai import OpenAIEndpoint
from limbeck.teachers.remote import RemoteTeacher


@pytest.fixture(scope="session")
def tiny_gguf(tiny_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    write_gguf(tiny_folder, path, "f32")
    return path


@pytest.fixture
def openai_service():
    @contextmanager
    def serving():
        server = Hostile(lambda text: text.split()[-2])
        recipe = Teacher(model="wise", endpoint=server.url, timeout=60)
        yield RemoteTeacher(OpenAIEndpoint(recipe), Purse(Budget(), None), 4, loop=server.loop)
        server.close()

    return serving()


@pytest.fixture
def anthropic_service(settings, monkeypatch):
    @contextmanager
    def serving():
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
        with Claude() as server:
            teacher = remote_teacher(Teacher(model="claude", via="anthropic", endpoint=server.url), None, settings)
            teacher.server = server
            yield teacher

    return serving()


@pytest.fixture
def bedrock_service(settings, tmp_path, monkeypatch):
    @contextmanager
    def serving():
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "any")
        stage = Stage(settings, make_front(tmp_path / "front"))
        recipe = Teacher(model=MODEL, via="bedrock", endpoint=stage.url, region="us-east-1", concurrency=4)
        teacher = remote_teacher(recipe, None, settings)
        teacher.stage = stage
        yield teacher
        stage.close()

    return serving()
