"""Objects, in folders of our own and at an S3 server: one contract, the same tests."""

import os
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tried
from hypothesis import strategies as st
from tests.api.server import Server, free_port

from limbeck.errors import Conflict, InvalidInput, StorageFailed, UnknownObject
from limbeck.settings import S3Endpoint, Settings
from limbeck.storage.keys import Keys
from limbeck.storage.objects import Buckets, Endpoint, Uploads, open_objects, parse_uri

SECRET = "a-secret-of-the-endpoint"


@pytest.fixture(scope="module")
def nanio(tmp_path_factory):
    """An S3 server of other hands, which checks signatures."""
    folder, port = tmp_path_factory.mktemp("nanio"), free_port()
    (folder / "desk").mkdir()
    command = [sys.executable, "-m", "nanio", "serve", "--data-dir", str(folder), "--host", "127.0.0.1"]
    keys = {"NANIO_ACCESS_KEY": "limbeck", "NANIO_SECRET_KEY": SECRET}
    flags = ["--port", str(port), "--log-level", "error", "--no-access-log"]
    process = subprocess.Popen([*command, *flags], env={**os.environ, **keys})
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            assert process.poll() is None
            time.sleep(0.05)
    yield S3Endpoint(f"http://127.0.0.1:{port}", "limbeck", SECRET, "us-east-1")
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="module")
def limbeck(tmp_path_factory):
    """Our own S3, asked by obstore."""
    home = tmp_path_factory.mktemp("home")
    key = Keys(home / "keys.json").add("ada")
    Buckets(home / "buckets").make_bucket("desk")
    server = Server(home)
    yield S3Endpoint(server.url, key.id, key.secret, "us-east-1")
    server.stop()


@pytest.fixture(params=["buckets", "nanio", "limbeck"])
def objects(request, tmp_path):
    if request.param != "buckets":
        made = Endpoint(request.getfixturevalue(request.param))
        for one in list(made.list("desk")):
            made.remove("desk", one.key)
        return made
    made = Buckets(tmp_path / "buckets")
    made.make_bucket("desk")
    return made


@pytest.fixture
def buckets(tmp_path):
    made = Buckets(tmp_path / "buckets")
    made.make_bucket("desk")
    return made


def whole(objects, key):
    return b"".join(objects.read("desk", key))


def test_what_is_put_is_read_whole_and_in_ranges(objects):
    data = bytes(range(256)) * 8192  # two pieces
    put = objects.put("desk", "a/b c/ü+~#1.bin", iter((data[:700_000], data[700_000:])))
    found = objects.head("desk", "a/b c/ü+~#1.bin")
    assert (found.size, found.key, found.uri) == (len(data), "a/b c/ü+~#1.bin", "s3://desk/a/b c/ü+~#1.bin")
    assert found.etag == put.etag
    assert whole(objects, found.key) == data
    assert b"".join(objects.read("desk", found.key, 255, 1_100_000)) == data[255:1_100_000]
    assert b"".join(objects.read("desk", found.key, len(data), len(data) + 5)) == b""
    objects.put("desk", found.key, b"other")
    assert whole(objects, found.key) == b"other"
    assert objects.head("desk", found.key).etag != put.etag
    assert [one.key for one in objects.list("desk")] == [found.key]
    objects.put("desk", "empty", b"")
    assert whole(objects, "empty") == b""


def test_what_is_not_there_is_said_at_once(objects):
    for ask in (objects.head, objects.read):
        with pytest.raises(UnknownObject, match='no object "none"') as caught:
            ask("desk", "none")
        assert caught.value.code == "NoSuchKey"
    assert not objects.exists("desk", "none")
    objects.remove("desk", "none")
    objects.put("desk", "some", b"1")
    assert objects.exists("desk", "some")
    objects.remove("desk", "some")
    assert not objects.exists("desk", "some")
    with pytest.raises(UnknownObject) as caught:
        list(objects.list("no-such-bucket"))
    assert caught.value.code == "NoSuchBucket"


def test_create_only_leaves_what_is_there(objects):
    objects.put("desk", "once", b"1", new=True)
    with pytest.raises(Conflict, match="there already"):
        objects.put("desk", "once", b"2", new=True)
    assert whole(objects, "once") == b"1"


