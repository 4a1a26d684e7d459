/*
description: Kinds with their labels.
materialized: view
unique_key: [kind]
columns:
  - {name: kind, type: string, description: "Kind."}
  - {name: label, type: string, description: "Its label; null where it has none."}
  - {name: share, type: double, description: "Part of all items."}
*/
SELECT b.kind, k.label, cast(b.items AS double) / nullif((SELECT cast(sum(items) AS bigint) FROM gold.by_kind), 0) AS share
FROM gold.by_kind b
LEFT JOIN seed.kinds k ON k.kind = b.kind
