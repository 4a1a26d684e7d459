/*
description: Customers and sellers as they were sent last, with their postal code.
materialized: incremental
unique_key: [user_type, user_id]
columns:
  - {name: user_type, type: string, description: "customer or seller.", data_tests: [not_null, {accepted_values: [customer, seller]}]}
  - {name: user_id, type: string, description: "The customer_id or seller_id.", data_tests: [not_null]}
  - {name: zip_code, type: string, description: "First five digits of the user's postal code, as text with leading zeros."}
*/
WITH latest_customer AS (
  SELECT customer_id, zip_code, _deleted,
    row_number() OVER (
      PARTITION BY customer_id
      ORDER BY ingest_time DESC NULLS LAST, zip_code DESC NULLS LAST, _offset DESC, _partition DESC
    ) AS rn
  FROM bronze.customer
),
latest_seller AS (
  SELECT seller_id, zip_code, _deleted,
    row_number() OVER (
      PARTITION BY seller_id
      ORDER BY ingest_time DESC NULLS LAST, zip_code DESC NULLS LAST, _offset DESC, _partition DESC
    ) AS rn
  FROM bronze.seller
)
SELECT 'customer' AS user_type, customer_id AS user_id, zip_code
FROM latest_customer
WHERE rn = 1 AND NOT _deleted AND customer_id IS NOT NULL
UNION ALL
SELECT 'seller' AS user_type, seller_id AS user_id, zip_code
FROM latest_seller
WHERE rn = 1 AND NOT _deleted AND seller_id IS NOT NULL
