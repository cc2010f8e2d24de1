"""Work that survives its workers: the durable queue, and supervised child processes. Knows nothing of what is done.

queue     rows to be worked on, enqueued in the transaction that makes them; taken up again after a crash
stopping  jobs that are stopped while they wait
child     a heavy step as a process of its own: ended with its parent, stopped within seconds
"""
