/*
description: >
  What each product sold in a month, and its portfolio group among the products
  of its category in that month: much sold is more than the median quantity,
  dear is at least the median of the mean prices (the lower one where two
  products are in the middle).
materialized: incremental
unique_key: [product_id, category, sales_period]
scope: [category, sales_period]
partition_by: [sales_period]
columns:
  - {name: product_id, type: string, description: "Product sold.", data_tests: [not_null]}
  - {name: category, type: string, description: "Category of the product in English; uncategorized where none is known.", data_tests: [not_null]}
  - {name: sales_period, type: string, description: "Month of the delivery to the customer, yyyy-MM.", data_tests: [not_null]}
  - {name: total_sales_quantity, type: bigint, description: "Items sold in the month.", data_tests: [not_null]}
  - {name: total_sales_amount, type: "decimal(18,2)", description: "Sales of the month in reais, without freight.", data_tests: [not_null]}
  - {name: mean_sales, type: double, description: "Mean price of an item in reais: total_sales_amount / total_sales_quantity.", data_tests: [not_null]}
  - {name: portfolio_group, type: string, description: "Star Products: much sold and dear. Volume Drivers: much sold, not dear. Niche Gems: dear, not much sold. Question Marks: neither.", data_tests: [not_null, {accepted_values: [Star Products, Volume Drivers, Niche Gems, Question Marks]}]}
*/
WITH total AS (
  SELECT d.product_id, d.category, d.sales_period,
    cast(sum(d.quantity) AS bigint) AS total_sales_quantity,
    cast(sum(d.amount) AS decimal(18,2)) AS total_sales_amount
  FROM gold.delivered_order_product d
  GROUP BY d.product_id, d.category, d.sales_period
),
sales AS (
  SELECT t.product_id, t.category, t.sales_period, t.total_sales_quantity, t.total_sales_amount,
    cast(t.total_sales_amount AS double) / nullif(t.total_sales_quantity, 0) AS mean_sales
  FROM total t
),
median AS (
  SELECT s.category, s.sales_period,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY s.total_sales_quantity) AS sales_quantity,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY s.mean_sales) AS mean_sales
  FROM sales s
  GROUP BY s.category, s.sales_period
)
SELECT s.product_id, s.category, s.sales_period, s.total_sales_quantity, s.total_sales_amount, s.mean_sales,
  CASE
    WHEN s.total_sales_quantity > m.sales_quantity AND s.mean_sales >= m.mean_sales THEN 'Star Products'
    WHEN s.total_sales_quantity > m.sales_quantity THEN 'Volume Drivers'
    WHEN s.mean_sales >= m.mean_sales THEN 'Niche Gems'
    ELSE 'Question Marks'
  END AS portfolio_group
FROM sales s
JOIN median m ON s.category = m.category AND s.sales_period = m.sales_period
