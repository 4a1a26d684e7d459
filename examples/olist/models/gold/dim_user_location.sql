/*
description: Where customers and sellers are, by their postal code. Users whose area has no coordinates in Brazil are left out.
materialized: incremental
unique_key: [user_type, user_id]
columns:
  - {name: user_type, type: string, description: "customer or seller.", data_tests: [not_null, {accepted_values: [customer, seller]}]}
  - {name: user_id, type: string, description: "The customer_id or seller_id.", data_tests: [not_null]}
  - {name: zip_code, type: string, description: "First five digits of the user's postal code, as text with leading zeros.", data_tests: [not_null, {relationships: {to: silver.geo_coord, field: zip_code}}]}
  - {name: lat, type: double, description: "Latitude of the postal code area in degrees, north positive.", data_tests: [not_null]}
  - {name: lng, type: double, description: "Longitude of the postal code area in degrees, east positive.", data_tests: [not_null]}
*/
SELECT u.user_type, u.user_id, u.zip_code, g.lat, g.lng
FROM silver.olist_user u
JOIN silver.geo_coord g ON u.zip_code = g.zip_code
