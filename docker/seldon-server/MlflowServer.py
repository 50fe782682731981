"""An MLflow model behind seldon-core's Python server: what Seldon calls MLFLOW_SERVER, for the protocol `seldon`.

`seldon-core-microservice MlflowServer` makes one object of the class of this name and calls `predict` for each request.
The arguments come from the parameters of the graph, to which Seldon adds `model_uri`:
https://docs.seldon.io/projects/seldon-core/en/v1.17.1/servers/mlflow.html
"""

from __future__ import annotations

from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd


class MlflowServer:
    """One model, loaded as the object is made.

    seldon-core would call `load` later, in each process that serves and after its port is open: Seldon's probe, which
    only connects, would then take a server for ready that answers nobody yet.

    :param model_uri: folder of the model, where Seldon's init container puts it.
    :param xtype: what the model is given: `ndarray`, or `DataFrame` with the names of the request as its columns.
    """

    def __init__(self, model_uri: str = "/mnt/models", xtype: str = "ndarray") -> None:
        if xtype not in {"ndarray", "DataFrame"}:
            raise ValueError(f"xtype is {xtype!r}; it is either ndarray or DataFrame")
        self._framed = xtype == "DataFrame"
        self._model = mlflow.pyfunc.load_model(model_uri)
        self._columns: list[str] = []

    def predict(self, rows: Any, names: list[str], **_: Any) -> np.ndarray[Any, Any]:
        """Return the predictions.

        :param rows: `data.ndarray` or `data.tensor` of the request.
        :param names: `data.names` of the request, which may be empty.
        """
        found = self._model.predict(self._frame(rows, names) if self._framed else rows)
        if isinstance(found, pd.DataFrame):
            self._columns = [str(column) for column in found.columns]
        return np.asarray(found)

    def _frame(self, rows: Any, names: list[str]) -> pd.DataFrame:
        frame = pd.DataFrame(rows, columns=list(names) if names else None)
        # Rows of text and numbers arrive as objects; columns of numbers among them are numbers again.
        return frame.infer_objects()

    def class_names(self) -> list[str]:
        """Names of the outputs: the columns, where the model answers with a frame."""
        return self._columns