def test_lists_are_sorted_by_key_and_begin_where_they_are_told_to(objects):
    keys = ["a-b", "a.txt", "a/1", "a/2/3", "ab", "a0", "é", "z/9"]
    for key in keys:
        objects.put("desk", key, key.encode())
    assert [one.key for one in objects.list("desk")] == sorted(keys)
    assert {one.key: one.size for one in objects.list("desk")} == {key: len(key.encode()) for key in keys}
    for prefix in ("a", "a/", "a/2", "a/2/", "ab", "nothing", "a//", "../", "é"):
        assert [one.key for one in objects.list("desk", prefix)] == [
            key for key in sorted(keys) if key.startswith(prefix)
        ]
    for after in ("a", "a/", "a/1", "a/2/3", "a0", "zz"):
        assert [one.key for one in objects.list("desk", after=after)] == [key for key in sorted(keys) if key > after]
    assert [one.uri for one in objects.find("s3://desk/a/")] == ["s3://desk/a/1", "s3://desk/a/2/3"]


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", ".", "../a", "a/../b", "a/.", "a\nb", "a\0b", "\ud800", "x" * 256, "x/" * 512 + "y"]
)
def test_keys_that_no_file_can_have_are_refused(objects, key):
    for ask in (objects.head, objects.read, objects.remove, lambda bucket, key: objects.put(bucket, key, b"")):
        with pytest.raises(InvalidInput, match=r"key .*; expected"):
            ask("desk", key)


@pytest.mark.parametrize("bucket", ["", "ab", "UPPER", "..", "a..b", "-ab", "a/b", ".about.sqlite", "x" * 64, "é" * 4])
def test_bucket_names_that_are_none_are_refused(objects, bucket):
    with pytest.raises((InvalidInput, UnknownObject), match="bucket"):
        objects.put(bucket, "key", b"")
    with pytest.raises((InvalidInput, UnknownObject), match="bucket"):
        objects.list(bucket)


def test_files_and_trees_travel_both_ways_with_the_manifest_last(objects, tmp_path, monkeypatch):
    folder = tmp_path / "6-model"
    (folder / "deep").mkdir(parents=True)
    for name, text in (("manifest.json", "{}"), ("weights", "w" * 3_000_000), ("deep/zz", "z"), (".inputs.json", "no")):
        (folder / name).write_text(text)
    (folder / "link").symlink_to(folder / "weights")
    order, put = [], objects.put
    monkeypatch.setattr(objects, "put", lambda bucket, key, *rest: order.append(key) or put(bucket, key, *rest))
    objects.publish_tree(folder, "s3://desk/out/job/")
    assert order == ["out/job/deep/zz", "out/job/weights", "out/job/manifest.json"]
    got = objects.fetch("s3://desk/out/job/weights", tmp_path / "new" / "weights")
    assert got.read_text() == "w" * 3_000_000
    with pytest.raises(UnknownObject):
        objects.fetch("s3://desk/none", got)
    assert got.stat().st_size == 3_000_000
    assert list(got.parent.iterdir()) == [got]


@pytest.mark.parametrize(
    ("uri", "found"),
    [
        ("s3://desk/a/b", ("desk", "a/b")),
        ("s3://desk/a/", ("desk", "a/")),
        ("s3://desk", ("desk", "")),
        ("s3://desk/", ("desk", "")),
    ],
)
def test_an_address_is_a_bucket_and_a_key(uri, found):
    assert parse_uri(uri) == found


@pytest.mark.parametrize("uri", ["", "desk/a", "S3://desk/a", "file:///a", "s3:///a", "s3://"])
def test_what_is_no_address_is_refused_with_what_was_expected(uri):
    with pytest.raises(InvalidInput, match="expected s3://BUCKET/KEY"):
        parse_uri(uri)
    with pytest.raises(InvalidInput, match="3 to 63"):
        parse_uri("s3://A/b")


PART = st.text(st.characters(blacklist_characters="/"), max_size=6) | st.sampled_from(["..", ".", "", "a", "%2e%2e"])


@tried(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PART, min_size=1, max_size=4).map("/".join))
def test_no_key_leads_out_of_its_bucket(buckets, key):
    outside = sorted(path for path in buckets.root.parent.rglob("*") if buckets.root / "desk" not in path.parents)
    try:
        buckets.put("desk", key, b"x")
    except InvalidInput:
        return
    assert whole(buckets, key) == b"x"
    assert [one.key for one in buckets.list("desk")] == [key]
    (written,) = (path for path in (buckets.root / "desk").rglob("*") if path.is_file())
    assert written.relative_to(buckets.root / "desk").as_posix() == key
    buckets.remove("desk", key)
    assert list((buckets.root / "desk").iterdir()) == []
    now = sorted(path for path in buckets.root.parent.rglob("*") if buckets.root / "desk" not in path.parents)
    assert {path for path in now if path.name != ".incoming" and "sqlite" not in path.name} <= set(outside)


