"""The web application in Airflow's API server that Alertmanager sends its notifications to."""

from __future__ import annotations

import hmac
import logging
from typing import Annotated

from airflow.configuration import conf
from fastapi import Depends, FastAPI, HTTPException, Request, status
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from airflow_mlplatform.alerts.account import Account
from airflow_mlplatform.alerts.message import Message
from airflow_mlplatform.alerts.runs import start_runs
from airflow_mlplatform.exceptions import ServiceUnavailable

__all__ = ["app"]

log = logging.getLogger(__name__)

app = FastAPI(title="Alerts that start runs", docs_url=None, redoc_url=None, openapi_url=None)


def tokens() -> list[bytes]:
    """Return the tokens that are accepted: ``[mlplatform] alerts_token``, several while one is exchanged."""
    return conf.get("mlplatform", "alerts_token", fallback="").encode().split()


def authorised(request: Request) -> None:
    """Refuse who does not show a token. Airflow's own end after a day, and Alertmanager cannot get another.

    :raises HTTPException: 401.
    """
    scheme, _, shown = request.headers.get("authorization", "").partition(" ")
    known = tokens()
    # All are compared, so that the time tells nothing. Starlette reads headers as Latin-1.
    matches = [hmac.compare_digest(shown.strip().encode("latin-1"), token) for token in known]
    if scheme.lower() != "bearer" or not any(matches):
        why = "show the token of [mlplatform] alerts_token" if known else "[mlplatform] alerts_token is not set"
        log.warning("A notification was refused: %s", why)
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, why, {"WWW-Authenticate": "Bearer"})


async def received(request: Request) -> Message:
    """Read the notification, once its sender is known.

    :raises HTTPException: 422, which Alertmanager does not try again.
    """
    try:
        return Message.model_validate_json(await request.body())
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        why = f"{place}: {first['msg']}; send what Alertmanager's webhook sends (version 4)"
        log.warning("A notification was refused: %s", why)
        raise HTTPException(status.HTTP_422_UNPROCESSABLE_CONTENT, why) from None


@app.post("/alerts", dependencies=[Depends(authorised)])
def receive(message: Annotated[Message, Depends(received)]) -> Account:
    """Start runs. 5xx, which Alertmanager tries again, is an outage; what no repetition mends is in the answer."""
    try:
        account = start_runs(message)
    except (SQLAlchemyError, ServiceUnavailable) as error:
        log.exception("Alerts could not be heard; Alertmanager sends them again")
        raise HTTPException(
            status.HTTP_503_SERVICE_UNAVAILABLE, f"{type(error).__name__}: Airflow's database cannot do it now"
        ) from error
    log.info("Alerts: %s", account)
    return account
