/*
description: What was ordered, with the portfolio group that the product had in the last month in which it was sold.
materialized: view
unique_key: [order_id, product_id, seller_id, unit_price]
columns:
  - {name: order_id, type: string, description: "Order.", data_tests: [not_null]}
  - {name: product_id, type: string, description: "Product bought.", data_tests: [not_null]}
  - {name: seller_id, type: string, description: "Seller who ships it.", data_tests: [not_null]}
  - {name: customer_id, type: string, description: "Customer account of the order's latest payment; null while no payment is known."}
  - {name: category, type: string, description: "Category of the product in English; uncategorized where none is known.", data_tests: [not_null]}
  - {name: quantity, type: bigint, description: "Number of items.", data_tests: [not_null]}
  - {name: unit_price, type: "decimal(12,2)", description: "Price of one item in reais, without freight; null where it is not known."}
  - {name: portfolio_group, type: string, description: "Portfolio group of the product in its latest sales_period; null where it was never delivered.", data_tests: [{accepted_values: [Star Products, Volume Drivers, Niche Gems, Question Marks]}]}
*/
WITH month AS (
  SELECT s.product_id, s.portfolio_group,
    row_number() OVER (PARTITION BY s.product_id ORDER BY s.sales_period DESC, s.category DESC) AS rn
  FROM gold.fact_monthly_sales_by_product s
),
latest_month AS (
  SELECT m.product_id, m.portfolio_group
  FROM month m
  WHERE m.rn = 1
)
SELECT d.order_id, d.product_id, d.seller_id, d.customer_id, d.category, d.quantity, d.unit_price, l.portfolio_group
FROM gold.fact_order_detail d
LEFT JOIN latest_month l ON d.product_id = l.product_id
