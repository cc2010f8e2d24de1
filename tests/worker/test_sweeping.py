"""What a killed process was writing goes; what somebody is writing, or has written, stays."""

import os
import time

from limbeck.worker.sweeping import OLD_SECONDS, sweep


def test_only_what_is_old_and_half_written_goes(settings):
    kept = ["jobs/a/4-training/.inputs.json", "jobs/a/.lock", "models/m.json", "buckets/desk/.rows.jsonl.abcdefgh"]
    left = [
        "jobs/a/6-model/.model-f16.gguf.abcdefgh",
        "models/.m.json.a1b2c3d4",
        "buckets/.incoming/tmpabc",
        "scratch/x",
    ]
    for name in (*kept, *left, "imported/.one.abcdefgh/config.json", "models/.n.json.a1b2c3d4"):
        path = settings.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    old = time.time() - OLD_SECONDS - 60
    for name in (*kept, *left, "imported/.one.abcdefgh"):
        os.utime(settings.home / name, (old, old))
    sweep(settings)
    files = {str(path.relative_to(settings.home)) for path in settings.home.rglob("*") if path.is_file()}
    assert files == {*kept, "models/.n.json.a1b2c3d4"}
