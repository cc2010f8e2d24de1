"""One server for all tests of the runtime; a home and its key for each file that serves from one."""

import pytest
from tests.api.stage import Stage, make_front

from limbeck.jobs.queue import open_database
from limbeck.settings import Settings
from limbeck.storage.keys import Keys
from limbeck.storage.ledger import Ledger


@pytest.fixture(scope="session")
def front(tmp_path_factory):
    return make_front(tmp_path_factory.mktemp("front"))


@pytest.fixture(scope="session")
def served(tmp_path_factory, front):
    made = Stage(Settings(tmp_path_factory.mktemp("home"), 1), front)
    yield made
    made.close()


@pytest.fixture
def stage(served):
    served.pool.reset()
    return served


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def ledger(settings, client):
    """What the server of a file's own ``settings`` writes down, once its ``client`` can ask it."""
    made = Ledger(open_database(settings.database))
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module")
def key(home):
    return Keys(home / "keys.json").add("ada")