def test_a_key_cannot_be_a_file_and_a_folder_until_the_other_is_gone(buckets):
    buckets.put("desk", "a/b/c", b"1")
    for key in ("a", "a/b", "a/b/c/d"):
        with pytest.raises(InvalidInput, match="a folder cannot also be a file"):
            buckets.put("desk", key, b"2")
    buckets.remove("desk", "a/b/c")
    buckets.put("desk", "a", b"2")
    assert whole(buckets, "a") == b"2"


def test_symbolic_links_are_neither_read_nor_written_nor_listed(buckets, tmp_path):
    (tmp_path / "secret").write_text("hidden")
    (buckets.root / "desk" / "file").symlink_to(tmp_path / "secret")
    (buckets.root / "desk" / "folder").symlink_to(tmp_path)
    (buckets.root / "linked-bucket").symlink_to(tmp_path)
    for key in ("file", "folder/secret"):
        for ask in (buckets.head, buckets.read, lambda bucket, key: buckets.put(bucket, key, b"changed")):
            with pytest.raises(InvalidInput, match="symbolic link"):
                ask("desk", key)
    assert list(buckets.list("desk")) == []
    with pytest.raises(InvalidInput, match="symbolic link"):
        list(buckets.list("desk", "folder/"))
    with pytest.raises(UnknownObject):
        buckets.head("linked-bucket", "secret")
    assert [name for name, _ in buckets.buckets()] == ["desk"]
    assert (tmp_path / "secret").read_text() == "hidden"


def test_a_tag_is_the_md5_until_the_file_is_changed_by_hand(buckets):
    put = buckets.put("desk", "a", b"hello", headers={"content-type": "text/plain"})
    assert put.etag == "5d41402abc4b2a76b9719d911017c592"
    assert buckets.head("desk", "a") == put
    assert put.headers == {"content-type": "text/plain"}
    (buckets.root / "desk" / "a").write_text("other")
    found = buckets.head("desk", "a")
    assert "-" in found.etag
    assert found.headers == {}


def test_a_put_on_condition_changes_only_what_was_meant(buckets):
    first = buckets.put("desk", "a", b"1")
    second = buckets.put("desk", "a", b"2", instead_of=first.etag)
    with pytest.raises(Conflict, match="not the one with tag"):
        buckets.put("desk", "a", b"3", instead_of=first.etag)
    assert buckets.head("desk", "a").etag == second.etag


def test_of_many_that_create_one_succeeds_and_nothing_is_left_behind(buckets):
    won, lost = [], []

    def create(number):
        try:
            won.append(buckets.put("desk", "deep/one", str(number).encode() * 10_000, new=True).etag)
        except Conflict:
            lost.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 7)
    assert buckets.head("desk", "deep/one").etag == won[0]
    assert list((buckets.root / ".incoming").iterdir()) == []


def test_a_put_that_breaks_off_leaves_what_was_there(buckets):
    buckets.put("desk", "a", b"before")

    def broken():
        yield b"half"
        raise OSError("the line broke")

    with pytest.raises(OSError, match="the line broke"):
        buckets.put("desk", "a", broken())
    assert whole(buckets, "a") == b"before"
    assert list((buckets.root / ".incoming").iterdir()) == []


def test_only_an_empty_bucket_is_removed_and_its_settings_with_it(buckets):
    buckets.put("desk", "a/b", b"1")
    buckets.set("desk", "policy", b"{}")
    with pytest.raises(Conflict, match="not empty"):
        buckets.remove_bucket("desk")
    assert whole(buckets, "a/b") == b"1"
    buckets.remove("desk", "a/b")
    buckets.remove_bucket("desk")
    assert buckets.buckets() == []
    buckets.make_bucket("desk")
    assert buckets.setting("desk", "policy") is None


