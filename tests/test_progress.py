"""What is said of work under way."""

from limbeck.progress import Lines


def test_a_rate_is_told_of_what_was_done_now_and_of_slow_work_too(monkeypatch):
    now, told = [0.0], []
    monkeypatch.setattr("limbeck.progress.time.monotonic", lambda: now[0])
    lines = Lines(told.append)
    with lines.task("answers", 17, "answers", done=17):
        now[0] += 5
    with lines.task("answers", 17, "answers", done=16) as task:
        now[0] += 40
        task.advance()
    assert told == ["answers: 17 of 17 answers", "answers: 17 of 17 answers, 0.025 a second"]
