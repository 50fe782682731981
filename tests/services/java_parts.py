"""Jars that tests need: Kafka, Kafka Connect and its plugins, by Maven, once, into a cache of this user."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.parts import program, require

GET_JAVA = "Java 17 or later: apt-get install openjdk-17-jre-headless"
GET_MAVEN = "Maven, which fetches Kafka's jars: apt-get install maven"
KAFKA_VERSION = "4.3.1"
LAYOUT = "1"
DOWNLOAD_TIMEOUT = 600.0
# What Kafka Connect itself brings. A second copy in a plugin's folder breaks the plugin: with a Jackson of its own, the
# JDBC sink fails on the worker's Jackson modules.
OF_THE_WORKER = (
    "kafka-clients,connect-api,slf4j-api,jakarta.ws.rs-api,lz4-java,snappy-java,zstd-jni,"
    "jackson-core,jackson-databind,jackson-annotations"
)
POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>{name}</artifactId><version>1</version>
  <!-- Debezium's parent names a repository that its jars do not need. -->
  <repositories><repository>
    <id>confluent</id><url>file:///nowhere</url>
    <releases><enabled>false</enabled></releases><snapshots><enabled>false</enabled></snapshots>
  </repository></repositories>
  <dependencies>{dependencies}</dependencies>
</project>
"""
DEPENDENCY = "<dependency><groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


@dataclass(frozen=True)
class Jars:
    """A folder with some Maven artifacts and all that they depend on.

    :param name: what the folder is called.
    :param artifacts: `group:artifact:version`.
    :param without: artifact ids to leave out, with commas between them.
    """

    name: str
    artifacts: tuple[str, ...]
    without: str = ""

    @cached_property
    def folder(self) -> Path:
        """The folder, filled now if it is not there; many processes may ask at once."""
        folder = _cache() / f"{self.name}-{self._fingerprint()}" / self.name
        if not folder.is_dir():
            self._fetch(folder.parent)
        return folder

    def _fingerprint(self) -> str:
        return hashlib.sha256("|".join((LAYOUT, self.without, *self.artifacts)).encode()).hexdigest()[:12]

    def _fetch(self, target: Path) -> None:
        maven = program("mvn", GET_MAVEN)
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=target.parent) as scratch:
            whole = Path(scratch) / "whole"
            pom = Path(scratch) / "pom.xml"
            dependencies = "".join(DEPENDENCY.format(*artifact.split(":")) for artifact in self.artifacts)
            pom.write_text(POM.format(name=self.name, dependencies=dependencies))
            command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies", "-DincludeScope=runtime"]
            command += [f"-DoutputDirectory={whole / self.name}", f"-DexcludeArtifactIds={self.without}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT, check=False)
            require(done.returncode == 0, f"jars of {self.name}, which Maven cannot fetch: {done.stdout[-1000:]}")
            try:
                whole.rename(target)
            except OSError:  # another process was faster
                assert target.is_dir()


def _cache() -> Path:
    place = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return place / "airflow-mlplatform-tests" / "jars"


KAFKA = Jars(
    "kafka",
    (
        *(
            f"org.apache.kafka:{name}:{KAFKA_VERSION}"
            for name in (
                "kafka_2.13",
                "connect-runtime",
                "connect-json",
                "connect-transforms",
                "connect-basic-auth-extension",
            )
        ),
        "org.slf4j:slf4j-simple:1.7.36",
    ),
)
FILE_CONNECTORS = Jars("file", (f"org.apache.kafka:connect-file:{KAFKA_VERSION}",), OF_THE_WORKER)
DEBEZIUM_POSTGRES = Jars("debezium-postgres", ("io.debezium:debezium-connector-postgres:3.6.0.Final",), OF_THE_WORKER)
DEBEZIUM_JDBC = Jars("debezium-jdbc", ("io.debezium:debezium-connector-jdbc:3.2.0.Final",), OF_THE_WORKER)
PLUGINS = (FILE_CONNECTORS, DEBEZIUM_POSTGRES, DEBEZIUM_JDBC)


def java(main: str, *arguments: str, heap: str = "256m", info: tuple[str, ...] = ()) -> list[str]:
    """Return the command that runs a class of Kafka's jars.

    :param main: the class.
    :param heap: most heap, as Java writes it.
    :param info: loggers that tell more than warnings.
    """
    simple = "-Dorg.slf4j.simpleLogger"
    return [
        program("java", GET_JAVA),
        f"-Xmx{heap}",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        f"{simple}.defaultLogLevel=warn",
        f"{simple}.showDateTime=true",
        *(f"{simple}.log.{logger}=info" for logger in info),
        "-cp",
        f"{KAFKA.folder}/*",
        main,
        *arguments,
    ]


def write_properties(path: Path, properties: dict[str, str]) -> Path:
    """Write a file of Java properties and return its path."""
    path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    return path