def test_parts_are_joined_in_their_order_and_only_as_they_were_sent(buckets):
    uploads = Uploads(buckets)
    upload = uploads.begin("desk", "big", {"content-type": "text/plain"})
    uploads.put_part(upload, "desk", "big", 2, [b"never"])
    tags = [
        (number, uploads.put_part(upload, "desk", "big", number, [text]))
        for number, text in ((2, b"world"), (1, b"hello "))
    ]
    first, second = tags[1], tags[0]
    for parts, said in (
        ([], "must be named"),
        ([second, first], "ascending"),
        ([first, (2, "0" * 32)], "not sent"),
        ([first, (2, "../../x")], "not sent"),
        ([(1, "*")], "not sent"),
        ([first, second, (3, "a")], "not sent"),
    ):
        with pytest.raises(InvalidInput, match=said):
            uploads.end(upload, "desk", "big", parts)
    for other in (("desk", "other"), ("moon", "big")):
        with pytest.raises(UnknownObject):
            uploads.end(upload, *other, [first, second])
    made = uploads.end(upload, "desk", "big", [first, second])
    assert whole(buckets, "big") == b"hello world"
    assert made.etag.endswith("-2")
    assert made.headers == {"content-type": "text/plain"}
    for ask in (
        lambda: uploads.put_part(upload, "desk", "big", 3, [b"late"]),
        lambda: uploads.drop(upload, "desk", "big"),
        lambda: uploads.drop("../desk", "desk", "big"),
    ):
        with pytest.raises(UnknownObject, match="no upload of that id"):
            ask()


def test_an_upload_nobody_ends_is_forgotten_after_a_week(buckets):
    uploads = Uploads(buckets)
    old, young = uploads.begin("desk", "a"), uploads.begin("desk", "b")
    week = time.time() - 8 * 24 * 3600
    os.utime(buckets.root / ".uploads" / old, (week, week))
    uploads.begin("desk", "c")
    uploads.drop(young, "desk", "b")
    with pytest.raises(UnknownObject):
        uploads.drop(old, "desk", "a")


def test_what_goes_while_it_is_looked_for_disturbs_nobody(buckets, monkeypatch):
    uploads = Uploads(buckets)
    for key in ("a/1", "b/1"):
        buckets.put("desk", key, b"x")
    listed = buckets.list("desk")
    assert next(listed).key == "a/1"
    buckets.remove("desk", "b/1")
    assert list(listed) == []
    uploads.begin("desk", "c")
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [*glob(self, pattern), self / "gone"])
    uploads.begin("desk", "d")


def test_an_endpoint_that_refuses_or_is_away_is_named_and_its_secret_is_not(nanio):
    wrong = replace(nanio, secret_access_key="another-secret")
    away = replace(nanio, url=f"http://127.0.0.1:{free_port()}")
    for server, said in ((wrong, "refuses our key"), (away, "is the server there")):
        objects = Endpoint(server)
        for ask in (
            lambda one=objects: one.put("desk", "a", b"1"),
            lambda one=objects: one.head("desk", "a"),
            lambda one=objects: list(one.list("desk")),
        ):
            with pytest.raises(StorageFailed, match=said) as caught:
                ask()
            assert server.url in str(caught.value)
            assert server.secret_access_key not in str(caught.value) + repr(server)


def test_the_endpoint_is_read_from_the_environment_whole_or_refused(tmp_path, monkeypatch):
    assert isinstance(open_objects(Settings.read(tmp_path)), Buckets)
    monkeypatch.setenv("LIMBECK_S3_ENDPOINT", "http://127.0.0.1:9000/")
    with pytest.raises(InvalidInput, match="LIMBECK_S3_SECRET_ACCESS_KEY must be"):
        Settings.read(tmp_path)
    monkeypatch.setenv("LIMBECK_S3_ACCESS_KEY_ID", "limbeck")
    monkeypatch.setenv("LIMBECK_S3_SECRET_ACCESS_KEY", SECRET)
    found = Settings.read(tmp_path)
    assert found.s3 == S3Endpoint("http://127.0.0.1:9000", "limbeck", SECRET, "us-east-1")
    assert SECRET not in repr(found)
    assert isinstance(open_objects(found), Endpoint)
    monkeypatch.setenv("LIMBECK_S3_ENDPOINT", "s3.example.com")
    with pytest.raises(InvalidInput, match="expected http://HOST:PORT"):
        Settings.read(tmp_path)


def test_an_object_of_the_longest_name_is_fetched_under_that_name(buckets, tmp_path):
    name = "x" * 255
    buckets.put("desk", name, b"rows")
    assert buckets.fetch(f"s3://desk/{name}", tmp_path / name).read_bytes() == b"rows"
