/*
description: Things in stock.
materialized: view
unique_key: [thing]
columns:
  - {name: thing, type: string, description: What.}
  - {name: n, type: bigint, description: How many.}
*/
SELECT s.thing, count(*) AS n FROM bronze.sale s GROUP BY s.thing
