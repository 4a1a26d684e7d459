/*
description: >
  The items of each order as they were sent last. Three pieces of the same
  product are three items.
materialized: incremental
unique_key: [order_id, order_item_id]
scope: [order_id]
columns:
  - {name: order_id, type: string, description: "Order.", data_tests: [not_null]}
  - {name: order_item_id, type: int, description: "Number of the item within its order, from 1.", data_tests: [not_null]}
  - {name: product_id, type: string, description: "Product bought."}
  - {name: seller_id, type: string, description: "Seller who ships it."}
  - {name: shipping_limit_date, type: timestamp, description: "Until when the seller must hand the item to the carrier, UTC."}
  - {name: price, type: "decimal(12,2)", description: "Price of the item in reais, without freight."}
  - {name: freight_value, type: "decimal(12,2)", description: "Freight of the item in reais."}
*/
WITH latest AS (
  SELECT order_id, order_item_id, product_id, seller_id, shipping_limit_date, price, freight_value, _deleted,
    row_number() OVER (
      PARTITION BY order_id, order_item_id
      ORDER BY ingest_time DESC NULLS LAST, product_id DESC NULLS LAST, seller_id DESC NULLS LAST,
        shipping_limit_date DESC NULLS LAST, price DESC NULLS LAST, freight_value DESC NULLS LAST, _offset DESC, _partition DESC
    ) AS rn
  FROM bronze.order_item
)
SELECT order_id, order_item_id, product_id, seller_id, shipping_limit_date, price, freight_value
FROM latest
WHERE rn = 1 AND NOT _deleted AND order_id IS NOT NULL AND order_item_id IS NOT NULL
