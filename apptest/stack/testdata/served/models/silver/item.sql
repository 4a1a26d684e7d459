/*
description: Every item as it was told of last; deleted ones are gone.
unique_key: [id]
columns:
  - {name: id, type: string, description: "Item.", data_tests: [not_null]}
  - {name: kind, type: string, description: "Its kind; may be null."}
  - {name: note, type: string, description: "Any text."}
  - {name: amount, type: "decimal(12,2)", description: "Money."}
  - {name: big, type: "decimal(38,10)", description: "A long number."}
  - {name: small, type: int, description: "32 bits."}
  - {name: large, type: bigint, description: "64 bits."}
  - {name: ratio, type: double, description: "A real number."}
  - {name: fine, type: boolean, description: "True or not."}
  - {name: day, type: date, description: "A day."}
  - {name: changed_at, type: timestamp, description: "When, in microseconds."}
*/
WITH latest AS (
  SELECT id, kind, note, amount, big, small, large, ratio, fine, day, changed_at, _deleted,
    row_number() OVER (
      PARTITION BY id
      ORDER BY changed_at DESC NULLS LAST, kind DESC NULLS LAST, note DESC NULLS LAST, amount DESC NULLS LAST, big DESC NULLS LAST, small DESC NULLS LAST,
        large DESC NULLS LAST, ratio DESC NULLS LAST, fine DESC NULLS LAST, day DESC NULLS LAST, _offset DESC, _partition DESC
    ) AS rn
  FROM bronze.event
)
SELECT id, kind, note, amount, big, small, large, ratio, fine, day, changed_at
FROM latest
WHERE rn = 1 AND NOT _deleted
