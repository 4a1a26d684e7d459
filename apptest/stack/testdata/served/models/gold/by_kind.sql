/*
description: Sums of each kind; items without one are a kind too.
unique_key: [kind]
columns:
  - {name: kind, type: string, description: "Kind; null where items have none."}
  - {name: items, type: bigint, description: "How many.", data_tests: [not_null]}
  - {name: amount, type: "decimal(22,2)", description: "Sum of amounts."}
*/
SELECT kind, count(*) AS items, cast(sum(amount) AS decimal(22,2)) AS amount
FROM silver.item
GROUP BY kind
