"""Real git servers on this machine: https with tokens and a certificate of its own, ssh with keys, git daemon."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
import socket
import ssl
import subprocess
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.parts import program
from tests.services.mlflow_server import free_port
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

HOST = "127.0.0.1"
MLPROJECT = """
name: wine
entry_points:
  main:
    parameters: {alpha: {type: float, default: 0.5}}
    command: "python train.py {alpha}"
"""


def git(folder: Path, *arguments: str) -> str:
    """Run git as somebody."""
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org", "-c", "protocol.file.allow=always")
    done = subprocess.run(
        [program("git", "install git"), *who, "-c", "tag.gpgsign=false", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    )
    return done.stdout.strip()


@dataclass
class Repository:
    """A repository with a branch, tags, a subfolder and some history.

    :param bare: where servers read it.
    :param work: where it is written.
    """

    bare: Path
    work: Path

    @classmethod
    def create(cls, root: Path, name: str) -> Repository:
        bare, work = root / f"{name}.git", root.parent / f"{root.name}-{name}"
        for folder in (bare, work):
            folder.mkdir(parents=True)
        git(bare, "init", "--bare", "--initial-branch=main")
        git(work, "init", "--initial-branch=main")
        git(work, "remote", "add", "origin", str(bare))
        made = cls(bare, work)
        made.write({"MLproject": MLPROJECT, "train.py": "print('one')", "training/MLproject": MLPROJECT}, "one")
        git(work, "tag", "-a", "v1", "-m", "annotated")
        git(work, "branch", "feature/next")
        made.write({"train.py": "print('two')"}, "two")
        git(work, "push", "--all", "origin")
        git(work, "push", "--tags", "origin")
        return made

    def write(self, files: dict[str, str], message: str = "more") -> str:
        for name, text in files.items():
            (self.work / name).parent.mkdir(parents=True, exist_ok=True)
            (self.work / name).write_text(text)
        return self.commit(message)

    def commit(self, message: str = "more") -> str:
        git(self.work, "add", ".")
        git(self.work, "commit", "--allow-empty", "-m", message)
        git(self.work, "push", "origin", "HEAD")
        return git(self.work, "rev-parse", "HEAD")

    def id(self, name: str) -> str:
        return git(self.work, "rev-parse", f"{name}^{{commit}}")


def command_lines() -> Iterator[str]:
    """The command line of every process of this machine, now."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue


def certificate(folder: Path, host: str = HOST) -> Path:
    """A certificate for this machine that nobody knows; its file holds the key too."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test CA")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "server.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + secret)
    return file


@dataclass
class HttpsServer:
    """`git http-backend` behind TLS; a request needs the token unless the repository is public.

    :param root: folder of bare repositories.
    :param token: the only password that is taken.
    :param status: answered to every request, if set.
    :param login: names and passwords that clients sent.
    :param seen: command lines of all processes while a client with a password waited.
    """

    root: Path
    certificate: Path
    token: str
    public: tuple[str, ...] = ()
    host: str = HOST
    status: int = 0
    backend: dict[str, str] = field(default_factory=dict)
    login: list[tuple[str, str]] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)
    server: ThreadingHTTPServer | None = None

    def start(self) -> HttpsServer:
        """Serve in a thread."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate)
        self.server = ThreadingHTTPServer((self.host, 0), type("Handler", (_Handler,), {"owner": self}))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def stop(self) -> None:
        """Close the port."""
        if self.server:
            self.server.shutdown()
            self.server.server_close()

    @property
    def url(self) -> str:
        """Base URL, without a slash at its end."""
        assert self.server
        return f"https://{self.host}:{self.server.server_address[1]}"

    def admits(self, path: str, authorization: str) -> bool:
        """Whether a request may pass."""
        if authorization:
            name, _, password = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
            self.login.append((name, password))
            self.seen.update(command_lines())
            return password == self.token
        return path.strip("/").partition("/")[0] in self.public


class _Handler(BaseHTTPRequestHandler):
    owner: HttpsServer

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        path, _, query = self.path.partition("?")
        if self.owner.status:
            self.send_error(self.owner.status)
        elif not self.owner.admits(path, self.headers.get("Authorization", "")):
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._pass_on(path, query, body)

    def _pass_on(self, path: str, query: str, body: bytes) -> None:
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.owner.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "REMOTE_USER": "somebody",
        } | self.owner.backend
        done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=env, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        self.send_response(int(headers.pop("Status", "200").split()[0]))
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


@dataclass
class SshServer:
    """An sshd of this user alone, with one host key and one key that may log in.

    :param folder: its keys and configuration.
    """

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> SshServer:
        """Make the keys, start it and wait until it listens."""
        sshd = program("sshd", "sshd is missing; install it: apt-get install openssh-server", "/usr/sbin")
        for name in ("host", "client"):
            self.new_key(name)
        (self.folder / "authorized").write_text((self.folder / "client.pub").read_text())
        (self.folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress {HOST}\nHostKey {self.folder}/host\nUsePAM no\nStrictModes no\n"
            f"AuthorizedKeysFile {self.folder}/authorized\nPidFile none\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        )
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where root's sshd locks itself in
        with (self.folder / "log").open("wb") as log:
            command = [sshd, "-D", "-e", "-f", str(self.folder / "sshd_config")]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_for(lambda: _listening(self.port), "for sshd: " + (self.folder / "log").read_text())
        return self

    def new_key(self, name: str, passphrase: str = "") -> str:
        """A key pair in the folder; returns the private one."""
        keygen = program("ssh-keygen", "ssh-keygen is missing; install it: apt-get install openssh-client")
        file = self.folder / name
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", passphrase, "-f", file], check=True)
        return file.read_text()

    def stop(self) -> None:
        """Stop it."""
        if self.process:
            self.process.kill()
            self.process.wait()

    @property
    def key(self) -> str:
        """The private key that may log in."""
        return (self.folder / "client").read_text()

    @property
    def known_hosts(self) -> str:
        """The line that vouches for this server."""
        return f"[{HOST}]:{self.port} " + (self.folder / "host.pub").read_text()


@dataclass
class GitDaemon:
    """`git daemon`, which knows no logins."""

    root: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> GitDaemon:
        """Start it and wait until it listens."""
        where = [f"--base-path={self.root}", f"--port={self.port}", f"--listen={HOST}"]
        self.process = subprocess.Popen(["git", "daemon", "--export-all", "--reuseaddr", *where])
        wait_for(lambda: _listening(self.port), "for git daemon")
        return self

    def stop(self) -> None:
        """Stop it; its child serves the port."""
        if self.process:
            self.process.terminate()
            self.process.wait()
