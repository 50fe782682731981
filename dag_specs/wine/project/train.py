"""Learn to tell three cultivars of wine apart from chemical measurements."""

from __future__ import annotations

import argparse
import os
from importlib.metadata import version

import mlflow
import mlflow.sklearn
import pyarrow.parquet as parquet
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, log_loss
from sklearn.model_selection import StratifiedKFold, cross_validate, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

TARGET = "target"
SEED = 7
# What the model needs where it is served. Told, because MLflow would start another Python to find it out.
PACKAGES = [f"{name}=={version(name)}" for name in ("mlflow", "numpy", "pandas", "scikit-learn", "skops")]


def read(uri, features):
    """Return measurements and cultivars; the rows in an order of their own, not that of the files."""
    table = parquet.read_table(uri).to_pandas()
    columns = sorted(table.columns.drop(TARGET))
    table = table.sort_values(columns, ignore_index=True)
    return table[columns[:features]].astype("float64"), table[TARGET].astype("int64")


def model(regularisation: float) -> Pipeline:
    """Return the untrained model; scaling is part of it, so that it never learns from rows it is judged by."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=regularisation, max_iter=1000))


def judge(trained: Pipeline, x, y) -> dict[str, float]:
    """Return the metrics on rows that took no part in training or choosing."""
    chances = trained.predict_proba(x)
    guesses = trained.classes_[chances.argmax(axis=1)]
    return {
        "accuracy": accuracy_score(y, guesses),
        "f1_macro": f1_score(y, guesses, average="macro"),
        "log_loss": log_loss(y, chances, labels=trained.classes_),
    }


def main() -> None:
    """Train, judge, log. Choose between runs by `cv_log_loss`: the test rows stay unseen until the choice is made."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--C", type=float, default=1.0)
    parser.add_argument("--features", type=float, default=13)
    given = parser.parse_args()

    x, y = read(given.data, int(given.features))
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.3, stratify=y, random_state=SEED)
    folds = StratifiedKFold(n_splits=5, shuffle=True, random_state=SEED)
    scores = cross_validate(model(given.C), x_train, y_train, cv=folds, scoring=("neg_log_loss", "accuracy"))
    trained = model(given.C).fit(x_train, y_train)

    # The run exists already where `mlflow run` (or the operator) made it: MLFLOW_RUN_ID.
    with mlflow.start_run(run_id=os.environ.get("MLFLOW_RUN_ID")):
        mlflow.log_params({"rows": len(x), "test_rows": len(x_test)})
        mlflow.log_metrics(
            {"cv_log_loss": -scores["test_neg_log_loss"].mean(), "cv_accuracy": scores["test_accuracy"].mean()}
        )
        metrics = judge(trained, x_test, y_test)
        mlflow.log_metrics(metrics)
        mlflow.sklearn.log_model(
            trained,
            name="model",
            signature=infer_signature(x_train, trained.predict(x_train)),
            input_example=x_test.head(3),
            pip_requirements=PACKAGES,
        )
    print(f"{len(x_train)} rows to learn from, {len(x_test)} to judge by: {metrics}")


if __name__ == "__main__":
    main()
