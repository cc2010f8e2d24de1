"""`limbeck serve` as its users meet it: a process of its own."""

import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import contextmanager

import boto3
from botocore.config import Config


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    """`limbeck serve` as a process, ended by its id; ``authority`` is the file its clients trust over https."""

    def __init__(self, home, *flags, authority=None, **environment):
        self.port, self.authority = free_port(), authority
        self.url = f"{'https' if authority else 'http'}://127.0.0.1:{self.port}"
        command = [sys.executable, "-m", "limbeck", "serve", "--port", str(self.port), "--home", str(home), *flags]
        self.began = time.monotonic()
        environment = {**os.environ, **environment}
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        while self.ask("GET", "/health")[0] != 200:
            assert self.process.poll() is None, self.process.stderr.read()
            assert time.monotonic() - self.began < 60
            time.sleep(0.05)

    def line(self):
        """A connection, to speak HTTP by hand."""
        if self.authority is None:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        trusted = ssl.create_default_context(cafile=self.authority)
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=trusted)

    def ask(self, method, path, body=None, headers=()):
        if self.authority is not None and not self.authority.exists():
            return 0, {}, b""  # it has not made its certificate yet
        line = self.line()
        try:
            line.request(method, path, body, dict(headers))
            answer = line.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        except ConnectionRefusedError:
            return 0, {}, b""
        finally:
            line.close()

    def client(self, key_id="any", secret="any", service="bedrock", token=None, make=boto3.client, **options):
        return make(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            aws_session_token=token,
            verify=self.authority and str(self.authority),
            config=Config(retries={"total_max_attempts": 1}, **options),
        )

    def aws(self, *arguments, key_id="any", secret="any", **environment):
        """What aws-cli does with ``arguments``: its status, output and complaints."""
        own = {"AWS_ACCESS_KEY_ID": key_id, "AWS_SECRET_ACCESS_KEY": secret, "AWS_DEFAULT_REGION": "us-east-1"}
        command = [sys.executable, "-m", "awscli", *map(str, arguments), "--endpoint-url", self.url]
        return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **own, **environment})

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(20)
        said = self.process.stderr.read()
        self.process.stderr.close()
        return status, said


@contextmanager
def serving(home, *flags, **environment):
    """A server that takes any request, and has told of no fault of its own when it ends."""
    made = Server(home, "--no-auth", *flags, **environment)
    yield made
    _, said = made.stop()
    assert "Traceback" not in said
