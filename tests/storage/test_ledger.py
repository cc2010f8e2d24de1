"""The service's rows: made once, changed whole, never by two hands at odds; on SQLite and on Postgres alike."""

import json
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from limbeck.errors import Conflict, InvalidInput, Unknown
from limbeck.storage import migrations
from limbeck.storage.database import HEAD, Base, Json, Resource, engine_of, migrate
from limbeck.storage.ledger import Asking, Ledger, now


@pytest.fixture(params=["sqlite", "postgres"])
def ledger(request, tmp_path):
    if request.param == "sqlite":
        engine = engine_of(f"sqlite:///{tmp_path / 'rows.sqlite'}")
    else:
        engine = engine_of(request.getfixturevalue("postgres"))
        Base.metadata.drop_all(engine)
        with engine.begin() as connection:
            connection.execute(sa.text("drop table if exists alembic_version"))
    migrate(engine)
    yield Ledger(engine)
    engine.dispose()


def row(name, status="InProgress", **more):
    moment = now()
    columns = {"kind": "job", "created": moment, "modified": moment, "request": {}, "facts": {}, **more}
    return Resource(arn=f"arn:{name}", name=name, status=status, **columns)


def test_the_migrations_make_the_tables_the_code_describes(ledger):
    with ledger.engine.connect() as connection:
        context = MigrationContext.configure(connection)
        assert context.get_current_revision() == HEAD
        assert compare_metadata(context, Base.metadata) == []
    migrate(ledger.engine)  # again, and nothing happens


def test_recipes_that_lay_among_the_facts_move_into_their_column_and_back(ledger):
    ledger.create(row("a", facts={"x": 1.5}, recipe={"kind": "distillation", "layers": [0, 4]}))
    ledger.create(row("b"))
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__path__[0])))
    table = sa.table("resources", sa.column("arn"), sa.column("facts", Json))
    with ledger.engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
        found = dict(connection.execute(sa.select(table.c.arn, table.c.facts)).all())
    recipe = {"kind": "distillation", "layers": [0, 4]}
    assert found == {"arn:a": {"x": 1.5, "recipe": recipe}, "arn:b": {}}
    migrate(ledger.engine)
    assert (ledger.row("arn:a").facts, ledger.recipe("arn:a"), ledger.row("arn:b").facts) == ({"x": 1.5}, recipe, {})
    with ledger.engine.connect() as connection:
        kept = sa.select(Resource.arn).where(Resource.recipe.is_(None))
        assert connection.scalars(kept).all() == ["arn:b"]


def test_rows_are_listed_by_everything_that_is_said(ledger):
    first = now()
    for at, name in enumerate(("desk-1", "Desk-2", "hall_3", "desk-4")):
        moment = first + timedelta(seconds=at)
        status, model = ("Completed", "InProgress")[at % 2], f"arn:model-{at}"
        ledger.create(row(name, status, created=moment, modified=moment, model=model))
    ledger.create(row("other", kind="deployment"))

    def names(most=9, newest_first=False, **filters):
        return [one.name for one in ledger.some(most, newest_first, kind="job", **filters)]

    assert names() == ["desk-1", "Desk-2", "hall_3", "desk-4"] == names(newest_first=True)[::-1]
    assert (names(2), names(part="desk"), names(part="_")) == (["desk-1", "Desk-2"], ["desk-1", "desk-4"], ["hall_3"])
    assert names(status="Completed", after=first) == ["hall_3"]
    assert names(before=first + timedelta(seconds=1)) == names(model="arn:model-0") == ["desk-1"]
    assert names(statuses=("InProgress", "Stopping")) == ["Desk-2", "desk-4"]
    past = (first + timedelta(seconds=1), "arn:Desk-2")
    assert (names(past=past), names(newest_first=True, past=past)) == (["hall_3", "desk-4"], ["desk-1"])
    assert [one.name for one in ledger.some(9, kinds=("deployment", "import"))] == ["other"]


def test_what_only_pythons_parser_reads_is_read_all_the_same(ledger):
    odd = {"text": "half a pair: \ud800", "number": 10**30, "deep": json.loads("[" * 300 + "]" * 300)}
    if ledger.engine.dialect.name == "postgresql":
        del odd["text"]  # which JSONB refuses
    ledger.create(row("a", facts=odd))
    assert ledger.row("arn:a").facts == odd


def test_a_request_repeated_with_its_token_gets_the_first_answer_and_makes_nothing(ledger):
    done = []
    first = ledger.create(row("a"), Asking("Create", "t", "same"), {"k": "v"}, then=lambda _: done.append(1))
    assert ledger.create(row("b"), Asking("Create", "t", "same"), then=lambda _: done.append(2)) == first
    assert (done, ledger.row("arn:b"), ledger.tags(first)) == ([1], None, {"k": "v"})
    with pytest.raises(Conflict, match="clientRequestToken"):
        ledger.create(row("c"), Asking("Create", "t", "other"))


def test_a_name_is_taken_once_within_its_kind(ledger):
    ledger.create(row("a"))
    with pytest.raises(Conflict, match='"a" is taken by arn:a'):
        ledger.create(Resource(**{**vars_of(row("a")), "arn": "arn:other"}))
    ledger.create(Resource(**{**vars_of(row("a")), "arn": "arn:third", "kind": "deployment"}))


def test_a_name_that_another_has_is_given_to_nobody_else(ledger):
    ledger.create(row("a"))
    ledger.create(row("b"))
    with pytest.raises(Conflict, match='"a" is taken by arn:a'):
        ledger.change("arn:b", "Failed", name="a")
    assert (ledger.row("arn:b").name, ledger.row("arn:b").status) == ("b", row("b").status)
    assert ledger.change("arn:b", name="b") is not None and ledger.change("arn:b", name="c").name == "c"


