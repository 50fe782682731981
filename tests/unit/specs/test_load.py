"""What is accepted, what is refused, and how it is said."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from airflow_mlplatform.exceptions import SpecError
from airflow_mlplatform.specs.load import load_document, load_file, load_text
from tests.unit.specs.examples import ALL, DEPLOYMENT, ETL, STREAMING, TRAINING


def problems(text: str | bytes) -> list[str]:
    return [str(problem) for document in load_text(text, "a.yaml") for problem in document.problems]


@pytest.mark.parametrize("kind", ALL)
def test_every_field_of_the_language_is_accepted(kind: str) -> None:
    (document,) = load_text(ALL[kind])
    assert document.problems == ()
    assert document.require().kind == kind


def test_values_get_their_types() -> None:
    spec = load_text(ETL)[0].require()
    assert spec.retries.delay == timedelta(minutes=5)
    assert [source.name for source in spec.sources] == ["orders", "customers", "rates"]
    assert spec.load.asset_uri == "s3://pond/orders"


# Each: the spec that is varied, what is replaced, by what, and the whole message.
REFUSED = [
    (ETL, "load: {uri:", "load: {uir:", '35:8 load.uir: unknown key; did you mean "uri"?'),
    (ETL, "count: 2", "count: two", "10:18 retries.count: must be a whole number but is the text 'two'; change it"),
    (ETL, "owner: data-team", "owner: 7", "5:8 owner: must be text but is the number 7; put it in quotes"),
    (ETL, "owner: data-team", "owner: no", "5:8 owner: must be text but is false (true or false); put it in quotes"),
    (ETL, "apiVersion: mlplatform/v1\n", "", "1:1 apiVersion: missing; add it: Version of the spec language."),
    (
        ETL,
        "apiVersion: mlplatform/v1",
        "apiVersion: mlplatform/v2",
        "1:13 apiVersion: the text 'mlplatform/v2' is not one of mlplatform/v1; did you mean \"mlplatform/v1\"?",
    ),
    (
        ETL,
        "kind: etl",
        "kind: elt",
        "2:7 kind: the text 'elt' is not one of etl, streaming, training, deployment; did you mean \"etl\"?",
    ),
    (ETL, "owner: data-team", "owner: a\nowner: b", "6:1 owner: stands twice, first in line 5; keep one of the two"),
    (
        ETL,
        "0 2 * * *",
        "0 25 * * *",
        "7:11 schedule: '0 25 * * *' is no schedule; write a cron expression of five "
        "fields (0 6 * * *), a preset (@daily) or a duration (6h)",
    ),
    (
        ETL,
        "0 2 * * *",
        "@dayly",
        "7:11 schedule: '@dayly' is no preset; write one of @once, @continuous, @hourly, "
        "@daily, @weekly, @monthly, @quarterly, @yearly",
    ),
    (
        ETL,
        "delay: 5m",
        "delay: 5 minutes",
        "10:28 retries.delay: '5 minutes' is no duration; write a number and a unit: 90s, 10m, 6h, 7d or 2w",
    ),
    (
        ETL,
        "{{ ds }}' limit",
        "{{ ds ' limit",
        '21:36 extract[0].sql.query: bad template: unexpected char "\'" at 40; '
        "write {{ ds }}, {{ params.name }}; see Airflow's templates reference",
    ),
    (
        ETL,
        "{{ ds }}' limit",
        "{{ dss }}' limit",
        "21:36 extract[0].sql.query: the template variable 'dss' is unknown; did you mean \"ds\"?",
    ),
    (ETL, "params.rows", "params.row", '21:36 extract[0].sql.query: params.row is not declared; did you mean "rows"?'),
    (
        ETL,
        "  - name: orders\n    sql",
        "  - sql",
        "19:1 extract: several sources need a name each, their table names; add name: …",
    ),
    (
        ETL,
        "  - sql: select orders.*, customers.country from orders join customers using (id)\n",
        "",
        "19:1 extract: several sources need a first transform that joins them; begin transform with - sql: select … "
        "from … join …",
    ),
    (
        ETL,
        "default: 1000",
        "default: 0",
        "12:16 params.rows: the default does not fit: 0 is less than the minimum of 1; change default or the limits",
    ),
    (ETL, "min: 1, max: 100000", "min: 2, max: 1", "31:9 checks.rows: min 2 is above max 1; swap them"),
    (
        ETL,
        's3://pond/orders/{{ ds }}"',
        's3://pond/orders/{{ ds }}.parquet"',
        "35:7 load: partition_by writes several files but uri is one .parquet file; name a folder",
    ),
    (
        ETL,
        '"s3://pond/orders/{{ ds }}"',
        "orders",
        "35:8 load.uri: 'orders' is no place of the pond; begin with pond://, s3://, file:// or /",
    ),
    (
        ETL,
        "stages: separate",
        "stages: !!python/object:os.system x",
        "36:9 stages: the tag "
        "!!python/object:os.system is not allowed; write plain values: text, numbers, lists, mappings",
    ),
    (
        ETL,
        "start: 2026-01-01",
        "start: 2026-02-31",
        "8:8 start: '2026-02-31' is no valid timestamp; correct it, or put it in quotes",
    ),
    (
        TRAINING,
        "seed: 1",
        'seed: "{{ ds }}"',
        "5:103 project.parameters.seed: the template variable 'ds' has no value in runs that an asset or a registry "
        "change starts; use {{ run_id }} or {{ dag_run.run_after }}, or schedule in time",
    ),
    (
        TRAINING,
        "matrix: {alpha: [0.1, 0.5, 1.0], depth: [2, 4]}\n",
        "",
        "8:1 select: chooses among the runs of a matrix and there is none; add matrix or drop select",
    ),
    (
        TRAINING,
        "best: min",
        "best: mim",
        "9:30 select.best: the text 'mim' is not one of min, max; did you mean \"min\"?",
    ),
    (TRAINING, "{seed: 1}", "{alpha: 1}", "8:1 matrix: 'alpha' stands in project.parameters too; keep one of them"),
    (
        TRAINING,
        "{assets: [s3://pond/orders]}",
        "{asets: [s3://pond/orders]}",
        '4:12 schedule.asets: unknown key; did you mean "assets"?',
    ),
    (
        DEPLOYMENT,
        "[5, 25, 50, 100]",
        "[5, 50, 25, 100]",
        "14:3 rollout.steps: [5, 50, 25, 100] does not ascend to 100; write them like [5, 25, 50, 100]",
    ),
    (
        DEPLOYMENT,
        "[5, 25, 50, 100]",
        "[5, 25]",
        "14:3 rollout.steps: [5, 25] does not ascend to 100; write them like [5, 25, 50, 100]",
    ),
    (
        DEPLOYMENT,
        "strategy: canary",
        "strategy: shadow",
        "14:3 rollout.steps: belong to strategy canary, not shadow; drop them or change strategy",
    ),
    (
        DEPLOYMENT,
        ", best: min}",
        "}",
        "7:13 gate.metrics[0]: beats_champion_by needs to know which way is better; add best: min or best: max",
    ),
    (
        DEPLOYMENT,
        "champion: champion}",
        "champion: challenger}",
        "5:8 model: candidate and champion are both 'challenger'; give them different aliases",
    ),
    (
        DEPLOYMENT,
        "name: shop, namespace",
        "name: Shop_1, namespace",
        "11:17 serving.name: the text 'Shop_1' does not match ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$; change it",
    ),
    (
        STREAMING,
        "connector.class: Sink, ",
        "",
        "25:5 sinks[0]: config lacks connector.class; write the class of the plugin",
    ),
    (
        STREAMING,
        "name: shop-table",
        "name: shop-cdc",
        "24:1 sinks: two connectors are called 'shop-cdc'; give one another name",
    ),
    (
        STREAMING,
        "{connector.class: Source,",
        "{name: x, connector.class: Source,",
        "12:5 sources[0]: config names the connector, which name does already; drop it from config",
    ),
    (
        STREAMING,
        "state: absent",
        "state: running",
        "7:1 delete_topics: is for state absent, not running; drop it until then",
    ),
    (
        STREAMING,
        "  image: example/app:1\n",
        "",
        "13:1 app: no image is named; add image to app or to defaults",
    ),
    (
        STREAMING,
        "port: 8080, ready: /readyz, live: /healthz",
        "port: 8080",
        "21:11 app.probes: the port is named but no path; add ready or live",
    ),
    (
        STREAMING,
        "timeout: 10m",
        "timeout: 5s",
        "23:12 app.rollout: settle takes longer than timeout leaves; make timeout the longer one",
    ),
    (
        STREAMING,
        "LEVEL: info",
        "1LEVEL: info",
        "19:8 app.env: '1LEVEL' is no name of an environment variable; use letters, digits and _",
    ),
    (
        STREAMING,
        "LEVEL: info",
        'LEVEL: "{{ conn.shop.password }}"',
        "19:8 app.env: LEVEL would stand readable in the Deployment; write {secret: NAME, key: KEY} of a Secret",
    ),
    (
        STREAMING,
        "partitions: 6",
        "partitions: 0",
        "10:37 topics[0].partitions: should be greater than or equal to 1; change it",
    ),
    (STREAMING, "replicas: 2", "replica: 2", '17:3 app.replica: unknown key; did you mean "replicas"?'),
]


@pytest.mark.parametrize(("spec", "old", "new", "message"), REFUSED, ids=[row[3][:60] for row in REFUSED])
def test_a_mistake_is_told_with_its_place_and_its_remedy(spec: str, old: str, new: str, message: str) -> None:
    assert old in spec
    assert problems(spec.replace(old, new, 1)) == [f"a.yaml:{message}"]


def test_all_problems_of_a_file_are_told_at_once() -> None:
    text = ETL.replace("owner:", "ownr:").replace("delay: 5m", "delay: 5x").replace("stages: separate", "stages: 3")
    assert [line.split(" ")[1] for line in problems(text)] == ["ownr:", "retries.delay:", "stages:"]


WHOLE_FILES = {
    "": "1:1: is empty; write a spec (mlplatform new) or delete the file",
    "# only a comment\n---\n": "1:1: is empty; write a spec (mlplatform new) or delete the file",
    "- a\n- b\n": "1:1: must be a mapping (key: value) but is a list; begin with apiVersion: mlplatform/v1 and kind: …",
    "kind: [etl\n": "2:1: is no valid YAML: did not find expected ',' or ']'; check indentation, quotes and colons",
    "a: &a [*a]": "1:4: an alias that contains itself; simplify it",
    "[" * 100_000: "1:61: nests deeper than 60 levels; a spec is flat; simplify it",
    "- " * 100_000: "1:121: nests deeper than 60 levels; a spec is flat; simplify it",
    "kind: etl\nname: a\x00b": "1:1: is no valid YAML: unacceptable character #x0000: control characters are not "
    "allowed; remove control characters, simplify",
    "foo: bar": "1:1 kind: missing; write one of etl, streaming, training, deployment "
    "(if it is no spec, list it in .airflowignore)",
}


@pytest.mark.parametrize("text", WHOLE_FILES, ids=range(len(WHOLE_FILES)))
def test_a_file_that_is_no_spec_at_all(text: str) -> None:
    assert problems(text) == [f"a.yaml:{WHOLE_FILES[text]}"]


def test_an_alias_bomb_is_refused_before_it_grows() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 60))
    (message,) = problems(bomb)
    assert "expand to more than 100000 values" in message


def test_bytes_that_are_not_utf_8() -> None:
    assert problems("kind: etl\nname: caf\xe9".encode("latin-1")) == [
        "a.yaml:2:10: is not UTF-8; save it with the encoding UTF-8"
    ]


def test_anchors_and_merge_keys_work() -> None:
    text = TRAINING.replace("select:", "x: &m {metric: rmse}\nselect:")
    assert problems(text) == ["a.yaml:9:1 x: unknown key; known here: " + problems(text)[0].split("known here: ")[1]]
    merged = ETL.replace("checks:", "checks: &c", 1)
    assert problems(merged) == []
    inherited = DEPLOYMENT.replace("metrics: [{name: rmse,", "metrics: [{<<: {name: rmse},")
    assert problems(inherited) == []


def test_a_broken_document_costs_no_other_one_in_the_file() -> None:
    documents = load_text(f"{ETL}---\nkind: [\n---\n{TRAINING}...\n---\n# nothing\n---\n{DEPLOYMENT}")
    assert [document.spec.name if document.spec else None for document in documents] == [
        "shop-etl", None, "shop-training", "shop-deployment",
    ]  # fmt: skip
    assert documents[1].problems[0].line == ETL.count("\n") + 3
    assert [document.index for document in documents] == [0, 1, 2, 3]


def test_files_that_cannot_be_specs(tmp_path: Path) -> None:
    root = tmp_path / "specs"
    root.mkdir()
    (root / "folder.yaml").mkdir()
    (root / "large.yaml").write_text(ETL + "#" * 1024 * 1024)
    (tmp_path / "outside.yaml").write_text(ETL)
    (root / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    (root / "gone.yaml").symlink_to(root / "nothing.yaml")
    os.mkfifo(root / "pipe.yaml")
    said = {path.name: load_file(path, root)[0].problems[0].what for path in root.iterdir()}
    assert said == {
        "folder.yaml": "is a folder but has the name of a spec",
        "large.yaml": "is larger than 1 MiB",
        "link.yaml": f"is a link that leaves {root}",
        "gone.yaml": "cannot be read: No such file or directory",
        "pipe.yaml": "is no regular file",
    }


def test_a_broken_spec_raises_a_syntax_error_at_the_yaml_line(tmp_path: Path) -> None:
    path = tmp_path / "etl.yaml"
    path.write_text(ETL.replace("stages: separate", "stages: all"))
    with pytest.raises(SpecError) as raised:
        load_file(path)[0].require()
    error = raised.value
    assert (error.filename, error.lineno, error.offset, error.text) == ("etl.yaml", 36, 9, "stages: all")
    assert "etl.yaml:36:9 stages:" in str(error)


def test_a_document_that_has_gone_is_told(tmp_path: Path) -> None:
    path = tmp_path / "etl.yaml"
    path.write_text(ETL)
    assert "has no document 2 any more" in str(load_document(path, 1).problems[0])


class TestFolderDefaults:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        (tmp_path / "team").mkdir()
        (tmp_path / "defaults.yaml").write_text(
            "owner: everyone\nretries: {count: 7}\ndefaults: {image: base:1, env: {A: root, B: root}}\n"
        )
        (tmp_path / "team" / "defaults.yaml").write_text("defaults: {env: {B: team, C: team}}\n")
        spec = TRAINING + "defaults: {env: {C: spec}}\n"
        (tmp_path / "team" / "training.yaml").write_text(spec)
        return tmp_path

    def test_the_nearest_wins(self, root: Path) -> None:
        spec = load_file(root / "team" / "training.yaml", root)[0].require()
        assert (spec.owner, spec.retries.count, spec.defaults.image) == ("everyone", 7, "base:1")
        assert spec.defaults.env == {"A": "root", "B": "team", "C": "spec"}

    def test_nothing_above_the_root_applies(self, root: Path) -> None:
        spec = load_file(root / "team" / "training.yaml", root / "team")[0].require()
        assert (spec.owner, spec.defaults.env) == ("airflow", {"B": "team", "C": "spec"})

    def test_a_mistake_is_told_where_it_was_written(self, root: Path) -> None:
        (root / "team" / "defaults.yaml").write_text("owner: x\ndefaults: {imag: y}\n")
        messages = [str(problem) for problem in load_file(root / "team" / "training.yaml", root)[0].problems]
        assert messages == ['team/defaults.yaml:2:12 defaults.imag: unknown key; did you mean "image"?']

    def test_only_what_specs_share_may_stand_there(self, root: Path) -> None:
        (root / "team" / "defaults.yaml").write_text("name: x\n")
        (message, *_) = (str(problem) for problem in load_file(root / "team" / "training.yaml", root)[0].problems)
        assert message.startswith("team/defaults.yaml:1:1 name: unknown key;")

    def test_a_change_is_seen(self, root: Path) -> None:
        load_file(root / "team" / "training.yaml", root)
        (root / "defaults.yaml").write_text("owner: somebody-else\n")
        assert load_file(root / "team" / "training.yaml", root)[0].require().owner == "somebody-else"
