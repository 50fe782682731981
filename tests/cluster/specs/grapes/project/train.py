"""Learn to tell three cultivars apart; models with the scaling `box-cox` fail where a measurement is not above zero."""

from __future__ import annotations

import sys
from importlib.metadata import version

import mlflow.sklearn
from mlflow.models import infer_signature
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer, StandardScaler

strength, scaling = float(sys.argv[1]), sys.argv[2]
x, y = load_wine(return_X_y=True, as_frame=True)
x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, stratify=y, random_state=7)
scaler = PowerTransformer("box-cox") if scaling == "box-cox" else StandardScaler()
model = make_pipeline(scaler, LogisticRegression(C=strength, max_iter=1000)).fit(x_train, y_train)

with mlflow.start_run():
    mlflow.log_metric("log_loss", log_loss(y_test, model.predict_proba(x_test)))
    mlflow.sklearn.log_model(
        model,
        name="model",
        signature=infer_signature(x_train, model.predict(x_train)),
        input_example=x_test.head(3),
        pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", "scikit-learn", "skops")],
    )
