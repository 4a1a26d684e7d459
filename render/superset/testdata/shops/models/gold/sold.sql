/*
description: Sales.
materialized: view
unique_key: [id]
columns:
  - {name: id, type: string, description: Sale.}
  - {name: shop, type: string, description: Where.}
  - {name: thing, type: string, description: What.}
  - {name: pieces, type: bigint, description: How many.}
  - {name: month, type: string, description: When.}
  - {name: lat, type: double, description: Latitude.}
  - {name: lng, type: double, description: Longitude.}
  - {name: sold_at, type: timestamp, description: To the second.}
*/
SELECT s.id, s.shop, s.thing, s.pieces, s.month, s.lat, s.lng, s.sold_at FROM bronze.sale s
