/*
description: The products on sale as they were sent last.
materialized: incremental
unique_key: [product_id]
columns:
  - {name: product_id, type: string, description: "Product.", data_tests: [not_null, unique]}
  - {name: category, type: string, description: "Category in English; uncategorized where the shop knows none.", data_tests: [not_null]}
  - {name: weight_g, type: double, description: "Weight in grams."}
  - {name: length_cm, type: double, description: "Length in centimetres."}
  - {name: height_cm, type: double, description: "Height in centimetres."}
  - {name: width_cm, type: double, description: "Width in centimetres."}
*/
WITH latest AS (
  SELECT product_id, category, weight_g, length_cm, height_cm, width_cm, _deleted,
    row_number() OVER (
      PARTITION BY product_id
      ORDER BY ingest_time DESC NULLS LAST, category DESC NULLS LAST, weight_g DESC NULLS LAST, length_cm DESC NULLS LAST,
        height_cm DESC NULLS LAST, width_cm DESC NULLS LAST, _offset DESC, _partition DESC
    ) AS rn
  FROM bronze.product
)
SELECT product_id, coalesce(category, 'uncategorized') AS category, weight_g, length_cm, height_cm, width_cm
FROM latest
WHERE rn = 1 AND NOT _deleted AND product_id IS NOT NULL
