/*
description: >
  What each product sold in a quarter, and its portfolio group among the
  products of its category in that quarter by the number of orders and the mean
  price: in many orders is more than the median, dear is at least the median
  (the lower one where two products are in the middle).
materialized: view
unique_key: [product_id, category, quarter]
columns:
  - {name: product_id, type: string, description: "Product sold.", data_tests: [not_null]}
  - {name: category, type: string, description: "Category of the product in English; uncategorized where none is known.", data_tests: [not_null]}
  - {name: quarter, type: string, description: "Quarter of the delivery to the customer, like 2017-Q3.", data_tests: [not_null]}
  - {name: order_count, type: bigint, description: "Orders that hold the product.", data_tests: [not_null]}
  - {name: total_sales_quantity, type: bigint, description: "Items sold in the quarter.", data_tests: [not_null]}
  - {name: total_sales_amount, type: "decimal(18,2)", description: "Sales of the quarter in reais, without freight.", data_tests: [not_null]}
  - {name: mean_sale, type: double, description: "Mean price of an item in reais: total_sales_amount / total_sales_quantity.", data_tests: [not_null]}
  - {name: portfolio_group, type: string, description: "Star Products: in many orders and dear. Volume Drivers: in many orders, not dear. Niche Gems: dear, not in many orders. Question Marks: neither.", data_tests: [not_null, {accepted_values: [Star Products, Volume Drivers, Niche Gems, Question Marks]}]}
*/
WITH delivered AS (
  SELECT d.order_id, d.product_id, d.category, d.quantity, d.amount,
    substring(d.sales_period, 1, 4) || '-Q' || cast(quarter(cast(d.sales_period || '-01' AS date)) AS string) AS quarter
  FROM gold.delivered_order_product d
),
held AS (
  SELECT d.order_id, d.product_id, d.category, d.quarter,
    cast(sum(d.quantity) AS bigint) AS quantity,
    cast(sum(d.amount) AS decimal(18,2)) AS amount
  FROM delivered d
  GROUP BY d.order_id, d.product_id, d.category, d.quarter
),
total AS (
  SELECT h.product_id, h.category, h.quarter,
    count(*) AS order_count,
    cast(sum(h.quantity) AS bigint) AS total_sales_quantity,
    cast(sum(h.amount) AS decimal(18,2)) AS total_sales_amount
  FROM held h
  GROUP BY h.product_id, h.category, h.quarter
),
sales AS (
  SELECT t.product_id, t.category, t.quarter, t.order_count, t.total_sales_quantity, t.total_sales_amount,
    cast(t.total_sales_amount AS double) / nullif(t.total_sales_quantity, 0) AS mean_sale
  FROM total t
),
median AS (
  SELECT s.category, s.quarter,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY s.order_count) AS order_count,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY s.mean_sale) AS mean_sale
  FROM sales s
  GROUP BY s.category, s.quarter
)
SELECT s.product_id, s.category, s.quarter, s.order_count, s.total_sales_quantity, s.total_sales_amount, s.mean_sale,
  CASE
    WHEN s.order_count > m.order_count AND s.mean_sale >= m.mean_sale THEN 'Star Products'
    WHEN s.order_count > m.order_count THEN 'Volume Drivers'
    WHEN s.mean_sale >= m.mean_sale THEN 'Niche Gems'
    ELSE 'Question Marks'
  END AS portfolio_group
FROM sales s
JOIN median m ON s.category = m.category AND s.quarter = m.quarter
