-- On a purchase the linked records follow in a chain, each [50, 100) ms after
-- the one before: items, products, sellers, sellers' places, the customer
-- (known through the payment), its place, the estimate. Dimension records are
-- sent again for every order that refers to them.

CREATE TABLE item AS
SELECT order_id, order_item_id, product_id, seller_id, shipping_limit_date, price, freight_value, min(source_line) AS source_line
FROM raw.order_items
GROUP BY ALL;

CREATE TABLE customer AS
SELECT customer_id, zip(customer_zip_code_prefix) AS zip_code, min(source_line) AS source_line
FROM raw.customers
GROUP BY ALL;

CREATE TABLE seller AS
SELECT seller_id, zip(seller_zip_code_prefix) AS zip_code, min(source_line) AS source_line
FROM raw.sellers
GROUP BY ALL;

CREATE TABLE buyer AS
SELECT o.order_id, o.customer_id, c.zip_code
FROM raw.orders o JOIN customer c ON c.customer_id = o.customer_id
WHERE o.order_id IN (SELECT order_id FROM raw.order_payments);

-- link: 1 item, 2 product, 3 seller, 4 seller's place, 5 customer,
-- 6 customer's place, 7 estimate. id names the record; line tells apart items
-- that share a number. One statement for each link keeps their memory apart.
CREATE TABLE link AS
SELECT order_id, 1 AS link, lpad(CAST(order_item_id AS VARCHAR), 10, '0') AS id, source_line AS line FROM item;
INSERT INTO link SELECT DISTINCT order_id, 2, product_id, 0 FROM item WHERE product_id IS NOT NULL;
INSERT INTO link SELECT DISTINCT order_id, 3, seller_id, 0 FROM item WHERE seller_id IS NOT NULL;
INSERT INTO link SELECT DISTINCT i.order_id, 4, s.zip_code, 0
FROM item i JOIN seller s ON s.seller_id = i.seller_id JOIN place p ON p.zip_code = s.zip_code;
INSERT INTO link SELECT DISTINCT order_id, 5, customer_id, 0 FROM buyer;
INSERT INTO link SELECT DISTINCT b.order_id, 6, b.zip_code, 0 FROM buyer b JOIN place p ON p.zip_code = b.zip_code;
INSERT INTO link SELECT order_id, 7, '', source_line FROM raw.orders;
DROP TABLE buyer;

-- Milliseconds from the purchase to each record.
CREATE TABLE offset_ms AS
SELECT order_id, link, id, line,
  CAST(sum(delay_ms('chain', concat_ws('/', order_id, link, id, line)))
    OVER (PARTITION BY order_id ORDER BY link, id, line) AS INTEGER) AS ms
FROM link;
DROP TABLE link;

CREATE TABLE chain AS
WITH purchase AS (
  SELECT order_id, min(ingest_time) AS ingest_time FROM order_time WHERE status = 'purchase' GROUP BY order_id
)
SELECT l.order_id, l.link, l.id, l.line, p.ingest_time + to_milliseconds(l.ms) AS ingest_time
FROM offset_ms l LEFT JOIN purchase p ON p.order_id = l.order_id;
DROP TABLE offset_ms;
