-- An order that ends as canceled or unavailable closes with that status, at
-- the latest of its known times, ingested after the event that it follows.
WITH latest AS (
  SELECT order_id, source_line, max(timestamp) AS timestamp, arg_max(ingest_time, (timestamp, stage)) AS ingest_time
  FROM order_time
  GROUP BY order_id, source_line
)
SELECT order_id, status, timestamp, ingest_time, source_line FROM order_time
UNION ALL
SELECT o.order_id, o.order_status, t.timestamp, t.ingest_time + delay(o.order_status, o.order_id), o.source_line
FROM raw.orders o JOIN latest t ON t.order_id = o.order_id AND t.source_line = o.source_line
WHERE o.order_status IN ('canceled', 'unavailable')
