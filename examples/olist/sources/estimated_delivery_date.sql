SELECT o.order_id, o.order_estimated_delivery_date AS estimated_delivery_date, l.ingest_time, o.source_line
FROM chain l JOIN raw.orders o ON o.order_id = l.order_id AND o.source_line = l.line
WHERE l.link = 7
