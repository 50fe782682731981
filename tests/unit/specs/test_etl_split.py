"""What may be split, what may run per part, and what is said of the rest."""

from __future__ import annotations

import pytest

from airflow_mlplatform.specs.load import load_text

SPEC = """\
apiVersion: mlplatform/v1
kind: etl
name: clicks
extract: {files: {uri: "s3://raw/clicks/*.csv", split: 8}}
transform:
  - {sql: select * from input, per: part}
  - {container: {image: "example/clean:1"}, per: part}
  - {sql: select count(*) as n from input}
load: {uri: "pond://clicks"}
"""


def problems(text: str) -> list[str]:
    return [str(problem) for document in load_text(text, "a.yaml") for problem in document.problems]


def test_a_split_spec() -> None:
    spec = load_text(SPEC)[0].require()
    assert spec.splits
    assert [step.per for step in spec.per_part] == ["part", "part"]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("split: 8", "split: 1", "greater than or equal to 2"),
        ("split: 8", "split: 2000", "less than or equal to 1024"),
        (
            "s3://raw/clicks/*.csv",
            "https://example.org/a.csv",
            "split needs several files and a URL is one; drop split",
        ),
        (
            "load:",
            "stages: fused\nload:",
            "stages: fused is one task, which cannot share its files with others (split)",
        ),
        (", split: 8", "", "per: part needs files with split as the only source; drop per or add split"),
        ("count(*) as n from input}", "1 as n from input, per: part}", ""),
        ("input, per: part}", "input}", "per: part comes after a transform of the whole"),
        ("input, per: part}", "input, per: row}", "the text 'row' is not one of part"),
        (
            'extract: {files: {uri: "s3://raw/clicks/*.csv", split: 8}}',
            'extract: [{name: a, files: {uri: "s3://a/*.csv", split: 8}}, {name: b, files: {uri: "s3://b/c.csv"}}]',
            "per: part needs files with split as the only source",
        ),
    ],
)
def test_what_is_said(old: str, new: str, message: str) -> None:
    found = problems(SPEC.replace(old, new))
    if message:
        assert len(found) == 1
        assert message in found[0]
    else:
        assert found == []


def defaults(text: str) -> list[str]:
    return problems(SPEC + f"defaults: {text}\n")


def test_labels_and_tolerations_are_kubernetes_own_words() -> None:
    labels = "labels: {team: shop, example.org/cost-centre: ''}"
    timed = "{key: a, value: b, effect: NoExecute, tolerationSeconds: 60}"
    good = f"{{{labels}, tolerations: [{{key: gpu, operator: Exists}}, {timed}, {{operator: Exists}}]}}"
    assert defaults(good) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{labels: {team: a b}}", "team: 'a b' is no label of Kubernetes; use at most 63 letters"),
        ("{labels: {team: '" + "x" * 64 + "'}}", "is no label of Kubernetes"),
        ("{labels: {-team: a}}", "is no label of Kubernetes"),
        ('{node_selector: {pool: "a\\n"}}', "is no label of Kubernetes"),
        ("{labels: {version: 1}}", "must be text but is the number 1; put it in quotes"),
        ("{tolerations: [{key: gpu, operator: Exists, value: x}]}", "operator Exists takes no value"),
        ("{tolerations: [{value: x}]}", "without a key every taint is meant; write operator: Exists, or add key"),
        ("{tolerations: [{key: a, tolerationSeconds: 5}]}", "tolerationSeconds goes with NoExecute only"),
        ("{tolerations: [{key: a, effect: NoRun}]}", "is not one of NoSchedule"),
        ("{tolerations: [{key: a, toleration_seconds: 5}]}", 'did you mean "tolerationSeconds"?'),
    ],
)
def test_labels_and_tolerations_that_kubernetes_would_refuse(text: str, message: str) -> None:
    (found,) = defaults(text)
    assert message in found
