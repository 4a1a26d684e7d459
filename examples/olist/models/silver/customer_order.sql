/*
description: What an order holds, equal items together, and who ordered it.
materialized: incremental
unique_key: [order_id, product_id, seller_id, unit_price]
scope: [order_id]
columns:
  - {name: order_id, type: string, description: "Order.", data_tests: [not_null]}
  - {name: product_id, type: string, description: "Product bought.", data_tests: [not_null]}
  - {name: seller_id, type: string, description: "Seller who ships it.", data_tests: [not_null]}
  - {name: unit_price, type: "decimal(12,2)", description: "Price of one item in reais, without freight; null where it is not known."}
  - {name: quantity, type: bigint, description: "Number of items.", data_tests: [not_null]}
  - {name: customer_id, type: string, description: "Customer account of the order's latest payment; null while no payment is known."}
*/
WITH latest_payment AS (
  SELECT order_id, customer_id, _deleted,
    row_number() OVER (
      PARTITION BY order_id
      ORDER BY ingest_time DESC NULLS LAST, customer_id DESC NULLS LAST, payment_type DESC NULLS LAST,
        payment_sequential DESC NULLS LAST, payment_installments DESC NULLS LAST, payment_value DESC NULLS LAST,
        timestamp DESC NULLS LAST, _offset DESC, _partition DESC
    ) AS rn
  FROM bronze.payment
),
payer AS (
  SELECT order_id, customer_id
  FROM latest_payment
  WHERE rn = 1 AND NOT _deleted
),
line AS (
  SELECT i.order_id, i.product_id, i.seller_id, i.price AS unit_price, count(*) AS quantity
  FROM silver.order_item i
  WHERE i.product_id IS NOT NULL AND i.seller_id IS NOT NULL
  GROUP BY i.order_id, i.product_id, i.seller_id, i.price
)
SELECT l.order_id, l.product_id, l.seller_id, l.unit_price, l.quantity, p.customer_id
FROM line l
LEFT JOIN payer p ON l.order_id = p.order_id
