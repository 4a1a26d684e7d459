/*
description: >
  When each order last reached a status. A model between: the greatest of these
  times is how far the data tells the story, which decides whether an open
  order is late, and the view that asks need not read every status ever sent.
materialized: incremental
unique_key: [order_id]
columns:
  - {name: order_id, type: string, description: "Order.", data_tests: [not_null, unique]}
  - {name: latest_timestamp, type: timestamp, description: "Greatest time of the order's statuses, UTC; null where none has a time."}
*/
SELECT s.order_id, max(s.timestamp) AS latest_timestamp
FROM bronze.order_status s
WHERE s.order_id IS NOT NULL
GROUP BY s.order_id