@pytest.mark.parametrize("ledger", ["postgres"], indirect=True)  # SQLite has one writer at a time anyway
def test_what_is_looked_at_with_an_update_holds_until_it_is_written(ledger):
    ledger.create(row("a"))
    free = []

    def look(_):
        with ledger.engine.begin() as other:
            free.append(other.scalar(sa.text("select pg_try_advisory_xact_lock(8463)")))

    assert ledger.change("arn:a", facts={"next": {}}, then=look) is not None
    look(None)
    assert free == [False, True]  # whoever deletes a model is alone, too


def test_what_is_checked_before_a_row_is_made_holds_until_it_is_there(ledger):
    refused = []

    def check(session):
        if ledger.some(1, within=session, kind="job"):
            raise Conflict("one is enough")
        time.sleep(0.3)  # long enough for another to look

    def create(name):
        try:
            ledger.create(row(name), check=check)
        except Conflict:
            refused.append(name)

    threads = [threading.Thread(target=create, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (made,) = ledger.some(9, kind="job")
    assert {made.name, *refused} == {"a", "b"}


def vars_of(resource):
    return {
        column.name: getattr(resource, column.name) for column in Resource.__table__.columns if column.name != "version"
    }


def test_what_fails_inside_leaves_neither_row_nor_tag(ledger):
    def fail(_):
        raise RuntimeError("the queue is away")

    with pytest.raises(RuntimeError):
        ledger.create(row("a"), Asking("Create", "t", "x"), {"k": "v"}, then=fail)
    assert (ledger.row("arn:a"), ledger.tags("arn:a"), ledger.repeated(Asking("Create", "t", "x"))) == (None, {}, None)


def test_a_change_comes_only_from_the_states_it_may_come_from(ledger):
    ledger.create(row("a"))
    stopped = ledger.change("arn:a", "Stopped", ("InProgress",), {"seen": 1}, end=True)
    assert (stopped.status, stopped.facts, stopped.ended) == ("Stopped", {"seen": 1}, stopped.modified)
    assert ledger.change("arn:a", "Completed", ("InProgress",)) is None
    assert ledger.row("arn:a").status == "Stopped"
    assert ledger.change("arn:nobody", "Completed") is None


def test_facts_are_added_and_taken_away(ledger):
    ledger.create(row("a", facts={"x": 1, "next": 2}))
    assert ledger.change("arn:a", facts={"y": 3}, without=("next",)).facts == {"x": 1, "y": 3}


def test_changes_at_the_same_time_are_all_kept(ledger):
    ledger.create(row("a", facts={"count": 0}))

    def add():
        for _ in range(20):
            with ledger.engine.begin() as connection:
                table = Resource.__table__
                held = sa.select(table.c.facts).where(table.c.arn == "arn:a").with_for_update()
                count = connection.execute(held).scalar_one()["count"]
                connection.execute(sa.update(table).values(facts={"count": count + 1}))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledger.row("arn:a").facts == {"count": 80}


def test_times_come_back_aware_and_equal(ledger):
    made = row("a")
    moment = made.created
    ledger.create(made)
    found = ledger.row("arn:a").created
    assert (found, found.utcoffset()) == (moment, timedelta(0))


def test_rows_are_found_by_name_and_arn_and_only_in_their_kind(ledger):
    ledger.create(row("a"))
    assert ledger.get("job", "a").arn == ledger.get("job", "arn:a").arn == "arn:a"
    for kind, identifier in (("deployment", "a"), ("deployment", "arn:a"), ("job", "b"), ("job", "arn:b")):
        with pytest.raises(Unknown):
            ledger.get(kind, identifier)


def test_tags_are_added_replaced_limited_and_taken_away(ledger):
    assert ledger.tag("arn:a", {"x": "1", "y": "2"}, most=2)
    assert ledger.tag("arn:a", {"x": "3"}, most=2)
    assert not ledger.tag("arn:a", {"z": "4"}, most=2)
    ledger.untag("arn:a", ["y", "nothing"])
    assert ledger.tags("arn:a") == {"x": "3"}


def test_settings_and_heartbeats_are_kept(ledger):
    assert ledger.setting("logging") is None
    ledger.put_setting("logging", {"a": 1})
    ledger.put_setting("logging", {"b": 2})
    assert ledger.setting("logging") == {"b": 2}
    ledger.put_setting("logging", None)
    assert ledger.setting("logging") is None
    ledger.beat("w")
    ledger.beat("w")
    assert ledger.alive(now() - timedelta(seconds=60)) == {"w"}
    assert ledger.alive(now() + timedelta(seconds=60)) == set()


@pytest.mark.parametrize("url", ["mysql://x/y", "nothing", "sqlite://", "sqlite:///:memory:"])
def test_a_database_of_another_kind_is_refused_with_the_way_out(url):
    with pytest.raises(InvalidInput, match="LIMBECK_DATABASE"):
        engine_of(url)


def test_what_a_silent_worker_held_is_taken_up_by_one(ledger):
    long_ago, soon = now() - timedelta(seconds=6), now() + timedelta(seconds=60)
    assert ledger.inherit("never heard of", long_ago)
    assert not ledger.inherit("never heard of", long_ago)
    ledger.beat("alive")
    assert not ledger.inherit("alive", long_ago)
    assert ledger.inherit("alive", soon)


def test_nothing_has_a_name_that_no_database_keeps(ledger):
    assert ledger.find("job", "a\0b") is None and ledger.row("arn:aws:bedrock:\0") is None


@pytest.mark.parametrize("name", ["postgresql", "postgres", "postgresql+psycopg"])
def test_postgres_is_known_by_either_of_its_names(name):
    assert engine_of(f"{name}://ada@db/limbeck").url.drivername == "postgresql+psycopg"
