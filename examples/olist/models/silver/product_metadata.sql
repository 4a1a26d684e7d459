/*
description: Which seller sold which product, with the product's category.
materialized: incremental
unique_key: [product_id, seller_id]
scope: [product_id]
columns:
  - {name: product_id, type: string, description: "Product that was ordered.", data_tests: [not_null]}
  - {name: seller_id, type: string, description: "Seller who sold it.", data_tests: [not_null]}
  - {name: category, type: string, description: "Category of the product in English; uncategorized where none is known.", data_tests: [not_null]}
*/
WITH sold AS (
  SELECT DISTINCT i.product_id, i.seller_id
  FROM silver.order_item i
  WHERE i.product_id IS NOT NULL AND i.seller_id IS NOT NULL
)
SELECT s.product_id, s.seller_id, coalesce(p.category, 'uncategorized') AS category
FROM sold s
LEFT JOIN silver.product p ON s.product_id = p.product_id
