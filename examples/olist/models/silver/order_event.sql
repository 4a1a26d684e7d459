/*
description: >
  Everything dated that is known of an order, one row per event: the statuses
  it reached, the delivery estimated last and the shipping limits of its items.
  The same event sent twice is one row.
materialized: incremental
unique_key: [order_id, data_type, timestamp]
scope: [order_id]
columns:
  - {name: order_id, type: string, description: "Order.", data_tests: [not_null]}
  - {name: data_type, type: string, description: "What happened or is due: purchase, approve, delivered_carrier, delivered_customer, canceled, unavailable, estimated_delivery or shipping_limit.", data_tests: [not_null]}
  - {name: timestamp, type: timestamp, description: "When it happened or is due, UTC.", data_tests: [not_null]}
*/
WITH latest_estimate AS (
  SELECT order_id, estimated_delivery_date, _deleted,
    row_number() OVER (
      PARTITION BY order_id
      ORDER BY ingest_time DESC NULLS LAST, estimated_delivery_date DESC NULLS LAST, _offset DESC, _partition DESC
    ) AS rn
  FROM bronze.estimated_delivery_date
)
SELECT s.order_id, CASE WHEN s.status = 'approved' THEN 'approve' ELSE s.status END AS data_type, s.timestamp AS timestamp
FROM bronze.order_status s
WHERE s.order_id IS NOT NULL AND s.status IS NOT NULL AND s.timestamp IS NOT NULL
UNION
SELECT e.order_id, 'estimated_delivery' AS data_type, e.estimated_delivery_date AS timestamp
FROM latest_estimate e
WHERE e.rn = 1 AND NOT e._deleted AND e.order_id IS NOT NULL AND e.estimated_delivery_date IS NOT NULL
UNION
SELECT i.order_id, 'shipping_limit' AS data_type, i.shipping_limit_date AS timestamp
FROM silver.order_item i
WHERE i.shipping_limit_date IS NOT NULL
