"""Whole specs, every field used, that the tests vary."""

from __future__ import annotations

ETL = """\
apiVersion: mlplatform/v1
kind: etl
name: shop-etl
description: Nightly orders into the data pond
owner: data-team
tags: [shop, nightly]
schedule: "0 2 * * *"
start: 2026-01-01
catchup: false
retries: {count: 2, delay: 5m}
timeout: 2h
params: {rows: {type: integer, default: 1000, minimum: 1}}
defaults:
  image: example/etl:1
  resources: {cpu: 1, memory: 2Gi, gpu: 0}
  service_account: etl
  env: {LEVEL: info, TOKEN: {secret: shop, key: token}, PASSWORD: {connection: shop}}
  node_selector: {pool: etl}
extract:
  - name: orders
    sql: {connection: shop, query: "select * from orders where day = '{{ ds }}' limit {{ params.rows }}"}
  - name: customers
    files: {uri: "s3://raw/customers/*.csv", format: csv, columns: {id: BIGINT}}
  - name: rates
    http: {url: "https://rates.example.org/{{ ds }}", records: data.items, params: {base: EUR}}
transform:
  - sql: select orders.*, customers.country from orders join customers using (id)
  - python: features.clean:run
  - container: {image: example/clean:1, command: [clean]}
checks:
  rows: {min: 1, max: 100000}
  not_null: [id]
  unique: [id]
  sql: [{name: no negative prices, query: select count(*) from input where price < 0, expect: 0}]
load: {uri: "s3://pond/orders/{{ ds }}", partition_by: [country]}
stages: separate
"""
TRAINING = """\
apiVersion: mlplatform/v1
kind: training
name: shop-training
schedule: {assets: [s3://pond/orders]}
project: {uri: https://git.example.org/shop.git, version: main, entry_point: main, parameters: {seed: 1}}
experiment: shop
environment: uv
matrix: {alpha: [0.1, 0.5, 1.0], depth: [2, 4]}
select: {metric: rmse, best: min}
register: {model: shop, alias: challenger}
"""
DEPLOYMENT = """\
apiVersion: mlplatform/v1
kind: deployment
name: shop-deployment
schedule: {model: shop, alias: challenger}
model: {name: shop, candidate: challenger, champion: champion}
gate:
  metrics: [{name: rmse, max: 0.9, beats_champion_by: 0.01, best: min}]
  max_age: 7d
  approval: {users: [ann, bob], timeout: 1d}
preflight: true
serving: {name: shop, namespace: models, protocol: v2, replicas: 2, resources: {cpu: 500m}, storage_secret: s3}
rollout:
  strategy: canary
  steps: [5, 25, 50, 100]
  interval: 10m
  analysis: [{name: errors, query: "sum(rate(errors[1m]))", max: 0.01, min_samples: 100}]
"""
STREAMING = """\
apiVersion: mlplatform/v1
kind: streaming
name: shop-features
kafka: events
connect: connect
state: absent
delete_topics: true
defaults: {service_account: apps, node_selector: {pool: apps}, labels: {team: shop}}
topics:
  - {name: shop.orders, partitions: 6, replication: 3, config: {retention.ms: 604800000, preallocate: false}}
sources:
  - {name: shop-cdc, config: {connector.class: Source, database.password: "${file:/etc/shop:password}"}}
app:
  image: example/app:1
  git: {url: "https://git.example.org/shop.git#app", ref: main, secret: {secret: git, key: token}}
  entrypoint: [python, main.py]
  replicas: 2
  group: features
  env: {LEVEL: info, PASSWORD: {secret: shop, key: password}}
  resources: {cpu: 500m, memory: 512Mi}
  probes: {port: 8080, ready: /readyz, live: /healthz}
  grace: 20s
  rollout: {timeout: 10m, settle: 5s, max_lag: 1000}
sinks:
  - {name: shop-table, config: {connector.class: Sink, topics: features, tasks.max: 2}}
"""
ALL = {"etl": ETL, "streaming": STREAMING, "training": TRAINING, "deployment": DEPLOYMENT}
