/*
description: Where the customer and the sellers of an order are, those with coordinates.
materialized: view
unique_key: [order_id, user_type, user_id]
columns:
  - {name: order_id, type: string, description: "Order.", data_tests: [not_null]}
  - {name: user_type, type: string, description: "customer or seller.", data_tests: [not_null, {accepted_values: [customer, seller]}]}
  - {name: user_id, type: string, description: "The customer_id or seller_id.", data_tests: [not_null]}
  - {name: lat, type: double, description: "Latitude of the postal code area in degrees, north positive.", data_tests: [not_null]}
  - {name: lng, type: double, description: "Longitude of the postal code area in degrees, east positive.", data_tests: [not_null]}
*/
WITH party AS (
  SELECT DISTINCT c.order_id, 'customer' AS user_type, c.customer_id AS user_id
  FROM gold.fact_order_detail c
  UNION ALL
  SELECT DISTINCT s.order_id, 'seller' AS user_type, s.seller_id AS user_id
  FROM gold.fact_order_detail s
)
SELECT p.order_id, p.user_type, p.user_id, u.lat, u.lng
FROM party p
JOIN gold.dim_user_location u ON p.user_type = u.user_type AND p.user_id = u.user_id
