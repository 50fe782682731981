"""A streaming application brought into its state, in the triggerer: code, Deployment, pods, consumer group."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, JsonValue

from airflow_mlplatform.clients.kafka_group import ConsumerGroup
from airflow_mlplatform.exceptions import ProcessFailed
from airflow_mlplatform.hooks.kafka import KafkaHook
from airflow_mlplatform.hooks.kubernetes import open_cluster, pod_setup
from airflow_mlplatform.runtime.app_deployment import CODE, AppDeployment, deployment_name
from airflow_mlplatform.runtime.git_project import FULL_COMMIT
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.arguments import read_argument
from airflow_mlplatform.specs.common import Defaults
from airflow_mlplatform.specs.streaming import App
from airflow_mlplatform.triggers.consumer_group import GroupHealth
from airflow_mlplatform.triggers.pod import PodRun
from airflow_mlplatform.triggers.rollout import Rollout
from airflow_mlplatform.triggers.task import TaskTrigger, identify, leave

if TYPE_CHECKING:
    from airflow_mlplatform.hooks.kubernetes import Cluster
    from airflow_mlplatform.training.provenance import Provenance

__all__ = ["StreamAppPlan", "StreamAppTrigger"]

Result = dict[str, JsonValue]


class StreamAppPlan(BaseModel):
    """What of an application is fixed while its DAG is built.

    :param name: its name.
    :param state: ``running``, ``paused`` (no pods) or ``absent``.
    :param pod: service account and so on, as JSON of ``Defaults``.
    :param kafka_conn_id: Airflow connection (type kafka) of its consumer group.
    :param by_worker: a worker ends the task, for what a trigger cannot do (asset events).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    state: Literal["running", "paused", "absent"] = "running"
    pod: dict[str, Any] = {}
    kafka_conn_id: str = KafkaHook.default_conn_name
    by_worker: bool = False


class StreamAppTrigger(TaskTrigger):
    """Finds out which commit is meant, applies the Deployment, waits until it is well and ends the task.

    Where it goes wrong, a worker ends the task. What a dead triggerer left behind is found and continued.

    :param app: the application, as JSON of ``App``. Templated.
    :param plan: the rest, as JSON of :class:`StreamAppPlan`.
    :param origin: see :class:`~airflow_mlplatform.triggers.starting.StartingTrigger`.
    """

    arguments = ("app", "plan", "origin")

    def __init__(self, app: dict[str, Any], plan: dict[str, Any], origin: dict[str, Any] | None = None) -> None:
        super().__init__(plan, origin)
        self.app = app

    @property
    def _plan(self) -> StreamAppPlan:
        return StreamAppPlan.model_validate(self.plan)

    async def work(self, origin: Provenance) -> Result:
        """Bring the application into its state and return the facts."""
        plan, app = self._plan, read_argument(App, "app", self.app)
        name = deployment_name(plan.name)
        async with open_cluster() as cluster:
            rollout = Rollout(cluster.deployments, cluster.pods, name, self.log)
            if plan.state == "absent":
                result = await self._removed(rollout, app)
            else:
                result = await self._rolled_out(rollout, cluster, app, origin)
        await leave(origin, result)
        return result

    async def stop(self, reason: str) -> None:
        """Leave the Deployment as it is; the next run of the task goes on from there."""
        self.log.warning("%s stays as it is: %s", deployment_name(self._plan.name), reason)

    async def _removed(self, rollout: Rollout, app: App) -> Result:
        was_there = await rollout.remove()
        stays: list[JsonValue] = [f"the offsets of consumer group {app.group}"] if app.group else []
        for what in stays:
            self.log.info("What stays: %s", what)
        return {"deployment": rollout.name, "done": "removed" if was_there else "unchanged", "stay": stays}

    async def _rolled_out(self, rollout: Rollout, cluster: Cluster, app: App, origin: Provenance) -> Result:
        wanted = AppDeployment(
            rollout.name,
            app,
            Defaults.model_validate(self._plan.pod, strict=False),
            paused=self._plan.state == "paused",
        )
        commit = await self._commit(wanted, cluster, origin)
        wanted = wanted.at(commit)
        health = await self._health(wanted)
        attempt = f"{origin.key}/{origin.try_number}"
        timeout = app.rollout.timeout.total_seconds()
        done = await rollout.run(wanted.manifest(pod_setup()), timeout, attempt, health)
        return {"deployment": rollout.name, "done": done, "commit": commit, "replicas": wanted.replicas}

    async def _commit(self, wanted: AppDeployment, cluster: Cluster, origin: Provenance) -> str:
        """The commit that the code's ref means now; a pod asks, for only pods may read the repository's Secret."""
        git = wanted.app.git
        if git is None or FULL_COMMIT.match(git.ref or ""):
            return (git and git.ref) or ""
        identity = identify(origin, wanted.fetch_work)
        manifest = wanted.fetch_pod(pod_setup(), identity)
        pod = PodRun(cluster.pods, manifest, identity, self.log, settings().pods.start_timeout)
        end = await pod.run()
        await pod.remove()
        end.raise_for_failure()
        return _told_commit(end.messages.get(CODE, ""))

    async def _health(self, wanted: AppDeployment) -> Any:
        group = wanted.app.group
        if not group or not wanted.replicas:
            return _well
        config = await KafkaHook(self._plan.kafka_conn_id).aget_conn()
        rollout = wanted.app.rollout
        look = ConsumerGroup(config, group).look
        return GroupHealth(look, group, wanted.replicas, rollout.settle.total_seconds(), rollout.max_lag).missing


async def _well() -> None:
    return None


def _told_commit(message: str) -> str:
    try:
        return str(json.loads(message)["commit"])
    except (ValueError, TypeError, KeyError):
        raise ProcessFailed(
            f"the pod that fetched the code left {message!r:.200} instead of its commit; let the platform's image hold "
            "the same version of airflow-mlplatform as the triggerer"
        ) from None
