/*
description: What was ordered, by whom, from whom, with the category of the product. Equal items of an order are one row.
materialized: incremental
unique_key: [order_id, product_id, seller_id, unit_price]
scope: [order_id]
columns:
  - {name: order_id, type: string, description: "Order.", data_tests: [not_null]}
  - {name: product_id, type: string, description: "Product bought.", data_tests: [not_null]}
  - {name: seller_id, type: string, description: "Seller who ships it.", data_tests: [not_null]}
  - {name: customer_id, type: string, description: "Customer account of the order's latest payment; null while no payment is known."}
  - {name: category, type: string, description: "Category of the product in English; uncategorized where none is known.", data_tests: [not_null]}
  - {name: quantity, type: bigint, description: "Number of items.", data_tests: [not_null]}
  - {name: unit_price, type: "decimal(12,2)", description: "Price of one item in reais, without freight; null where it is not known."}
*/
SELECT o.order_id, o.product_id, o.seller_id, o.customer_id, coalesce(m.category, 'uncategorized') AS category, o.quantity, o.unit_price
FROM silver.customer_order o
LEFT JOIN silver.product_metadata m ON o.product_id = m.product_id AND o.seller_id = m.seller_id
