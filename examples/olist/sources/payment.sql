-- The highest sequential of an order is paid at the purchase, each lower one
-- 20 to 40 seconds before the next.
WITH part AS (
  SELECT p.*, o.customer_id, o.order_purchase_timestamp,
    CASE WHEN row_number() OVER last_first = 1 THEN 0
      ELSE 20 + chance('earlier', concat_ws('/', p.order_id, p.payment_sequential), 21)
    END AS gap
  FROM raw.order_payments p LEFT JOIN raw.orders o ON o.order_id = p.order_id
  WINDOW last_first AS (PARTITION BY p.order_id ORDER BY p.payment_sequential DESC NULLS LAST, p.source_line)
),
paid AS (
  SELECT *, order_purchase_timestamp - to_seconds(CAST(sum(gap)
    OVER (PARTITION BY order_id ORDER BY payment_sequential DESC NULLS LAST, source_line) AS BIGINT)) AS timestamp
  FROM part
)
SELECT order_id, customer_id, payment_type, payment_sequential, payment_installments, payment_value, timestamp,
  timestamp + delay('payment', concat_ws('/', order_id, payment_sequential)) AS ingest_time, source_line
FROM paid
