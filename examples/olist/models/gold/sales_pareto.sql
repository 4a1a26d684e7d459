/*
description: >
  How delivered sales spread over categories and over products: each with its
  rank, its share and the share of all up to it.
materialized: view
unique_key: [level, item]
columns:
  - {name: level, type: string, description: "What an item is: category or product.", data_tests: [not_null, {accepted_values: [category, product]}]}
  - {name: item, type: string, description: "The category or the product_id.", data_tests: [not_null]}
  - {name: amount, type: "decimal(18,2)", description: "Delivered sales in reais, without freight.", data_tests: [not_null]}
  - {name: sales_rank, type: bigint, description: "Place within the level, 1 sold most; ties by item.", data_tests: [not_null]}
  - {name: share, type: double, description: "Part of the level's sales, 0 to 1; null where nothing has a price above zero."}
  - {name: cumulative_share, type: double, description: "Part of the level's sales that this item and those before it make, 0 to 1."}
*/
WITH sales AS (
  SELECT 'category' AS level, c.category AS item, cast(sum(c.amount) AS decimal(18,2)) AS amount
  FROM gold.delivered_order_product c
  GROUP BY c.category
  UNION ALL
  SELECT 'product' AS level, p.product_id AS item, cast(sum(p.amount) AS decimal(18,2)) AS amount
  FROM gold.delivered_order_product p
  GROUP BY p.product_id
),
ranked AS (
  SELECT s.level, s.item, s.amount,
    row_number() OVER (PARTITION BY s.level ORDER BY s.amount DESC, s.item ASC) AS sales_rank,
    cast(sum(s.amount) OVER (PARTITION BY s.level ORDER BY s.amount DESC, s.item ASC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) AS decimal(18,2)) AS cumulative_amount,
    cast(sum(s.amount) OVER (PARTITION BY s.level) AS decimal(18,2)) AS total_amount
  FROM sales s
)
SELECT r.level, r.item, r.amount, r.sales_rank,
  cast(r.amount AS double) / nullif(cast(r.total_amount AS double), 0) AS share,
  cast(r.cumulative_amount AS double) / nullif(cast(r.total_amount AS double), 0) AS cumulative_share
FROM ranked r
