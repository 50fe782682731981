"""The init container's program against real git servers; the token and the key must appear nowhere."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.parts import program
from tests.services.git_servers import (
    HOST,
    MLPROJECT,
    GitDaemon,
    HttpsServer,
    Repository,
    SshServer,
    certificate,
    git,
)
from tests.services.mlflow_server import free_port
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = "glpat-5ecret_T0ken"
MISTAKE, OUTAGE = 78, 75


@dataclass
class Fetch:
    """One run of the init container after another, in one folder, with everything it does recorded."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    output: str = ""
    message: str = ""

    def __post_init__(self) -> None:
        self.home, self.volume, self.bin = (self.folder / name for name in ("home", "mlplatform", "bin"))
        for folder in (self.home, self.volume, self.bin):
            folder.mkdir()
        # Whatever git starts (ssh, helpers, shells) is recorded by git itself.
        real = program("git", "install git")
        wrapper = f'#!/bin/sh\nGIT_TRACE2_EVENT={self.folder}/trace GIT_TRACE2_DST_DEBUG=1 exec {real} "$@"\n'
        (self.bin / "git").write_text(wrapper)
        (self.bin / "git").chmod(0o755)

    @property
    def target(self) -> Path:
        return self.volume / "project"

    @property
    def result(self) -> Path:
        return self.folder / "termination-log"

    @property
    def command(self) -> list[str]:
        return [sys.executable, "-m", "airflow_mlplatform.fetch_project", "--result", str(self.result)]

    def environment(self, **more: str) -> dict[str, str]:
        path = f"{self.bin}:{os.environ['PATH']}"
        return {"PATH": path, "HOME": str(self.home), "TMPDIR": str(self.home), **self.env, **more}

    def run(self, uri: str, secret: str = "", env: dict[str, str] | None = None, **request: Any) -> int:
        """Fetch; returns the exit code."""
        wanted = {"uri": uri, "target": str(self.target), **request}
        given = {"MLPLATFORM_GIT_SECRET": secret} if secret else {}
        given = self.environment(MLPLATFORM_PROJECT=json.dumps(wanted), **given, **(env or {}))
        done = subprocess.run(self.command, env=given, capture_output=True, text=True, check=False, cwd=self.home)
        self.output, self.message = done.stdout + done.stderr, self.result.read_text()
        assert "Traceback" not in self.output, self.output
        assert list(self.home.iterdir()) == [], "nothing is left in the temporary folder"
        return done.returncode

    def fetched(self, *args: Any, **more: Any) -> str:
        """Fetch, which must go well; returns the commit."""
        code = self.run(*args, **more)
        assert code == 0, self.output
        found = json.loads(self.message)
        assert found["code_version"] == found["commit"]
        assert not [path for path in self.volume.rglob("*") if path.name == ".git"]
        return str(found["commit"])

    def refused(self, code: int, *args: Any, **more: Any) -> str:
        """Fetch, which must fail with the code; returns the reason."""
        assert self.run(*args, **more) == code, self.output
        assert self.message in self.output
        assert "\n" not in self.message
        return self.message

    def assert_nowhere(self, *secrets: str) -> None:
        """No secret stands in a command line, the output, the termination message or a file."""
        trace = self.folder / "trace"
        assert trace.stat().st_size > 0
        texts = {"output": self.output, "message": self.message, "command lines": trace.read_text()}
        texts |= {
            str(path): path.read_bytes().decode(errors="replace") for path in self.volume.rglob("*") if path.is_file()
        }
        for secret in secrets:
            for name, text in texts.items():
                assert secret not in text, name


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program("git", "install git")
    return tmp_path_factory.mktemp("repositories") / "served"


@pytest.fixture(scope="module")
def repository(root: Path) -> Repository:
    """Read by all tests and changed by none."""
    return Repository.create(root, "wine")


@pytest.fixture
def own(root: Path, tmp_path: Path) -> Repository:
    """A repository of this test alone."""
    return Repository.create(root, tmp_path.name)


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def https(root: Path, pem: Path) -> Iterator[HttpsServer]:
    server = HttpsServer(root, pem, TOKEN, public=("public.git",)).start()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    server = SshServer(tmp_path_factory.mktemp("ssh")).start()
    yield server
    server.stop()


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path)


