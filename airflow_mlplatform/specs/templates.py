"""Checks the Jinja in a spec without rendering it: syntax, known variables, declared params."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import jinja2
from jinja2 import nodes

from airflow_mlplatform.specs.problems import did_you_mean

__all__ = ["TemplateChecker"]

# What Airflow 3 puts into a template's context (airflow.sdk.Context), and the macros of this package.
AIRFLOW_NAMES = """
    asset_uri conn dag dag_run data_interval_end data_interval_start ds ds_nodash exception inlet_events inlets
    logical_date macros map_index_template outlet_events outlets params partition_date partition_key
    prev_data_interval_end_success
    prev_data_interval_start_success prev_end_date_success prev_start_date_success reason run_id start_date task
    task_instance task_instance_key_str task_reschedule_count test_mode ti triggering_asset_events ts ts_nodash
    ts_nodash_with_tz var
""".split()  # noqa: SIM905 - a word list
# These have a value only in runs that a schedule in time starts.
DATED_NAMES = """
    data_interval_end data_interval_start ds ds_nodash logical_date prev_data_interval_end_success
    prev_data_interval_start_success ts ts_nodash ts_nodash_with_tz
""".split()  # noqa: SIM905 - a word list
KNOWN_NAMES = {*AIRFLOW_NAMES, *jinja2.defaults.DEFAULT_NAMESPACE}
MAPPING_METHODS = {"dump", "get", "items", "keys", "values"}
ENVIRONMENT = jinja2.Environment()  # noqa: S701 - it only parses, nothing is rendered


class TemplateChecker:
    """Checks templates against what will be there when Airflow renders them.

    :param params: names of the params that the spec declares.
    :param dated: whether its runs have a logical date; those that an asset or a registry change starts have none.
    """

    def __init__(self, params: Iterable[str], *, dated: bool = True) -> None:
        self._dated = dated
        self._params = set(params)

    def problems(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield what is wrong in a text, and what to do, pair by pair."""
        if "{{" not in text and "{%" not in text and "{#" not in text:
            return
        try:
            names = TemplateNames.of(text)
        except jinja2.TemplateSyntaxError as error:
            yield (
                f"bad template: {error.message}",
                "write {{ ds }}, {{ params.name }}; see Airflow's templates reference",
            )
            return
        except (jinja2.TemplateError, RecursionError) as error:
            yield f"bad template: {type(error).__name__}", "simplify it"
            return
        for name in sorted(names.variables - KNOWN_NAMES):
            yield f"the template variable {name!r} is unknown", did_you_mean(name, AIRFLOW_NAMES)
        for name in sorted(names.variables & set(DATED_NAMES)) if not self._dated else ():
            yield (
                f"the template variable {name!r} has no value in runs that an asset or a registry change starts",
                "use {{ run_id }} or {{ dag_run.run_after }}, or schedule in time",
            )
        for name in sorted(names.params - self._params - MAPPING_METHODS):
            known = did_you_mean(name, self._params) if self._params else f"declare it: params: {{{name}: {{…}}}}"
            yield f"params.{name} is not declared", known


@dataclass(frozen=True)
class TemplateNames:
    """The names that a template uses and does not set itself."""

    variables: set[str]
    params: set[str]

    @classmethod
    def of(cls, text: str) -> TemplateNames:
        """Parse a template.

        :raises jinja2.TemplateSyntaxError: if it is none.
        """
        loaded: set[str] = set()
        stored: set[str] = set()
        params: set[str] = set()
        for node in ENVIRONMENT.parse(text).find_all((nodes.Name, nodes.Getattr)):
            if isinstance(node, nodes.Name):
                (loaded if node.ctx == "load" else stored).add(node.name)
            elif isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name) and node.node.name == "params":
                params.add(node.attr)
        return cls(loaded - stored, params)
