/*
description: >
  What was sold: the priced rows of orders that reached their customer, in the
  month in which they did. An order that was delivered and later closed as
  canceled counts.
materialized: incremental
unique_key: [order_id, product_id, seller_id, unit_price]
scope: [order_id]
columns:
  - {name: order_id, type: string, description: "Order.", data_tests: [not_null, {relationships: {to: gold.fact_order_lead_days, field: order_id}}]}
  - {name: product_id, type: string, description: "Product sold.", data_tests: [not_null]}
  - {name: seller_id, type: string, description: "Seller who shipped it.", data_tests: [not_null]}
  - {name: category, type: string, description: "Category of the product in English; uncategorized where none is known.", data_tests: [not_null]}
  - {name: sales_period, type: string, description: "Month of the delivery to the customer, yyyy-MM.", data_tests: [not_null]}
  - {name: quantity, type: bigint, description: "Number of items.", data_tests: [not_null]}
  - {name: unit_price, type: "decimal(12,2)", description: "Price of one item in reais, without freight.", data_tests: [not_null]}
  - {name: amount, type: "decimal(18,2)", description: "quantity * unit_price, in reais.", data_tests: [not_null]}
*/
SELECT d.order_id, d.product_id, d.seller_id, d.category,
  substring(cast(l.delivered_customer AS string), 1, 7) AS sales_period,
  d.quantity, d.unit_price, cast(d.quantity * d.unit_price AS decimal(18,2)) AS amount
FROM gold.fact_order_detail d
JOIN gold.fact_order_lead_days l ON d.order_id = l.order_id
WHERE d.unit_price IS NOT NULL AND l.delivered_customer IS NOT NULL
