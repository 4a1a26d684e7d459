"""Batch layer of the project olist: pin a step, recompute every model, compare with what the stream served, publish.

Made by `lockstep render airflow` from the project's models: change those and render again, not this file. Let the
instance run no batches of its own (`lockstep run --schedule off`): a run that another one has overtaken is refused.
"""

from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, Asset, DeltaTriggerTimetable

# Where the workers find Lockstep. The credentials of the environment's parts come from the worker's own variables.
ENV = {
    "LOCKSTEP_BIN": os.environ.get("LOCKSTEP_BIN", "lockstep"),
    "LOCKSTEP_STATE": os.environ.get("LOCKSTEP_STATE", "/var/lib/lockstep"),
    "LOCKSTEP_PROJECT": os.environ.get("LOCKSTEP_PROJECT", ""),
}
BATCH = (
    '"$LOCKSTEP_BIN" ${LOCKSTEP_PROJECT:+--project "$LOCKSTEP_PROJECT"}'
    ' --env embedded --state "$LOCKSTEP_STATE" batch'
)

# The run that `begin` pinned.
RUN = {"RUN": "{{ ti.xcom_pull(task_ids='begin') }}"}

# Every model that has a table, behind those whose tables it reads.
MODELS: dict[str, tuple[list[str], str]] = {
    "silver.geo_coord": (
        [],
        "Where a postal code area lies. The latest point sent for the area counts; an area whose latest point lies outside Brazil has no row.",
    ),
    "silver.olist_user": (
        [],
        "Customers and sellers as they were sent last, with their postal code.",
    ),
    "gold.dim_user_location": (
        ["silver.geo_coord", "silver.olist_user"],
        "Where customers and sellers are, by their postal code. Users whose area has no coordinates in Brazil are left out.",
    ),
    "silver.order_item": (
        [],
        "The items of each order as they were sent last. Three pieces of the same product are three items.",
    ),
    "silver.customer_order": (
        ["silver.order_item"],
        "What an order holds, equal items together, and who ordered it.",
    ),
    "silver.order_event": (
        ["silver.order_item"],
        "Everything dated that is known of an order, one row per event: the statuses it reached, the delivery estimated last and the shipping limits of its items. The same event sent twice is one row.",
    ),
    "gold.fact_order_lead_days": (
        ["silver.order_event"],
        "When each order reached each of its stages, when it should have, and the calendar days between. The time of day does not count, a positive delay is late, and days are null where one of their ends is not known.",
    ),
    "silver.order_latest_status": (
        [],
        "When each order last reached a status. A model between: the greatest of these times is how far the data tells the story, which decides whether an open order is late, and the view that asks need not read every status ever sent.",
    ),
    "silver.product": (
        [],
        "The products on sale as they were sent last.",
    ),
    "silver.product_metadata": (
        ["silver.order_item", "silver.product"],
        "Which seller sold which product, with the product's category.",
    ),
    "gold.fact_order_detail": (
        ["silver.customer_order", "silver.product_metadata"],
        "What was ordered, by whom, from whom, with the category of the product. Equal items of an order are one row.",
    ),
    "gold.delivered_order_product": (
        ["gold.fact_order_detail", "gold.fact_order_lead_days"],
        "What was sold: the priced rows of orders that reached their customer, in the month in which they did. An order that was delivered and later closed as canceled counts.",
    ),
    "gold.fact_monthly_sales_by_product": (
        ["gold.delivered_order_product"],
        "What each product sold in a month, and its portfolio group among the products of its category in that month: much sold is more than the median quantity, dear is at least the median of the mean prices (the lower one where two products are in the middle).",
    ),
    "silver.review_metadata": (
        [],
        "The reviews of orders as they were sent last. A review id may stand on several orders, so the pair is the key.",
    ),
    "gold.fact_review_answer_lead_days": (
        ["silver.review_metadata"],
        "How reviews score and how many calendar days their answer took.",
    ),
}

with DAG(
    dag_id="lockstep_olist",
    description="Full recompute of olist, compared and published by one manifest",
    doc_md=__doc__,
    tags=["lockstep", "embedded"],
    schedule=DeltaTriggerTimetable(timedelta(seconds=60)),
    start_date=datetime(2024, 1, 1, tzinfo=timezone.utc),
    catchup=False,
    max_active_runs=1,
    max_active_tasks=4,
    default_args={
        "retries": 2,
        "retry_delay": timedelta(seconds=30),
        "execution_timeout": timedelta(seconds=3600),
    },
) as dag:
    # What it prints last is the id of the run: the value that the other tasks pull.
    begin = BashOperator(task_id="begin", bash_command=f'id=$({BATCH} --begin) && echo "$id"', env=ENV, append_env=True)

    publish = BashOperator(
        task_id="publish",
        bash_command=f'{BATCH} --publish "$RUN"',
        env=ENV | RUN,
        append_env=True,
        do_xcom_push=False,
        # Other DAGs can be scheduled on these: they are new when the manifest is published.
        outlets=[Asset(name=f"olist.{model}", uri=f"lockstep://olist/{model}") for model in MODELS],
    )

    tasks: dict[str, BashOperator] = {}
    for model, (reads, description) in MODELS.items():
        tasks[model] = BashOperator(
            task_id=model,
            bash_command=f'{BATCH} --select {model} --run "$RUN"',
            env=ENV | RUN,
            append_env=True,
            do_xcom_push=False,
            doc_md=description,
        )
        ([tasks[r] for r in reads] or [begin]) >> tasks[model]

    read = {r for reads, _ in MODELS.values() for r in reads}
    ([tasks[m] for m in MODELS if m not in read] or [begin]) >> publish
