"""Checks the Jinja in a spec without rendering it: syntax, known variables, declared params."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import jinja2
from jinja2 import meta, nodes

from airflow_mlplatform.specs.problems import did_you_mean

__all__ = ["TemplateChecker"]

# What Airflow 3 puts into a template's context (airflow.sdk.Context), and the macros of this package.
AIRFLOW_NAMES = (
    "asset_uri conn dag dag_run data_interval_end data_interval_start ds ds_nodash exception inlet_events inlets "
    "logical_date macros map_index_template outlet_events outlets params partition_key prev_data_interval_end_success "
    "prev_data_interval_start_success prev_end_date_success prev_start_date_success reason run_id start_date task "
    "task_instance task_instance_key_str task_reschedule_count test_mode ti triggering_asset_events ts ts_nodash "
    "ts_nodash_with_tz var"
).split()
ENVIRONMENT = jinja2.Environment()  # noqa: S701 - it only parses, nothing is rendered


class TemplateChecker:
    """Checks templates against what will be there when Airflow renders them.

    :param params: names of the params that the spec declares.
    """

    def __init__(self, params: Iterable[str]) -> None:
        self._params = sorted(params)

    def problems(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield what is wrong in a text, and what to do, pair by pair."""
        if "{{" not in text and "{%" not in text and "{#" not in text:
            return
        try:
            template = ENVIRONMENT.parse(text)
            unknown = meta.find_undeclared_variables(template)
        except jinja2.TemplateSyntaxError as error:
            yield f"bad template: {error.message}", "write {{ ds }}, {{ params.name }}; see Airflow's templates reference"
            return
        except (jinja2.TemplateError, RecursionError) as error:
            yield f"bad template: {type(error).__name__}", "simplify it"
            return
        for name in sorted(unknown - set(AIRFLOW_NAMES) - set(jinja2.defaults.DEFAULT_NAMESPACE)):
            yield f"the template variable {name!r} is unknown", did_you_mean(name, AIRFLOW_NAMES)
        for name in sorted({node.attr for node in template.find_all(nodes.Getattr) if _is_params(node.node)}):
            if name not in self._params and name not in ("get", "items", "keys", "values", "dump"):
                known = did_you_mean(name, self._params) if self._params else f"declare it: params: {{{name}: {{…}}}}"
                yield f"params.{name} is not declared", known


def _is_params(node: nodes.Expr) -> bool:
    return isinstance(node, nodes.Name) and node.name == "params"