class TestHttps:
    @pytest.fixture(autouse=True)
    def trusts(self, fetch: Fetch, pem: Path) -> None:
        fetch.env["GIT_SSL_CAINFO"] = str(pem)

    @pytest.mark.parametrize(
        ("version", "name"), [(None, "main"), ("main", "main"), ("feature/next", "feature/next"), ("v1", "v1")]
    )
    def test_versions(
        self, fetch: Fetch, https: HttpsServer, repository: Repository, version: str | None, name: str
    ) -> None:
        commit = fetch.fetched(f"{https.url}/wine.git", TOKEN, version=version, parameters={"alpha": 0.1})
        assert commit == repository.id(name)
        assert (fetch.target / "train.py").read_text() == git(repository.work, "show", f"{commit}:train.py")

    @pytest.mark.parametrize("digits", [40, 12, 7])
    @pytest.mark.parametrize("backend", [{}, {"GIT_PROTOCOL": ""}], ids=["today's protocol", "protocol 0"])
    def test_commits(
        self, fetch: Fetch, https: HttpsServer, repository: Repository, digits: int, backend: dict[str, str]
    ) -> None:
        https.backend = backend
        wanted = repository.id("v1")
        assert fetch.fetched(f"{https.url}/wine.git", TOKEN, version=wanted[:digits]) == wanted

    def test_the_token_appears_nowhere(self, fetch: Fetch, https: HttpsServer, repository: Repository) -> None:
        fetch.fetched(f"{https.url}/wine.git#training", TOKEN + "\n", env={"GIT_TRACE": "1", "GIT_CURL_VERBOSE": "1"})
        assert ("x-access-token", TOKEN) in https.login
        hidden = (TOKEN, base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode())
        fetch.assert_nowhere(*hidden)
        assert any("git-remote-https" in line for line in https.seen)
        assert not [line for line in https.seen if any(secret in line for secret in hidden)]

    def test_a_user_name_of_its_own(self, fetch: Fetch, https: HttpsServer, repository: Repository) -> None:
        fetch.fetched(f"{https.url}/wine.git", TOKEN, env={"MLPLATFORM_GIT_USERNAME": "deploy-7"})
        fetch.fetched(https.url.replace("//", "//ann@") + "/wine.git", TOKEN)
        assert {name for name, _ in https.login} == {"deploy-7", "ann"}

    def test_a_public_repository(self, fetch: Fetch, https: HttpsServer, root: Path) -> None:
        public = Repository.create(root, "public")
        assert fetch.fetched(f"{https.url}/public.git") == public.id("main")
        assert https.login == []

    def test_subfolders_keep_what_lies_beside_them(
        self, fetch: Fetch, https: HttpsServer, repository: Repository
    ) -> None:
        fetch.fetched(f"{https.url}/wine.git#training", TOKEN)
        assert (fetch.target / "MLproject").is_file()
        assert (fetch.target.resolve().parent / "train.py").is_file()
        moved = fetch.volume.rename(fetch.folder / "mounted elsewhere")
        assert (moved / "project" / "MLproject").is_file()

    @pytest.mark.parametrize(
        ("request_", "words"),
        [
            ({"version": "v9"}, "has no branch or tag 'v9'"),
            ({"version": "abcdef1"}, "no branch, tag or commit 'abcdef1'"),
            ({"version": "a" * 40}, "no branch, tag or commit 'aaa"),
            ({"version": "--upload-pack=touch hacked"}, "no branch or tag"),
            ({"uri": "/wine.git#trianing"}, "no folder 'trianing'"),
            ({"uri": "/wine.git#../.."}, r"no folder '\.\./\.\.'"),
            ({"uri": "/wien.git"}, "not found.*correct the uri"),
            ({"entry_point": "mian"}, "no entry point 'mian', only: main"),
            ({"parameters": {"alhpa": 1}}, "no parameter 'alhpa'; did you mean 'alpha'"),
            ({"secret": "wrong"}, "Authentication failed.*project.secret"),
            ({"secret": ""}, "could not read Username.*project.secret"),
            ({"secret": "two words"}, "blanks or several lines"),
            ({"secret": "-----BEGIN OPENSSH PRIVATE KEY-----"}, "private key, which only ssh takes"),
            ({"uri": "/wine.zip"}, "zip file"),
        ],
    )
    def test_mistakes(
        self, fetch: Fetch, https: HttpsServer, repository: Repository, request_: dict[str, Any], words: str
    ) -> None:
        uri, secret = request_.pop("uri", "/wine.git"), request_.pop("secret", TOKEN)
        reason = fetch.refused(MISTAKE, https.url + uri, secret, **request_)

        assert re.search(words, reason), reason
        assert TOKEN not in fetch.output

    def test_a_token_in_the_url_is_refused_and_not_shown(self, fetch: Fetch) -> None:
        for login in ("ann:s3cret-word", "ghp_s3cret-word", "ghp_s3cret-word:x-oauth-basic"):
            reason = fetch.refused(MISTAKE, f"https://{login}@git.example.org/wine.git")
            assert "project.secret" in reason
            assert "s3cret" not in fetch.output

    def test_an_unknown_certificate_is_a_mistake(
        self, fetch: Fetch, https: HttpsServer, repository: Repository
    ) -> None:
        reason = fetch.refused(MISTAKE, f"{https.url}/wine.git", TOKEN, env={"GIT_SSL_CAINFO": "/etc/ssl/cert-none"})
        assert "GIT_SSL_CAINFO" in reason
        del fetch.env["GIT_SSL_CAINFO"]
        assert "GIT_SSL_CAINFO" in fetch.refused(MISTAKE, f"{https.url}/wine.git", TOKEN)
        assert https.login == [], "the token is not shown to a server that nobody vouches for"

    def test_python_s_variable_for_certificates_counts(
        self, fetch: Fetch, https: HttpsServer, repository: Repository, pem: Path
    ) -> None:
        del fetch.env["GIT_SSL_CAINFO"]
        fetch.fetched(f"{https.url}/wine.git", TOKEN, env={"SSL_CERT_FILE": str(pem)})

    @pytest.mark.parametrize("status", [500, 502, 503, 429])
    def test_a_server_in_trouble_is_an_outage(self, fetch: Fetch, https: HttpsServer, status: int) -> None:
        https.status = status
        assert str(status) in fetch.refused(OUTAGE, f"{https.url}/wine.git", TOKEN)

    def test_no_server_is_an_outage(self, fetch: Fetch) -> None:
        assert HOST in fetch.refused(OUTAGE, f"https://{HOST}:{free_port()}/wine.git", TOKEN)
        assert "no-such-host" in fetch.refused(OUTAGE, "https://no-such-host.invalid/wine.git", TOKEN)

    def test_leftovers_of_a_killed_try_are_replaced(
        self, fetch: Fetch, https: HttpsServer, repository: Repository
    ) -> None:
        half = fetch.volume / "project.whole"
        (half / ".git").mkdir(parents=True)
        (half / ".git" / "index.lock").touch()
        fetch.target.symlink_to(half)
        for uri in ("#training", "", "#training", ""):
            fetch.fetched(f"{https.url}/wine.git{uri}", TOKEN)
            assert (fetch.target / "MLproject").is_file()
        assert not (fetch.target / "project.whole").exists()
        assert not half.exists()

    def test_submodules_of_the_same_server(self, fetch: Fetch, https: HttpsServer, own: Repository) -> None:
        git(own.work, "submodule", "add", "../wine.git", "same")
        module = own.work / ".gitmodules"
        for url in ("../wine.git", f"{https.url}/wine.git", f"git@{HOST}:wine.git", f"ssh://git@{HOST}/wine.git"):
            git(own.work, "config", "-f", ".gitmodules", "submodule.same.url", url)
            own.commit()
            fetch.fetched(f"{https.url}/{own.bare.name}", TOKEN)
            assert (fetch.target / "same" / "train.py").is_file(), module.read_text()
        fetch.assert_nowhere(TOKEN)

    def test_submodules_of_another_server_do_not_see_the_token(
        self, fetch: Fetch, https: HttpsServer, own: Repository, root: Path, pem: Path
    ) -> None:
        other = HttpsServer(root, pem, TOKEN).start()
        git(own.work, "submodule", "add", "../wine.git", "foreign")
        git(own.work, "config", "-f", ".gitmodules", "submodule.foreign.url", f"{other.url}/wine.git")
        own.commit()
        fetch.refused(MISTAKE, f"{https.url}/{own.bare.name}", TOKEN)
        assert https.login
        assert other.login == []
        other.stop()

    def test_submodules_do_not_read_this_machine(
        self, fetch: Fetch, https: HttpsServer, own: Repository, repository: Repository
    ) -> None:
        git(own.work, "submodule", "add", "../wine.git", "local")
        for url in (f"file://{repository.bare}", str(repository.bare), f"ext::git-upload-pack {repository.bare}"):
            git(own.work, "config", "-f", ".gitmodules", "submodule.local.url", url)
            own.commit()
            assert "not allowed" in fetch.refused(MISTAKE, f"{https.url}/{own.bare.name}", TOKEN)

    @pytest.mark.parametrize("leads", ["/proc/self/environ", "../../../../proc/self/environ", "MLproject"])
    def test_links_out_of_the_repository(self, fetch: Fetch, https: HttpsServer, own: Repository, leads: str) -> None:
        (own.work / "MLproject").unlink()
        (own.work / "MLproject").symlink_to(leads)
        own.commit()
        reason = fetch.refused(MISTAKE, f"{https.url}/{own.bare.name}", TOKEN)
        assert "MLproject is a link that leads out of the repository" in reason
        fetch.assert_nowhere(TOKEN)

    def test_links_inside_the_repository_stay(self, fetch: Fetch, https: HttpsServer, own: Repository) -> None:
        (own.work / "training" / "train.py").symlink_to("../train.py")
        own.commit()
        fetch.fetched(f"{https.url}/{own.bare.name}#training", TOKEN)
        assert (fetch.target / "train.py").read_text() == "print('two')"

    def test_hooks_and_filters_do_not_run(self, fetch: Fetch, https: HttpsServer, own: Repository) -> None:
        settings = fetch.folder / "gitconfig"
        mark = fetch.folder / "hacked"
        hooks = fetch.folder / "hooks"
        hooks.mkdir()
        (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {mark}\n")
        (hooks / "post-checkout").chmod(0o755)
        settings.write_text(
            f'[core]\nhooksPath = {hooks}\nfsmonitor = touch {mark}\n[filter "lfs"]\nsmudge = touch {mark}; cat\n'
        )
        own.write({".gitattributes": "*.py filter=lfs\n"})
        for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
            fetch.fetched(f"{https.url}/{own.bare.name}", TOKEN, env={name: str(settings)})
            shutil.copy(settings, fetch.home.parent / ".gitconfig")
            fetch.fetched(f"{https.url}/{own.bare.name}", TOKEN, env={"XDG_CONFIG_HOME": str(fetch.folder)})
        assert not mark.exists()

    def test_large_files_that_are_elsewhere_are_refused_where_the_project_needs_them(
        self, fetch: Fetch, https: HttpsServer, own: Repository
    ) -> None:
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
        own.write({"data/wine.csv": pointer, ".gitattributes": "*.csv filter=lfs diff=lfs merge=lfs -text\n"})
        url = f"{https.url}/{own.bare.name}"
        assert "Git LFS, which is not fetched: data/wine.csv" in fetch.refused(MISTAKE, url, TOKEN)
        fetch.fetched(f"{url}#training", TOKEN)

    def test_the_group_may_write(self, fetch: Fetch, https: HttpsServer, repository: Repository) -> None:
        for uri in ("", "#training"):
            fetch.fetched(f"{https.url}/wine.git{uri}", TOKEN)
            for path in (fetch.target, fetch.target / "MLproject"):
                assert path.stat().st_mode & 0o060 == 0o060

    def test_an_empty_repository(self, fetch: Fetch, https: HttpsServer, root: Path) -> None:
        empty = root / "empty.git"
        empty.mkdir(parents=True)
        git(empty, "init", "--bare")
        assert "is empty" in fetch.refused(MISTAKE, f"{https.url}/empty.git", TOKEN)


class TestSsh:
    @pytest.fixture
    def url(self, ssh: SshServer, repository: Repository) -> str:
        import getpass

        return f"ssh://{getpass.getuser()}@{HOST}:{ssh.port}{repository.bare}"

    def test_a_key_and_a_known_host(self, fetch: Fetch, ssh: SshServer, url: str, repository: Repository) -> None:
        known = {"MLPLATFORM_GIT_KNOWN_HOSTS": ssh.known_hosts}
        assert fetch.fetched(url, ssh.key, env=known, version="v1") == repository.id("v1")
        assert "vouches" not in fetch.output
        lines = [line for line in ssh.key.splitlines() if "KEY" not in line]
        fetch.assert_nowhere(*lines)

    @pytest.mark.parametrize("change", [str.strip, lambda key: key.replace("\n", "\r\n")], ids=["no end", "Windows"])
    def test_keys_as_people_paste_them(self, fetch: Fetch, ssh: SshServer, url: str, change: Any) -> None:
        fetch.fetched(url, change(ssh.key))

    def test_without_known_hosts_it_warns(self, fetch: Fetch, ssh: SshServer, url: str) -> None:
        fetch.fetched(f"{url}#training", ssh.key)
        assert "known_hosts" in fetch.output

    def test_another_host_key_is_refused(self, fetch: Fetch, ssh: SshServer, url: str) -> None:
        ssh.new_key(f"other-{fetch.folder.name}")
        other = (ssh.folder / f"other-{fetch.folder.name}.pub").read_text()
        known = {"MLPLATFORM_GIT_KNOWN_HOSTS": f"[{HOST}]:{ssh.port} {other}"}
        assert "host key is not the expected one" in fetch.refused(MISTAKE, url, ssh.key, env=known)
        known = {"MLPLATFORM_GIT_KNOWN_HOSTS": f"elsewhere.example.org {other}"}
        assert "host key is not the expected one" in fetch.refused(MISTAKE, url, ssh.key, env=known)

    def test_wrong_keys(self, fetch: Fetch, ssh: SshServer, url: str) -> None:
        stranger = ssh.new_key(f"stranger-{fetch.folder.name}")
        assert "Permission denied" in fetch.refused(MISTAKE, url, stranger)
        assert "Permission denied" in fetch.refused(MISTAKE, url)
        broken = ssh.key[: len(ssh.key) // 2] + "\n-----END OPENSSH PRIVATE KEY-----"
        assert "private key cannot be read" in fetch.refused(MISTAKE, url, broken)
        locked = ssh.new_key(f"locked-{fetch.folder.name}", passphrase="sesame")
        assert fetch.refused(MISTAKE, url, locked)
        assert "not a private key" in fetch.refused(MISTAKE, url, TOKEN)
        fetch.assert_nowhere(TOKEN)

    def test_mistakes(self, fetch: Fetch, ssh: SshServer, url: str) -> None:
        assert "not appear to be a git repository" in fetch.refused(MISTAKE, f"{url}x", ssh.key)
        assert "no branch or tag 'v9'" in fetch.refused(MISTAKE, url, ssh.key, version="v9")

    def test_no_server_is_an_outage(self, fetch: Fetch, ssh: SshServer) -> None:
        assert "refused" in fetch.refused(OUTAGE, f"ssh://git@{HOST}:{free_port()}/wine.git", ssh.key)
        assert fetch.refused(OUTAGE, "git@no-such-host.invalid:wine.git", ssh.key)

    def test_a_pod_that_is_deleted_leaves_no_key(self, fetch: Fetch, ssh: SshServer) -> None:
        with socket.create_server((HOST, 0)) as silent:
            request = {"uri": f"ssh://git@{HOST}:{silent.getsockname()[1]}/wine.git", "target": str(fetch.target)}
            env = fetch.environment(MLPLATFORM_PROJECT=json.dumps(request), MLPLATFORM_GIT_SECRET=ssh.key)
            process = subprocess.Popen(fetch.command, env=env, stderr=subprocess.DEVNULL)
            key = wait_for(lambda: next(fetch.home.glob("*/key"), None), "for git to start")
            assert key.stat().st_mode & 0o777 == 0o600
            silent.accept()
            process.terminate()
            assert process.wait() == 128 + signal.SIGTERM
        assert list(fetch.home.iterdir()) == []

    def test_options_in_the_host_are_not_options(self, fetch: Fetch, ssh: SshServer) -> None:
        mark = fetch.folder / "hacked"
        fetch.refused(MISTAKE, f"ssh://-oProxyCommand=touch {mark}/wine.git", ssh.key)
        assert not mark.exists()


class TestDaemonAndFiles:
    @pytest.fixture
    def daemon(self, root: Path, repository: Repository) -> Iterator[GitDaemon]:
        server = GitDaemon(root).start()
        yield server
        server.stop()

    def test_git_daemon(self, fetch: Fetch, daemon: GitDaemon, repository: Repository) -> None:
        url = f"git://{HOST}:{daemon.port}"
        assert fetch.fetched(f"{url}/wine.git#training", version="feature/next") == repository.id("v1")
        assert "not exported" in fetch.refused(MISTAKE, f"{url}/wien.git")
        assert fetch.refused(OUTAGE, f"git://{HOST}:{free_port()}/wine.git")

    def test_a_server_of_plain_files(self, fetch: Fetch, own: Repository, root: Path) -> None:
        git(own.bare, "update-server-info")
        handler = partial(SimpleHTTPRequestHandler, directory=str(root))
        with ThreadingHTTPServer((HOST, 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://{HOST}:{server.server_address[1]}/{own.bare.name}"
            for version in ("feature/next", own.id("v1"), own.id("v1")[:9]):
                assert fetch.fetched(url, version=version) == own.id("v1")
            server.shutdown()

    @pytest.mark.parametrize("version", ["main", "1"])
    def test_repositories_of_the_longer_hash(self, fetch: Fetch, root: Path, tmp_path: Path, version: str) -> None:
        work = root / tmp_path.name
        work.mkdir(parents=True)
        git(work, "init", "--object-format=sha256", "--initial-branch=main")
        (work / "MLproject").write_text(MLPROJECT)
        git(work, "add", ".")
        git(work, "commit", "-m", "one")
        commit = git(work, "rev-parse", "HEAD")
        assert fetch.fetched(f"file://{work}", version=commit if version == "1" else version) == commit

    def test_a_version_that_is_no_commit(self, fetch: Fetch, own: Repository) -> None:
        git(own.work, "tag", "blob", "HEAD:train.py")
        git(own.work, "push", "origin", "blob")
        assert "correct version" in fetch.refused(MISTAKE, f"file://{own.bare}", version="blob")

    def test_repositories_on_a_volume(self, fetch: Fetch, repository: Repository) -> None:
        for uri in (f"file://{repository.bare}", f"file://{repository.work}", str(repository.work)):
            assert fetch.fetched(uri, version="v1") == repository.id("v1")
        assert fetch.fetched(f"file://{repository.bare}#training") == repository.id("main")

    @pytest.mark.parametrize("uri", ["ext::sh -c 'touch hacked' ://x", "ftp://example.org/wine.git"])
    def test_other_protocols_are_refused(self, fetch: Fetch, uri: str) -> None:
        assert "git knows no" in fetch.refused(MISTAKE, uri)

    def test_hidden_history_is_found_in_a_server_without_shallow_copies(
        self, fetch: Fetch, daemon: GitDaemon, own: Repository
    ) -> None:
        wanted = own.id("v1")
        for name in ("uploadpack.allowReachableSHA1InWant", "uploadpack.allowAnySHA1InWant"):
            git(own.bare, "config", name, "false")
        git(own.bare, "config", "protocol.version", "0")
        assert fetch.fetched(f"git://{HOST}:{daemon.port}/{own.bare.name}", version=wanted) == wanted
