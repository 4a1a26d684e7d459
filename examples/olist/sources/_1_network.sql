-- What the topics share: how long a record travels, and how a postal code is
-- written. Every delay is the md5 of a fixed text and the record, so that a
-- replay is the same every time.

-- A number from 0 below n.
CREATE MACRO chance(what, record, n) AS
  CAST(CAST(md5_number(what || '/' || record) & CAST(4294967295 AS UHUGEINT) AS UBIGINT) % n AS INTEGER);

-- [50, 100) milliseconds.
CREATE MACRO delay_ms(what, record) AS 50 + chance(what, record, 50);
CREATE MACRO delay(what, record) AS to_milliseconds(delay_ms(what, record));

-- Five digits as text.
CREATE MACRO zip(code) AS lpad(code, CAST(greatest(length(code), 5) AS INTEGER), '0');

-- The four times of an order, each as an event that is ingested after a delay.
CREATE TABLE order_time AS
SELECT order_id, status, stage, timestamp, timestamp + delay(status, order_id) AS ingest_time, source_line
FROM (
  SELECT order_id, 'purchase' AS status, 1 AS stage, order_purchase_timestamp AS timestamp, source_line FROM raw.orders
  UNION ALL SELECT order_id, 'approved', 2, order_approved_at, source_line FROM raw.orders
  UNION ALL SELECT order_id, 'delivered_carrier', 3, order_delivered_carrier_date, source_line FROM raw.orders
  UNION ALL SELECT order_id, 'delivered_customer', 4, order_delivered_customer_date, source_line FROM raw.orders
)
WHERE timestamp IS NOT NULL;
