/*
description: >
  How customers scored the products of their orders, with the portfolio group
  that the product had in the month of the review. Reviews of products without
  a sale in that month are left out.
materialized: view
unique_key: [order_id, product_id, review_id]
columns:
  - {name: order_id, type: string, description: "Order.", data_tests: [not_null]}
  - {name: product_id, type: string, description: "Product in the order.", data_tests: [not_null]}
  - {name: review_id, type: string, description: "Review of the order.", data_tests: [not_null]}
  - {name: category, type: string, description: "Category of the product in English.", data_tests: [not_null]}
  - {name: portfolio_group, type: string, description: "Portfolio group of the product in that month.", data_tests: [not_null, {accepted_values: [Star Products, Volume Drivers, Niche Gems, Question Marks]}]}
  - {name: sales_period, type: string, description: "Month in which the review was asked for, yyyy-MM.", data_tests: [not_null]}
  - {name: review_score, type: int, description: "Score from 1, bad, to 5, good."}
*/
WITH bought AS (
  SELECT DISTINCT d.order_id, d.product_id
  FROM gold.fact_order_detail d
),
reviewed AS (
  SELECT r.order_id, b.product_id, r.review_id, r.review_score,
    substring(cast(r.review_creation_date AS string), 1, 7) AS sales_period
  FROM gold.fact_review_answer_lead_days r
  JOIN bought b ON r.order_id = b.order_id
)
SELECT v.order_id, v.product_id, v.review_id, s.category, s.portfolio_group, s.sales_period, v.review_score
FROM reviewed v
JOIN gold.fact_monthly_sales_by_product s ON v.product_id = s.product_id AND v.sales_period = s.sales_period
